"""Whole numbers with neighbours drawn together, as in 2-4, 7: one way for all that is written and read again."""

from collections.abc import Iterable


def runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of every run of neighbours, ascending.

    Example:
        >>> runs([7, 2, 3, 4])
        [(2, 4), (7, 7)]
    """
    ends = list[tuple[int, int]]()
    for number in sorted(set(numbers)):
        if ends and number == ends[-1][1] + 1:
            ends[-1] = ends[-1][0], number
        else:
            ends.append((number, number))
    return ends


def ranges(numbers: Iterable[int], between: str = ", ") -> str:
    """Write whole numbers with neighbours drawn together.

    Example:
        >>> ranges([2, 3, 4, 7])
        '2-4, 7'
    """
    return between.join(f"{first}-{last}" if last > first else str(first) for first, last in runs(numbers))

"""Blocks or states as a person writes them: ``0,5-7``."""

import re
from collections.abc import Sequence

from thalweg.errors import UsageError
from thalweg.ranges import ranges

PIECE = re.compile(r"(\d+)(?:-(\d+))?")


def index_list(option: str, given: str | Sequence[int], last: int) -> tuple[int, ...]:
    """Read a list of blocks or states.

    Args:
        option: its name, for what is said of a mistake; ``--blocks`` counts blocks.
        given: numbers and ranges such as ``0,5-7``, or the numbers themselves.
        last: the highest that the model has.

    Returns:
        Every number once, ascending.

    Raises:
        UsageError: nothing, a number that the model does not have, a range that runs backwards, or something else.

    Example:
        >>> index_list("--blocks", "0,5-7", last=7)
        (0, 5, 6, 7)
    """
    what = option.removeprefix("--")
    pairs = _pairs(option, given) if isinstance(given, str) else [(one, one) for one in given]
    if not pairs:
        raise UsageError(f"{option} names nothing; expected numbers and ranges such as 0,5-7.")
    for first, end in pairs:
        if isinstance(first, bool) or not isinstance(first, int):
            raise UsageError(f"{option} takes whole numbers; got {first!r}.")
        if first > end:
            raise UsageError(f"{option} {first}-{end} runs backwards; write {end}-{first}.")
        if first < 0 or end > last:
            wrong = first if not 0 <= first <= last else end
            raise UsageError(f"{option} {wrong} is out of range; this model has {what} 0 to {last}.")
    return tuple(sorted({number for first, end in pairs for number in range(first, end + 1)}))


def index_text(numbers: Sequence[int]) -> str:
    """Write ascending numbers as `index_list` reads them.

    Example:
        >>> index_text((0, 5, 6, 7))
        '0,5-7'
    """
    return ranges(numbers, ",")


def _pairs(option: str, text: str) -> list[tuple[int, int]]:
    pairs = list[tuple[int, int]]()
    for piece in text.split(",") if text.strip() else []:
        found = PIECE.fullmatch(piece.strip())
        if found is None or not piece.isascii():
            raise UsageError(f"{option} takes numbers and ranges such as 0,5-7; got {piece.strip()!r} in {text!r}.")
        first, end = found.groups()
        pairs.append((int(first), int(end or first)))
    return pairs

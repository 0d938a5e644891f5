"""The largest magnitudes to try, as a person writes them: ``1,10,100`` or ``1:1000:13``."""

import math
from collections.abc import Sequence

from thalweg.errors import UsageError

MOST = 1000


def gamma_list(given: str | Sequence[float]) -> tuple[float, ...]:
    """Read the values of gamma.

    Args:
        given: numbers and log grids ``first:last:count``, separated by commas, or the numbers themselves.

    Returns:
        Every finite value once, ascending; infinity, which is the model as it is, is measured anyway.

    Raises:
        UsageError: no value, one that is not above 0, or something else.

    Example:
        >>> gamma_list("1:100:3,7")
        (1.0, 7.0, 10.0, 100.0)
    """
    values = (
        [value for piece in given.split(",") for value in _values(piece)] if isinstance(given, str) else list(given)
    )
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f"--gamma takes numbers; got {value!r}.")
        if not value > 0:
            raise UsageError(f"--gamma is the largest magnitude left, above 0; got {value:g}.")
    finite = tuple(sorted({float(value) for value in values if value < math.inf}))
    if not finite:
        raise UsageError("--gamma names no finite value; expected numbers such as 1,10,100 or a log grid 1:1000:13.")
    if len(finite) > MOST:
        raise UsageError(f"--gamma takes at most {MOST} values; got {len(finite)}.")
    return finite


def log_grid(first: float, last: float, count: int) -> tuple[float, ...]:
    """Values at equal distances on a log axis, both ends included.

    Example:
        >>> log_grid(1.0, 100.0, 3)
        (1.0, 10.0, 100.0)
    """
    steps = range(1, count - 1)
    between = [first * (last / first) ** (step / (count - 1)) for step in steps]
    return (first, *(float(f"{value:.6g}") for value in between), last)


def _values(piece: str) -> Sequence[float]:
    numbers = piece.strip().split(":")
    try:
        values = [float(number) for number in numbers[:2]]
        count = int(numbers[2]) if len(numbers) == 3 else 1
    except ValueError:
        values, count = [], 0
    if len(values) == len(numbers) == 1:
        return values
    first, last = values if len(values) == 2 and len(numbers) == 3 else (math.nan, math.nan)
    if not (0 < first < last < math.inf and 2 <= count <= MOST):
        if any(value <= 0 for value in values):
            raise UsageError(f"--gamma is the largest magnitude left, above 0; got {piece.strip()!r}.")
        raise UsageError(
            f"--gamma takes numbers such as 1,10,100 and log grids first:last:count such as 1:1000:13; "
            f"got {piece.strip()!r}."
        )
    return log_grid(first, last, count)

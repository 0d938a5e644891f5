"""Numbers and lists as people read them."""

import math
from collections.abc import Sequence
from itertools import pairwise

GAP = "\N{EN DASH}"


def amount(value: float | int | None) -> str:
    """Write a number: thousands set apart, three significant digits below a hundred, a dash for none."""
    if value is None or math.isnan(value):
        return GAP
    if math.isinf(value):
        return "infinite" if value > 0 else "minus infinite"
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        return f"{value:.1e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def percent(share: float | None) -> str:
    """Write a share in percent; what is not quite nothing or all does not read as if it were."""
    if share is None or math.isnan(share):
        return GAP
    if 0 < share < 0.01:
        return "under 1 %"
    if 0.99 < share < 1:
        return "over 99 %"
    return f"{100 * share:.0f} %"


def counted(number: int, thing: str) -> str:
    """Write how many of a thing: ``1 head``, ``2 heads``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def listing(items: Sequence[object]) -> str:
    """Write a list as in a sentence: ``a, b and c``."""
    words = [str(item) for item in items]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "none"


def spans(numbers: Sequence[int]) -> str:
    """Write whole numbers with runs drawn together: ``2 to 7, 9 and 11``."""
    ordered = sorted(set(numbers))
    breaks = [at for at, (low, high) in enumerate(pairwise(ordered), start=1) if high > low + 1]
    runs = [ordered[start:stop] for start, stop in zip([0, *breaks], [*breaks, len(ordered)], strict=True)]
    return listing([word for run in runs for word in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else run)])

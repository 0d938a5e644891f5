"""What is written beside numbers: every number that stands in a sentence, and the titles and units of axes."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from thalweg.catalogue import METRICS
from thalweg.ranges import runs

GAP = "\N{EN DASH}"
ARROW = "->"


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


def cell(value: Any) -> str:
    """Write what stands in a table on a page or in a notebook."""
    if value is None or isinstance(value, float):
        return amount(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def number(value: float | None) -> str:
    """Write a number to three digits after the point, a large or small one to three in all."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.3f}" if 1e-3 <= abs(value) < 100 or value == 0 else f"{value:.3g}"


def change(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """Write a change with its interval: ``+0.140 [+0.120, +0.160]``."""
    if math.isnan(value):
        return "-"
    shown, *ends = (f"{round(each, 3) + 0.0:+.3f}" for each in (value, low, high))  # no minus before zero
    return shown if math.isnan(low) else f"{shown} [{', '.join(ends)}]"


def interval(low: float | None, high: float | None) -> str:
    """Write an interval, ``[0.120, 0.160]``; nothing where an end is unknown."""
    known = low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
    return f"[{low:.3f}, {high:.3f}]" if known else ""


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


def spans(numbers: Iterable[int]) -> str:
    """Write the same as in a sentence, two neighbours apart.

    Example:
        >>> spans([2, 3, 4, 9, 10])
        '2 to 4, 9 and 10'
    """
    words = [[f"{first} to {last}"] if last > first + 1 else [*range(first, last + 1)] for first, last in runs(numbers)]
    return listing([word for run in words for word in run])


def span_of(first: int, last: int, what: str = "state") -> str:
    """Write which states: ``state 4`` or ``states 2-6``."""
    return f"{what} {first}" if first == last else f"{what}s {first}-{last}"


_BY_NAME = {metric.name: metric for metric in METRICS}
# Quantities that one panel derives from columns; everything else comes from the catalogue.
_DERIVED_UNITS = {"sigma1": "activation units"}


def title(metric: str) -> str:
    """Give the metric's title, with a capital, or its name where the catalogue has none."""
    words = _BY_NAME[metric].title if metric in _BY_NAME else metric.replace("_", " ")
    return words[:1].upper() + words[1:]


def unit(metric: str) -> str:
    """Give the metric's unit in words; a score or a ratio may have none."""
    return (_BY_NAME[metric].unit if metric in _BY_NAME else _DERIVED_UNITS.get(metric)) or "no unit"


def from_zero_to_one(metric: str) -> bool:
    """Say whether the metric's values lie between 0 and 1, so that its axis shows all of that."""
    return metric in _BY_NAME and (_BY_NAME[metric].low, _BY_NAME[metric].high) == (0.0, 1.0)

"""What a panel shows, as numbers: worked out once, and drawn by the painters."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import polars as pl

from thalweg.shown._section import (
    GREY,
    INK,
    PHASE,
    Bars,
    Dash,
    Heat,
    Line,
    Panel,
    Points,
    Rule,
    Scale,
    Ticks,
    Track,
)
from thalweg.shown._words import number

SHARE = (-0.03, 1.03)
"""The axis of values between 0 and 1."""

ABOVE = "\N{BLACK UP-POINTING TRIANGLE}"
"""Marks what lies above an axis."""

_BAR_ROOM = 0.76
_MARGIN = 2.0
_NEAR = 0.01
"""Of an axis, within which the eye takes two lines for one: about the width of one."""
_SEEN, _WIDEST = 1.6, 8.0
"""Points by which a line is wider than what hides it, and the most that it gets."""


@dataclass(frozen=True)
class Key:
    """One entry of a legend.

    Attributes:
        name: what it says.
        color: of the mark beside it.
        dash: of a line.
        switch: the group of lines that it shows and hides; empty where it only explains.
    """

    name: str
    color: str
    dash: Dash = "-"
    switch: str = ""


def visible(values: pl.Series, *, log: bool = False) -> np.ndarray:
    """Give numbers with NaN wherever an axis has no place for one."""
    numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return np.where(np.isfinite(numbers) & ((numbers > 0) | (not log)), numbers, np.nan)


def lines(panel: Panel, width: float) -> list[Line]:
    """Give the lines with their widths, those that others hide so wide that they are seen on both sides of them.

    Hidden is what lies under later lines of other colours along more than half of its values. Other dashes hide
    nothing: what is below shows in their gaps. Where colours follow a scale lines are not told apart one by one.

    Args:
        panel: they are on.
        width: in points, of a line that has none of its own.
    """
    shown = list[Line]()
    for line in reversed(panel.lines):
        own = line.width or width
        over = [each for each in shown if each.color != line.color and each.dash in ("-", line.dash)]
        hidden = [(each.width or width, _coincide(line, each, panel)) for each in over if panel.scale is None]
        count = np.any([where for _, where in hidden], axis=0).sum()
        if count > np.isfinite(_on_axes(line, panel)).all(axis=0).sum() / 2:
            own = max(own, min(max(wide for wide, where in hidden if where.any()) + _SEEN, _WIDEST))
        shown.append(replace(line, width=own))
    return shown[::-1]


def _coincide(line: Line, other: Line, panel: Panel) -> np.ndarray:
    """Where on a panel a line is as near to another one as makes no difference to the eye."""
    (at, mean), there = (_on_axes(each, panel) for each in (line, other))
    places, heights = there[:, np.isfinite(there[0])]
    if not (places.size and np.isfinite(mean).any()):
        return np.zeros(mean.shape, dtype=bool)
    low, high = _ends(panel)
    between = np.interp(at, places, heights, left=np.nan, right=np.nan)
    return np.abs(mean - between) <= _NEAR * (high - low)


def _on_axes(line: Line, panel: Panel) -> np.ndarray:
    """Where a line's values stand on both axes, logarithms where these are logarithmic; NaN beyond its ends."""
    at, mean = visible(line.rows["at"], log=panel.log_x), visible(line.rows["mean"], log=panel.log_y)
    return np.array([np.log(at) if panel.log_x else at, np.log(mean) if panel.log_y else mean])


def _ends(panel: Panel) -> tuple[float, float]:
    """The ends of the axis up, logarithms where it is logarithmic."""
    if panel.log_y:
        low, high = np.log(log_range(panel))
        return float(low), float(high)
    shown = [*values(panel), *(rule.value for rule in rules(panel, upright=False))]
    return SHARE if panel.share else (min(shown), max(shown))


def edges(line: Line, *, log: bool) -> tuple[np.ndarray, np.ndarray] | None:
    """Give the lower and upper edge of a line's band, NaN where there is none; None for a line without one."""
    mean = visible(line.rows["mean"], log=log)
    if not line.band or not {"lower", "upper"} <= set(line.rows.columns) or not np.isfinite(mean).any():
        return None
    lower, upper = visible(line.rows["lower"]), visible(line.rows["upper"], log=log)
    if log:  # a spread that reaches zero or below runs off the lower edge
        lower[lower <= 0] = np.nanmin(mean) / 10
    known = np.isfinite(mean) & np.isfinite(lower) & np.isfinite(upper)
    return np.where(known, lower, np.nan), np.where(known, upper, np.nan)


def stretches(values: np.ndarray) -> list[slice]:
    """Give the runs of values without a gap."""
    known = np.concatenate([[False], np.isfinite(values), [False]])
    turns = np.flatnonzero(known[1:] != known[:-1])
    return [slice(int(start), int(stop)) for start, stop in zip(turns[::2], turns[1::2], strict=True)]


def bar_places(bars: Sequence[Bars]) -> tuple[list[np.ndarray], float]:
    """Give where the middle of every bar stands, and how wide bars are: at each place those that are there share it."""
    columns = [visible(each.rows["at"]) for each in bars]
    every = np.unique(np.concatenate(columns)) if columns else np.empty(0)
    room = float(np.diff(every).min()) if every.size > 1 else 1.0
    there = np.array([np.isin(every, at) for at in columns]).reshape(len(columns), every.size)
    width = _BAR_ROOM * room / max(1, int(there.sum(axis=0).max(initial=0)))
    shifts = width * (np.cumsum(there, axis=0) - (there.sum(axis=0) + 1) / 2)
    return [at + shift[np.searchsorted(every, at)] for at, shift in zip(columns, shifts, strict=True)], width


def whiskers(bars: Bars) -> np.ndarray | None:
    """Give how far the spread reaches below and above each bar's value, two rows; None without a spread."""
    if not {"lower", "upper"} <= set(bars.rows.columns):
        return None
    mean, lower, upper = (visible(bars.rows[name]) for name in ("mean", "lower", "upper"))
    return np.nan_to_num(np.maximum([mean - lower, upper - mean], 0.0))


def cells(heat: Heat) -> np.ndarray:
    """Give a map's values, NaN where there is a gap."""
    return np.where(np.isfinite(heat.grid) & ((heat.grid > 0) | (not heat.log)), heat.grid, np.nan)


def marks(heat: Heat) -> tuple[np.ndarray, np.ndarray]:
    """Give where dots stand: columns and rows."""
    rows, columns = np.nonzero(np.zeros_like(heat.grid) if heat.dots is None else heat.dots)
    return columns, rows


def named(names: Sequence[str], most: int) -> Ticks:
    """Give some of the names of a map's rows or columns, evenly apart, and their places; all where they are few."""
    places = range(0, len(names), max(1, -(-len(names) // most)))
    return Ticks(places, [names[place] for place in places])


def shades(points: Points, scale: Scale | None) -> np.ndarray | None:
    """Give where the colour of each point lies on the scale, from 0 to 1; None where points have one colour."""
    if scale is None or "shade" not in points.rows.columns:
        return None
    return np.clip((visible(points.rows["shade"]) - scale.low) / ((scale.high - scale.low) or 1.0), 0.0, 1.0)


def rules(panel: Panel, *, upright: bool) -> list[Rule]:
    """Give the levels or the marks that the axes have a place for."""
    log = panel.log_x if upright else panel.log_y
    return [
        rule
        for rule in panel.rules
        if rule.upright == upright and np.isfinite(visible(pl.Series([rule.value]), log=log))
    ]


def values(panel: Panel) -> np.ndarray:
    """Give every number that lines, bars and points show."""
    drawn = chain(panel.lines, panel.bars, panel.points)
    shown = np.concatenate([visible(each.rows["mean"], log=panel.log_y) for each in drawn] or [np.empty(0)])
    return shown[np.isfinite(shown)]


def is_empty(panel: Panel) -> bool:
    """Say whether there is nothing to see; levels and marks alone are nothing."""
    return panel.heat is None and not values(panel).size


def log_range(panel: Panel) -> tuple[float, float]:
    """Give the ends of a logarithmic axis: what is shown and the levels, with room below and above; or its ceiling."""
    shown = [*values(panel), *(rule.value for rule in rules(panel, upright=False))]
    return min(shown) / _MARGIN, ceiling(panel) or max(shown) * _MARGIN


def ceiling(panel: Panel) -> float | None:
    """Give where the axis up ends below what is shown; None where it shows everything."""
    shown = values(panel)
    cut = panel.ceiling is not None and shown.size and shown.min() < panel.ceiling < shown.max()
    return panel.ceiling if cut else None


def above(panel: Panel) -> Iterator[tuple[Line | Points, np.ndarray, np.ndarray]]:
    """Give of every line and cloud of points what lies above the axis: where along, and the values."""
    for each in (*panel.lines, *panel.points) if (top := ceiling(panel)) is not None else ():
        at, mean = visible(each.rows["at"], log=panel.log_x), visible(each.rows["mean"], log=panel.log_y)
        if (high := mean > top).any():
            yield each, at[high], mean[high]


def title(panel: Panel) -> str:
    """Give what stands above a panel, with how far values go on above its axis."""
    highest = max((mean.max() for _, _, mean in above(panel)), default=None)
    return panel.title if highest is None else f"{panel.title} ({ABOVE} above the axis: up to {number(highest)})"


def extent(panel: Panel) -> tuple[float, float]:
    """Give the first and the last place along the panel where something stands."""
    every = list(_places(panel, steps=True))
    if panel.heat is not None:
        return 0.0, float(max(0, panel.heat.grid.shape[1] - 1))
    return (min(every), max(every)) if every else (0.0, 1.0)


def in_whole_steps(panel: Panel) -> bool:
    """Say whether the axis along counts something, so that its marks are whole numbers."""
    return panel.heat is not None or all(at == int(at) for at in _places(panel, steps=False))


def keys(panels: Sequence[Panel]) -> list[Key]:
    """Give the legend of some panels: each name once, in order; a name that is not shown anywhere is no entry."""
    named = dict[str, Key]()
    for panel in panels:
        for key in _keys(panel):
            named.setdefault(key.name, key)
    return list(named.values())


def group_of(line: Line) -> str:
    """Give what the line is shown and hidden with."""
    return line.group or line.name


def _keys(panel: Panel) -> Iterator[Key]:
    on_map = panel.heat is not None  # which is not switched
    lines = (line for line in panel.lines if line.named)
    yield from (Key(line.name, line.color, line.dash, "" if on_map else group_of(line)) for line in lines)
    yield from (Key(each.name, each.color, switch=each.name) for each in panel.bars if each.named)
    yield from (Key(each.name, each.color, switch=each.name) for each in panel.points if each.named)
    yield from (Key(rule.name, rule.color, rule.dash, rule.name) for rule in rules(panel, upright=False))
    if panel.heat is not None and panel.heat.dots is not None and panel.heat.dotted:
        yield Key(panel.heat.dotted, INK)
    yield from (Key(span.name, PHASE) for span in panel.spans)
    yield from below(panel)


def below(panel: Panel) -> list[Key]:
    """Give what a legend says of the rows under an axis; grey stands for bars that each have their model's colour."""
    colors = dict[str, set[str]]()
    for track in panel.tracks:
        colors.setdefault(track.name, set()).add(track.color)
    tracks = [Key(name, own.pop() if len(own) == 1 else GREY) for name, own in colors.items()]
    return [*(Key(kind.name, kind.color) for kind in panel.kinds), *tracks]


def strip(panel: Panel) -> list[list[Track]]:
    """Give the rows under an axis, from top to bottom: what blocks are, and then a row for each track."""
    kinds = [Track(kind.name, place - 0.4, place + 0.4, kind.color) for kind in panel.kinds for place in kind.places]
    return [*([kinds] if kinds else []), *([track] for track in panel.tracks)]


def _places(panel: Panel, *, steps: bool) -> Iterator[float]:
    lines = (line for line in panel.lines if steps or not line.step)
    for each in chain(lines, panel.bars, panel.points):
        at = visible(each.rows["at"], log=panel.log_x)
        yield from at[np.isfinite(at)].tolist()

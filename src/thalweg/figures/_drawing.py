"""Drawing: lines with bands on axes, thin on purpose; everything that can be wrong is in the preparation."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from importlib.resources import files
from typing import ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

STYLE = str(files("thalweg.figures") / "thalweg.mplstyle")
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999933")
GREY = "#8C8C8C"
BOUND = "#009E73"
PHASE = "#F8F2DE"
_DASHES = ("-", "--", "-.", ":")

Panels = list[Axes]
Given = ParamSpec("Given")
Result = TypeVar("Result")


def styled(draw: Callable[Given, Result]) -> Callable[Given, Result]:
    """Make a function draw in the project's style, whatever the caller's own settings are."""

    @wraps(draw)
    def drawn(*args: Given.args, **options: Given.kwargs) -> Result:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rc_file(STYLE, use_default_template=False)
            return draw(*args, **options)

    return drawn


def panels(count: int, *, columns: int = 3, width: float = 3.5, height: float = 2.7) -> tuple[Figure, Panels]:
    """Give a figure with some panels, row by row; no window and no global state is involved."""
    rows = -(-count // columns)
    shape = (min(count, columns), rows)
    figure = Figure(figsize=(width * shape[0], height * rows))
    grid = figure.subplots(rows, shape[0], squeeze=False)
    every = list(grid.flat)
    for spare in every[count:]:
        spare.set_axis_off()
    return figure, every[:count]


@dataclass(frozen=True)
class Look:
    """How a line looks and what the legend calls it; no width is the style's."""

    color: str
    linestyle: str = "-"
    label: str | None = None
    width: float | None = None


def line_look(number: int, label: str | None = None) -> Look:
    """Give the look of the n-th series: past the palette's end, dashes tell them apart."""
    return Look(PALETTE[number % len(PALETTE)], _DASHES[number // len(PALETTE) % len(_DASHES)], label)


def draw_band(axes: Axes, rows: pl.DataFrame, x: str, look: Look, *, log: bool = False, band: bool = True) -> None:
    """Draw a mean and its spread; NaN is a gap, and so is what a log axis cannot show.

    Args:
        axes: where to draw.
        rows: columns ``mean lower upper`` and the one named by ``x``, in order.
        x: the column along the axis.
        look: colour, dashes, label.
        log: the axis is logarithmic.
        band: draw the spread.
    """
    at, mean = rows[x].to_numpy(), _visible(rows["mean"].to_numpy(), log=log)
    marker = "o" if look.linestyle == "-" else ""  # dots would hide the dashes
    shown = {"color": look.color, "linestyle": look.linestyle, "linewidth": look.width, "label": look.label}
    axes.plot(at, mean, marker=marker, **shown)
    if not band or not np.isfinite(mean).any():
        return
    lower = rows["lower"].to_numpy().copy()
    if log:  # a spread that reaches zero or below runs off the lower edge
        lower[lower <= 0] = np.nanmin(mean) / 10
    upper = _visible(rows["upper"].to_numpy(), log=log)
    axes.fill_between(at, lower, upper, color=look.color, alpha=0.16, linewidth=0)


def shade(axes: Axes, span: tuple[int, int] | None, *, label: str | None = None) -> None:
    """Shade the states, or the blocks that read the states, of the compress phase."""
    if span is not None:
        axes.axvspan(span[0] - 0.5, span[1] + 0.5, color=PHASE, linewidth=0, zorder=0, label=label)


def finish(axes: Axes, *, x: str, y: str, title: str, log: bool = False, unit_range: bool = False) -> None:
    """Name the axes and scale them; a panel without a single value says so."""
    axes.set(xlabel=x, ylabel=y, title=title)
    lines = [np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()]
    values = np.concatenate(lines) if lines else np.empty(0)
    values = values[np.isfinite(values) & ((values > 0) | (not log))]
    if not values.size:
        axes.text(0.5, 0.5, "no value", transform=axes.transAxes, ha="center", va="center", color=GREY)
    elif log:
        axes.set_yscale("log")
        axes.set_ylim(values.min() / 2, values.max() * 2)
    elif unit_range:
        axes.set_ylim(-0.03, 1.03)
    if not x.startswith("share"):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _visible(values: np.ndarray, *, log: bool) -> np.ndarray:
    shown = np.isfinite(values) & ((values > 0) | (not log))
    return np.where(shown, values, np.nan)

"""Panels on paper: the one file that knows matplotlib. No window and no global state is involved."""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from importlib.resources import files
from itertools import groupby
from textwrap import fill
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from thalweg.shown import _drawn as drawn
from thalweg.shown._section import GREY, INK, PHASE, Bars, Heat, Line, Panel, Points, Section, Ticks, Width
from thalweg.shown._words import ARROW

STYLE = str(files("thalweg.shown") / "thalweg.mplstyle")
DIVERGING = "RdBu_r"
"""White for no change; its two ends are told apart with every kind of colour blindness."""

_FIRM = "\N{NO-BREAK SPACE}"
_SHADE = 0.16
WIDTHS: dict[Width, float] = {"column": 3.3, "text": 6.8}
"""Inches of a paper's column and of its text, two columns wide."""
DOTS = 160
"""To an inch, of a PNG."""
_LEAST = 2.1
"""Inches of a panel, below which its words do not fit."""
_SMALL = {
    **dict.fromkeys(("axes.labelsize", "axes.titlesize", "figure.titlesize"), 8),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 7),
    "lines.linewidth": 1.2,
    "lines.markersize": 2.2,
    "axes.titlepad": 5,
}
"""On a page of a paper."""
_LETTERS = {"headline": 12.0, "title": 12.0, "legend": 15.0}  # an inch of each, at its size
_ENTRY = 0.5  # inches of a legend's entry beside its words
_UNDER = 0.42  # inches of an axis and its name
_LINE = 0.17  # inches of a line of text
_NAMES = 8  # at most, of the rows or columns of a map
_TRACK = 4.0  # points of a bar under the axis

# Without dates and versions, so that the same section gives the same files.
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}

Given = ParamSpec("Given")
Result = TypeVar("Result")


def styled(draw: Callable[Given, Result]) -> Callable[Given, Result]:
    """Make a function draw in the project's style, whatever the caller's own settings are."""

    @wraps(draw)
    def in_style(*args: Given.args, **options: Given.kwargs) -> Result:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rc_file(STYLE, use_default_template=False)
            if options.get("width") is not None:
                mpl.rcParams.update(_SMALL)  # pyright: ignore[reportCallIssue, reportArgumentType]
            return draw(*args, **options)

    return in_style


@styled
def figure_of(section: Section, *, width: Width | None = None) -> Figure:
    """Draw all panels of a section.

    Args:
        section: with at least one panel.
        width: of a paper that it has to fit into, with the letters that fit there; its own by default.

    Returns:
        The figure, not saved anywhere: panels row by row, the headline above them, the legend below.
    """
    section = section if width is None else _fitted(section, width)
    columns = min(len(section.panels), section.columns)
    rows = -(-len(section.panels) // columns)
    wide, high = section.size[0] * columns, section.size[1] * rows
    figure = Figure(figsize=(wide, high))
    every: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in every[len(section.panels) :]:
        spare.set_axis_off()
    images = list[AxesImage]()
    for axes, panel in zip(every, section.panels, strict=False):
        images += _paint(axes, panel)
        axes.set_title(wrapped(plain(drawn.title(panel)), int(_LETTERS["title"] * section.size[0])))
    _add_colour_bars(figure, images, [panel.heat for panel in section.panels if panel.heat is not None])
    _add_scales(figure, every, section)
    more = _add_headline(figure, section, wide) + _add_legend(figure, every, section, wide)
    figure.set_size_inches(wide, high + _LINE * more)
    return figure


def _fitted(section: Section, width: Width) -> Section:
    """As many panels side by side as there is room for, in the shape that they have."""
    columns = max(1, min(len(section.panels), section.columns, int(WIDTHS[width] / _LEAST)))
    wide, high = section.size
    each = WIDTHS[width] / columns
    return replace(section, columns=columns, size=(each, max(1.6, each * high / wide)))


@styled
def files_of(
    section: Section, *, formats: Sequence[str] = ("png", "pdf"), width: Width | None = None, dpi: int = DOTS
) -> dict[str, bytes]:
    """Draw a section and give it as files, by ending, the same bytes for the same section.

    Args:
        section: with at least one panel.
        formats: endings: png, pdf, svg.
        width: as for `figure_of`.
        dpi: dots to an inch of a PNG.
    """
    figure, contents = figure_of(section, width=width), dict[str, bytes]()
    mpl.rcParams["svg.hashsalt"] = "thalweg"  # names of parts, which are drawn by lot otherwise
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn with boxes; the figure is still right.
        warnings.filterwarnings("ignore", message="Glyph")
        for kind in formats:
            file = io.BytesIO()
            figure.savefig(file, format=kind, metadata=_METADATA[kind], dpi=dpi)
            figure.set_layout_engine("none")  # laid out by the first, which the second need not repeat
            contents[kind] = file.getvalue()
    return contents


def plain(text: str) -> str:
    """Give text that comes from anywhere so that matplotlib draws it as it is: no formulas, no hidden labels."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def wrapped(text: str, letters: int) -> str:
    """Break text into lines of so many letters; brackets, arrows, and words with their numbers stay whole."""
    whole = re.sub(rf" ?{ARROW} |\([^()]*\)|(?<=[a-z]) (?=\d)", lambda found: _held(found[0], letters), text)
    return fill(whole, letters, break_on_hyphens=False).replace(_FIRM, " ")


def _held(part: str, letters: int) -> str:
    return part.replace(" ", _FIRM) if len(part) <= letters * 2 / 3 else part


def _paint(axes: Axes, panel: Panel) -> list[AxesImage]:
    """One panel; what comes later lies on top. Gives its map, where it has one."""
    thinned = 1 - _SHADE * (1 - np.array(to_rgb(PHASE)))  # on white paper, as thin as the page shows it
    for span in panel.spans:
        ends = span.first - 0.5, span.last + 0.5
        axes.axvspan(*ends, color=thinned, linewidth=0, zorder=0, label=plain(span.name))
    images = [] if panel.heat is None else [_add_heat(axes, panel.heat)]
    for line in drawn.lines(panel, mpl.rcParams["lines.linewidth"]):
        _add_line(axes, line, log=panel.log_y)
    _add_bars(axes, panel.bars)
    for points in panel.points:
        _add_points(axes, points, panel)
    for rule in (rule for upright in (False, True) for rule in drawn.rules(panel, upright=upright)):
        draw = axes.axvline if rule.upright else axes.axhline
        draw(rule.value, color=rule.color, linestyle=rule.dash, linewidth=1.2, label=plain(rule.name))
    for each, at, values in drawn.above(panel):
        axes.plot(at, np.full_like(values, drawn.ceiling(panel)), "^", color=each.color, markersize=5, clip_on=False)
    axes.set(xlabel=plain(panel.x), ylabel=plain(panel.y))
    _set_up(axes, panel)
    _add_strip(axes, panel)
    _set_along(axes, panel)
    return images


def _add_points(axes: Axes, points: Points, panel: Panel) -> None:
    at, values = points.rows["at"].to_numpy(), drawn.visible(points.rows["mean"], log=panel.log_y)
    label, shades = plain(points.name) if points.named else None, drawn.shades(points, panel.scale)
    if panel.scale is None or shades is None:
        axes.plot(at, values, "o", color=points.color, label=label)
    else:
        axes.scatter(
            at, values, s=9, c=shades, cmap=_colormap(panel.scale.colors), vmin=0, vmax=1, label=label, zorder=3
        )


def _add_line(axes: Axes, line: Line, *, log: bool) -> None:
    at, mean = line.rows["at"].to_numpy(), drawn.visible(line.rows["mean"], log=log)
    marker = "o" if line.dash == "-" and not line.step else ""  # dots would hide the dashes
    steps = {"drawstyle": "steps-mid", "zorder": 1} if line.step else {}  # below bars, which stand on its steps
    look = {"color": line.color, "linestyle": line.dash, "linewidth": line.width, "marker": marker, **steps}
    axes.plot(at, mean, label=plain(line.name) if line.named else None, **look)
    band = drawn.edges(line, log=log)
    if band is not None:
        axes.fill_between(at, *band, color=line.color, alpha=_SHADE, linewidth=0, step="mid" if line.step else None)


def _add_bars(axes: Axes, bars: tuple[Bars, ...]) -> None:
    places, width = drawn.bar_places(bars)
    for each, at in zip(bars, places, strict=True):
        spread, label = drawn.whiskers(each), plain(each.name) if each.named else None
        heights = drawn.visible(each.rows["mean"])
        axes.bar(at, heights, width, yerr=spread, color=each.color, ecolor="#444444", label=label)


def _add_heat(axes: Axes, heat: Heat) -> AxesImage:
    """A map; what has no value is hatched, but for a map of names, which has gaps by its nature."""
    if not heat.along:
        axes.patch.set(hatch="///", facecolor="#EEEEEE", edgecolor="#BBBBBB")
    scale = LogNorm(heat.low, heat.high) if heat.log else Normalize(heat.low, heat.high)
    origin = "upper" if heat.down else "lower"
    look = {"origin": origin, "aspect": "auto", "interpolation": "nearest", "norm": scale}
    image = axes.imshow(drawn.cells(heat), cmap=DIVERGING if heat.diverging else None, **look)
    if heat.dots is not None:
        size = max(1.0, min(3.0, 60 / max(heat.grid.shape)))
        label = plain(heat.dotted) if heat.dotted else None
        axes.plot(*drawn.marks(heat), marker="o", linestyle="", color=INK, markersize=size, label=label)
    axes.grid(visible=False)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if heat.up:
        axes.set_yticks(*_named(drawn.named(heat.up, _NAMES)), fontsize=6)
    return image


def _add_colour_bars(figure: Figure, images: list[AxesImage], heats: list[Heat]) -> None:
    """One for each map, or for all maps side by side that have the same."""
    scales = ((heat.unit, heat.low, heat.high, heat.log, heat.diverging) for heat in heats)
    for scale, group in groupby(zip(scales, images, strict=True), key=lambda pair: pair[0]):
        alike = [image for _, image in group]
        narrow: dict[str, Any] = {"fraction": 0.02, "aspect": 40, "pad": 0.01} if len(alike) > 3 else {}
        figure.colorbar(alike[0], ax=[image.axes for image in alike], label=plain(f"[{scale[0]}]"), **narrow)


def _add_strip(axes: Axes, panel: Panel) -> None:
    """Rows of bars between the panel and its axis, which moves down for them."""
    rows = drawn.strip(panel)
    if rows:
        axes.spines["bottom"].set_position(("outward", _TRACK * (len(rows) + 1)))
    inches = axes.figure.dpi_scale_trans
    for number, row in enumerate(rows, start=1):
        down = axes.get_xaxis_transform() + ScaledTranslation(0, -_TRACK * number / 72, inches)
        look = {"linewidths": _TRACK - 1, "transform": down, "clip_on": False}
        ends, colors = [[(bar.first, 0), (bar.last, 0)] for bar in row], [bar.color for bar in row]
        axes.add_collection(LineCollection(ends, colors=colors, **look), autolim=False)
        axes.update_datalim([end for bar in ends for end in bar], updatey=False)
    for key in drawn.below(panel):
        named = LineCollection([], colors=key.color, linewidths=_TRACK - 1, label=plain(key.name))
        axes.add_collection(named, autolim=False)


def _set_up(axes: Axes, panel: Panel) -> None:
    """The axis up; a panel without a single value says so."""
    if drawn.is_empty(panel):
        axes.yaxis.set_major_locator(NullLocator())
        if not panel.log_x:
            first, last = drawn.extent(panel)
            axes.set_xlim(first - 0.5, last + 0.5)
        axes.text(0.5, 0.5, "no value", transform=axes.transAxes, ha="center", va="center", color=GREY)
    elif panel.log_y:
        axes.set_yscale("log")
        axes.set_ylim(*drawn.log_range(panel))
    elif panel.share:
        axes.set_ylim(*drawn.SHARE)
    elif (top := drawn.ceiling(panel)) is not None:
        axes.set_ylim(top=top)


def _set_along(axes: Axes, panel: Panel) -> None:
    if panel.log_x:
        axes.set_xscale("log")
    if not (panel.lines or panel.bars or panel.points or panel.heat):
        axes.xaxis.set_major_locator(NullLocator())
    elif panel.ticks is not None:
        axes.set_xticks(*_named(panel.ticks), minor=False)
        axes.xaxis.set_minor_locator(NullLocator())
    elif panel.heat is not None and panel.heat.along:
        axes.set_xticks(*_named(drawn.named(panel.heat.along, _NAMES)), fontsize=6, rotation=90)
    elif not panel.log_x and drawn.in_whole_steps(panel):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _add_scales(figure: Figure, every: list[Axes], section: Section) -> None:
    """A colour bar for all panels whose lines follow the same colours."""
    scaled = [(axes, panel.scale) for axes, panel in zip(every, section.panels, strict=False) if panel.scale]
    for scale, group in groupby(scaled, key=lambda pair: pair[1]):
        values = ScalarMappable(Normalize(scale.low, scale.high), _colormap(scale.colors))
        bar = figure.colorbar(values, ax=[axes for axes, _ in group], label=plain(scale.title), pad=0.01)
        places, names = _named(scale.ticks)
        bar.set_ticks(places, labels=names)


def _colormap(colors: Sequence[str]) -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list("scale", list(colors) if len(colors) > 1 else [*colors] * 2)


def _add_headline(figure: Figure, section: Section, width: float) -> int:
    """What stands above the panels; returns how many lines it takes beyond the first."""
    said = wrapped(plain(section.headline or section.title), int(_LETTERS["headline"] * width))
    if said:
        figure.suptitle(said)
    return said.count("\n")


def _add_legend(figure: Figure, every: list[Axes], section: Section, width: float) -> int:
    """One legend for all panels, or one in each; returns how many lines it takes below them beyond the first."""
    handles = [axes.get_legend_handles_labels() for axes in every]
    if section.legend == "each":
        return _add_legends(every, handles, section)
    named = dict[str, Any]()
    for handle, label in (pair for drawn_in in handles for pair in zip(*drawn_in, strict=True)):
        named.setdefault(label, handle)
    if not named:
        return 0
    fit = int(width / (_ENTRY + max(map(len, named)) / _LETTERS["legend"]))
    columns = max(1, min(len(named), fit))
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=columns)
    return -(-len(named) // columns) - 1


def _add_legends(every: list[Axes], handles: list[tuple[list[Any], list[str]]], section: Section) -> int:
    """One below each panel, where it hides nothing; returns how many lines all rows of panels take for them."""
    columns, lines = min(len(section.panels), section.columns), list[int]()
    for axes, panel, (_, labels) in zip(every, section.panels, handles, strict=False):
        fit = max(1, int(section.size[0] / (_ENTRY + max(map(len, labels), default=1) / _LETTERS["legend"])))
        lines.append(-(-len(labels) // fit))
        if labels:
            strip = drawn.strip(panel)
            under = _UNDER + (_TRACK * (len(strip) + 1) / 72 if strip else 0)
            below = axes.transAxes + ScaledTranslation(0, -under, axes.figure.dpi_scale_trans)
            place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "bbox_transform": below}
            axes.legend(ncols=fit, borderaxespad=0, **place)
    return sum(max(lines[start : start + columns]) for start in range(0, len(lines), columns))


def _named(ticks: Ticks) -> tuple[list[float | int], list[str]]:
    return list(ticks.places), list(map(plain, ticks.names))

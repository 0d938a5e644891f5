"""The vocabulary of what a person sees: chapters of sections, and a section's sentences, panels and tables.

What is said here is said once: the terminal, the figures and the page are three paintings of the same sections. Text is
plain text from anywhere; whoever paints it escapes it. Numbers are plain numbers; whoever paints them writes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from thalweg.in_notebooks import html_of

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999933")
"""Told apart with every kind of colour blindness (Okabe and Ito)."""
GREY, INK, MARK = "#8C8C8C", "#222222", "#D55E00"
PHASE = "#D9B84A"
"""Of what is shaded, thinned by whoever paints it, and of its bar where nothing can be."""

Dash = Literal["-", "--", "-.", ":"]
DASHES: tuple[Dash, ...] = ("-", "--", "-.", ":")
Place = Literal["", "page", "terminal"]
Width = Literal["column", "text"]
"""Of a paper, into which a figure is to fit."""
FORMATS = ("png", "pdf", "svg")
"""Of files of figures."""


@dataclass(frozen=True)
class Line:
    """A mean and its spread along an axis.

    Attributes:
        name: what the legend calls it; lines of one name in one section are shown and hidden together.
        rows: the columns ``at mean`` and, for a band, ``lower upper``, in order of ``at``; NaN is a gap.
        color: as ``#RRGGBB``.
        dash: solid lines have a marker at every value.
        width: in points; the painter's own by default.
        named: whether the legend names it.
        band: whether the spread is drawn.
        step: drawn as steps, each value reaching half-way to its neighbours.
        group: lines of one group are shown and hidden together; its name by default.
    """

    name: str
    rows: pl.DataFrame
    color: str = PALETTE[0]
    dash: Dash = "-"
    width: float | None = None
    named: bool = True
    band: bool = True
    step: bool = False
    group: str = ""


@dataclass(frozen=True)
class Bars:
    """Values as bars side by side with those of the panel's other bars; ``rows`` as a line's, the spread a whisker."""

    name: str
    rows: pl.DataFrame
    color: str = PALETTE[0]
    named: bool = True


@dataclass(frozen=True)
class Points:
    """Single points: ``rows`` have the columns ``at mean``, may have ``shade``, and have what ``said`` names.

    Where there are shades, the colour of each point is that of its own on the panel's scale. Hovering names a point by
    ``said``, with its row's values in braces: ``block {block}, head {head}``; of heads, these two come first.
    """

    name: str
    rows: pl.DataFrame
    color: str = PALETTE[0]
    named: bool = True
    said: str = ""


@dataclass(frozen=True)
class Rule:
    """A straight line: a level across the panel or, upright, a mark up and down it."""

    name: str
    value: float | int
    color: str = GREY
    dash: Dash = "--"
    upright: bool = False


@dataclass(frozen=True)
class Heat:
    """A map of values.

    Attributes:
        grid: rows up the y axis and columns along the x axis, both from 0; NaN is a gap.
        unit: of the values, for the colour bar.
        low: the least value that a colour stands for.
        high: the largest.
        log: colours follow the logarithm; what is not above 0 is a gap.
        diverging: colours run to both sides of 0.
        dots: cells that are marked.
        dotted: what a mark says.
        up: names of the rows, all different, where they have some; an axis shows as many as there is room for.
        along: those of the columns.
        down: the first row is at the top.
        pointing: a value is the number of the column at which its own column points.
    """

    grid: np.ndarray
    unit: str
    low: float
    high: float
    log: bool = False
    diverging: bool = False
    dots: np.ndarray | None = None
    dotted: str = ""
    up: Sequence[str] = ()
    along: Sequence[str] = ()
    down: bool = False
    pointing: bool = False


@dataclass(frozen=True)
class Span:
    """States, or the blocks that read them, that are shaded: first and last, both inside."""

    name: str
    first: int
    last: int


@dataclass(frozen=True)
class Kind:
    """What some of the blocks are, marked below the axis along: name, numbers, colour."""

    name: str
    places: tuple[int, ...]
    color: str


@dataclass(frozen=True)
class Track:
    """What lies along the axis as a bar under it, in a row of its own: of one of several models, or under a map.

    Attributes:
        name: what the legend calls it, and others of this name, whose colours are then those of lines.
        first: where it begins, on the panel's axis.
        last: where it ends.
        color: that of its model's line.
        group: shown and hidden with the lines of this group.
    """

    name: str
    first: float
    last: float
    color: str = PHASE
    group: str = ""


@dataclass(frozen=True)
class Ticks:
    """Where an axis has its marks, and what they are called."""

    places: Sequence[int | float]
    names: Sequence[str]


@dataclass(frozen=True)
class Scale:
    """What the colours of a panel's lines or points stand for, where they are too many to be named: a colour bar.

    Attributes:
        title: of the bar, with its unit.
        low: what the first colour stands for.
        high: what the last one stands for.
        ticks: along the bar.
        colors: from first to last.
    """

    title: str
    low: float
    high: float
    ticks: Ticks
    colors: Sequence[str]


@dataclass(frozen=True)
class Panel:
    """One chart: its axes with their units, and what is on it.

    Attributes:
        title: what it shows.
        x: the axis along, with its unit where it has one.
        y: the axis up, with its unit in brackets.
        lines: with their bands; later ones lie on top.
        bars: side by side.
        points: single ones.
        rules: levels and marks.
        heat: a map; lines lie on it.
        heads: model, revision and data set of which it shows heads; a page tells more of one that is clicked.
        head: block and head of the only one, whose attention the map is; a page shows it beside its numbers.
        spans: shaded, such as the compress phase.
        tracks: the same as bars under the axis, below the kinds, from top to bottom.
        log_x: the axis along is logarithmic.
        log_y: the axis up is logarithmic; what is not above 0 is a gap.
        share: values lie between 0 and 1, and the axis shows all of that.
        ceiling: where the axis up ends, though lines and points go on: what is above is marked there, and the title
            says how far it goes. Nothing by default, and where all that is shown lies on one side of it.
        ticks: of the axis along; whole numbers as there is room for by default.
        scale: what the colours of lines and points stand for.
        kinds: what blocks are, marked in a row under the axis along.
    """

    title: str
    x: str
    y: str
    lines: tuple[Line, ...] = ()
    bars: tuple[Bars, ...] = ()
    points: tuple[Points, ...] = ()
    rules: tuple[Rule, ...] = ()
    heat: Heat | None = None
    heads: tuple[str, str, str] | None = None
    head: tuple[int, int] | None = None
    spans: tuple[Span, ...] = ()
    tracks: tuple[Track, ...] = ()
    log_x: bool = False
    log_y: bool = False
    share: bool = False
    ceiling: float | None = None
    ticks: Ticks | None = None
    scale: Scale | None = None
    kinds: tuple[Kind, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows of cells: words, numbers, or None where there is nothing.

    Attributes:
        title: what the table holds.
        columns: the headings, with units where they have some.
        rows: as many cells as columns.
        note: what stands below, such as how many rows are not shown.
        folded: what to call it on a page that folds it away; empty shows it.
        only: where alone it is shown; everywhere by default.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    folded: str = ""
    only: Place = ""


@dataclass(frozen=True)
class Section:
    """All that is shown of one model, on one data set, by one setting of an experiment.

    Attributes:
        title: of what, as ``gpt2 on gsm8k``; empty where it goes on with the section before.
        name: of its figure's file, without folder and ending; empty where there is no figure.
        sentences: what was found, without full stops.
        panels: in reading order.
        tables: in reading order.
        facts: what was asked and of what, in one line, without a full stop.
        key: of the findings it is drawn from.
        headline: what stands above the figure; the title by default.
        legend: one for all panels, or each panel its own.
        columns: panels side by side, at most.
        size: of a panel on paper, width and height in inches.
        only: where alone it is shown; everywhere by default. What is for the terminal alone, such as an earlier
            setting, is no figure either.
        folded: a page folds it away under its title and first sentence; a chapter's first one is open.
        rests: which tables of the run the sentences rest on; a page names the experiment's own by default.
        text: in pieces, of which the columns of every map here stand for one each; a page shows it too, coloured by one
            row of one of the maps.
    """

    title: str
    name: str = ""
    sentences: Sequence[str] = ()
    panels: Sequence[Panel] = ()
    tables: Sequence[Table] = ()
    facts: str = ""
    key: str = ""
    headline: str = ""
    legend: Literal["shared", "each"] = "shared"
    columns: int = 3
    size: tuple[float, float] = (3.5, 2.7)
    only: Place = ""
    folded: bool = False
    rests: str = ""
    text: Sequence[str] = ()

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        return html_of("section", self)


@dataclass(frozen=True)
class Chapter:
    """What one experiment has to show under one heading.

    Attributes:
        title: the heading.
        anchor: names it in links.
        sections: none and the chapter is left out.
        note: how to read it, in whole sentences.
    """

    title: str
    anchor: str
    sections: Sequence[Section]
    note: str = ""


@dataclass(frozen=True)
class Answer:
    """A question that a person brings, and what the run says.

    Attributes:
        question: as asked.
        verdict: yes, no, partly or unknown.
        text: the answer in numbers, a whole sentence.
        notes: what to know beside it, whole sentences.
        rests: what the answer rests on: tables of the run, and how many prompts.
    """

    question: str
    verdict: Literal["yes", "no", "partly", "unknown"]
    text: str
    notes: tuple[str, ...] = ()
    rests: str = ""


@dataclass(frozen=True)
class Card:
    """The answers about one model on one data set, on top of the page.

    Attributes:
        title: the model.
        about: on what, as ``on gsm8k, 500 prompts``.
        remark: what has to be known before anything is believed.
        answers: in reading order.
        details: single lines below, such as the strongest heads.
    """

    title: str
    about: str
    answers: Sequence[Answer]
    remark: str = ""
    details: Sequence[str] = ()


def line_of(number: int, name: str, rows: pl.DataFrame, **more: Any) -> Line:
    """Give the n-th line of a panel its look: past the palette's end, dashes tell them apart."""
    return Line(name, rows, PALETTE[number % len(PALETTE)], DASHES[number // len(PALETTE) % len(DASHES)], **more)

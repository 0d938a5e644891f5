"""What does a person see? One vocabulary for it, and the painters that draw it.

In reading order: ``_section`` the vocabulary · ``_words`` numbers in sentences, titles and units of axes · ``_drawn``
what a panel shows, as numbers · ``_matplotlib``, ``_plotly``, ``_terminal`` and ``_html`` (for notebooks) the painters,
loaded when something is painted; ``thalweg.mplstyle`` the look on paper.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from thalweg.ranges import ranges
from thalweg.shown._drawn import Key, keys
from thalweg.shown._section import (
    DASHES,
    FORMATS,
    GREY,
    INK,
    MARK,
    PALETTE,
    PHASE,
    Answer,
    Bars,
    Card,
    Chapter,
    Dash,
    Heat,
    Kind,
    Line,
    Panel,
    Points,
    Rule,
    Scale,
    Section,
    Span,
    Table,
    Ticks,
    Track,
    Width,
    line_of,
)
from thalweg.shown._words import (
    ARROW,
    GAP,
    amount,
    cell,
    change,
    counted,
    from_zero_to_one,
    interval,
    listing,
    number,
    percent,
    span_of,
    spans,
    title,
    unit,
)

if TYPE_CHECKING:
    from thalweg.shown._html import section_html
    from thalweg.shown._matplotlib import figure_of, files_of
    from thalweg.shown._plotly import Chart, chart_of, plotly_script
    from thalweg.shown._terminal import print_json, print_sections, print_table, printable

__all__ = [
    "ARROW",
    "DASHES",
    "FORMATS",
    "GAP",
    "GREY",
    "INK",
    "MARK",
    "PALETTE",
    "PHASE",
    "Answer",
    "Bars",
    "Card",
    "Chapter",
    "Chart",
    "Dash",
    "Heat",
    "Key",
    "Kind",
    "Line",
    "Panel",
    "Points",
    "Rule",
    "Scale",
    "Section",
    "Span",
    "Table",
    "Ticks",
    "Track",
    "Width",
    "amount",
    "cell",
    "change",
    "chart_of",
    "counted",
    "figure_of",
    "files_of",
    "from_zero_to_one",
    "interval",
    "keys",
    "line_of",
    "listing",
    "number",
    "percent",
    "plotly_script",
    "print_json",
    "print_sections",
    "print_table",
    "printable",
    "ranges",
    "section_html",
    "span_of",
    "spans",
    "title",
    "unit",
]

_PAINTERS = {
    "_html": ("section_html",),
    "_matplotlib": ("figure_of", "files_of"),
    "_plotly": ("Chart", "chart_of", "plotly_script"),
    "_terminal": ("print_json", "print_sections", "print_table", "printable"),
}


def __getattr__(name: str) -> object:
    for painter, names in _PAINTERS.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{painter}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

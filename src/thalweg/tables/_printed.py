"""Which cells of a table are printed: a number with its spread in one cell, rounded, what is common in the caption.

Rounding: a spread (a standard deviation, or else half of a 95% interval) has two significant digits, and its mean as
many places; a spread below a millionth of its mean counts as none; other numbers have four significant digits. The mean
of what was averaged as a logarithm is times or divided by exp(sd).
"""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from thalweg.catalogue import METRICS
from thalweg.experiments import labels
from thalweg.ranges import ranges
from thalweg.shown import title, unit
from thalweg.store import UNNAMED
from thalweg.tables._averaged import SPREAD, is_geometric
from thalweg.tables._found import RunTable

DIGITS, OF_SPREAD = 4, 2
LONGEST = 80
"""Letters of a cell."""
WIDE = 8
"""Columns from which a table of few rows is turned, so that they stand below one another."""
LARGE, SMALL, NEGLIGIBLE = 1e7, 1e-4, 1e-6
PLUS_MINUS, TIMES_OVER, INFINITE, MINUS = "±", "\N{MULTIPLICATION SIGN}÷", "∞", "-"
DASH = "\N{EN DASH}"
KEYS = ("model", "revision", "data")
_METRICS = {metric.name for metric in METRICS}
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One cell: a number as it is printed, a text as it is, or nothing, with the letter of a reason."""

    text: str
    is_number: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Printed:
    """A table on paper.

    Attributes:
        caption: of what it is, and what all rows have in common.
        headings: with units.
        rows: as many cells as headings.
        notes: reasons by their letters, and how many prompts entered.
    """

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str]


def printed(chosen: RunTable) -> Printed:
    """Give what is printed of a table."""
    chosen, common = _without_common(_brief(chosen))
    reasons = _reasons(chosen.frame)
    families = _families(chosen)
    ratios = {name for name in families if name in chosen.declared and is_geometric(chosen.declared[name])}
    rows = [_cells(row, families, ratios, reasons) for row in chosen.frame.iter_rows(named=True)]
    headings = [_heading(chosen, name) for name in families]
    notes = [f"({letter}) {reason}" for reason, letter in reasons.items()]
    notes += _counts(chosen.frame, families)
    if chosen.table.across in chosen.frame.columns:
        headings, rows = _side_by_side(chosen, families, headings, rows)
    if rows and len(headings) > WIDE and len(headings) > 2 * len(rows):
        headings, rows = _turned(headings, rows)
    said = [f"{chosen.folder}.{chosen.name}" if chosen.folder != chosen.name else chosen.name, *common]
    return Printed("; ".join(said), headings, rows, notes)


def _brief(chosen: RunTable) -> RunTable:
    """The few columns, or metrics, that are declared for paper, unless some are asked for."""
    table = chosen.table
    if chosen.asked or not table.brief:
        return chosen
    if table.across:
        there = [name for name in table.brief if name in chosen.frame[table.across].unique()]
        return replace(chosen, frame=chosen.frame.filter(pl.col(table.across).is_in(there)))
    wanted = [*KEYS, *table.brief, *(f"{name}_{each}" for name in table.brief for each in SPREAD), "reason"]
    return replace(chosen, frame=chosen.frame.select([name for name in chosen.frame.columns if name in wanted]))


def _without_common(chosen: RunTable) -> tuple[RunTable, list[str]]:
    """The same without the keys that all rows share, and these in words."""
    frame, common = chosen.frame, list[str]()
    keys = [name for name in KEYS if name in frame.columns and name not in chosen.asked]
    shared = [name for name in keys if frame[name].n_unique() == 1]
    values = {name: frame[name][0] for name in shared}
    if "model" in values:
        names, revision = labels(chosen.run.header), str(values.get("revision", UNNAMED[0]))
        name = names.get((str(values["model"]), revision), str(values["model"]))
        common.append(name if revision in UNNAMED or name.endswith(f"@{revision}") else f"{name} at {revision}")
    if "data" in values:
        common.append(f"on {values['data']}")
    return replace(chosen, frame=frame.drop(shared)), [" ".join(common)] if common else []


def _families(chosen: RunTable) -> dict[str, dict[str, str]]:
    """Columns that are printed, each with those that say its spread: by ``std``, ``low``, ``high``, ``n``.

    ``X_std`` is that of the number ``X``; a bare ``std`` that of the number before it.
    """
    families, number = dict[str, dict[str, str]](), ""
    floats = {name for name, dtype in chosen.frame.schema.items() if dtype.is_float()}
    for name in chosen.frame.columns:
        of, _, last = name.rpartition("_")
        if last in SPREAD and (of := of or number) in floats & families.keys():
            families[of][last] = name
        elif name not in ("reason", "geometric"):
            families[name] = {}
            number = name if name in floats else number
    return families


def _reasons(frame: pl.DataFrame) -> dict[str, str]:
    """Letters of the reasons that the table has, in order."""
    if "reason" not in frame.columns:
        return {}
    every = frame["reason"].drop_nulls().unique(maintain_order=True).to_list()
    return {reason: _letter(number) for number, reason in enumerate(every)}


def _letter(number: int) -> str:
    more, last = divmod(number, 26)
    return (_letter(more - 1) if more else "") + chr(ord("a") + last)


def _cells(
    row: Row, families: Mapping[str, Mapping[str, str]], ratios: Set[str], reasons: Mapping[str, str]
) -> list[Cell]:
    letter = reasons.get(row.get("reason") or "", "")
    cells = [
        _cell(row[name], {each: row[column] for each, column in spread.items()}, row.get("geometric", name in ratios))
        for name, spread in families.items()
    ]
    gaps = [place for place, cell in enumerate(cells) if cell.text == DASH]
    for place in (gaps or [0]) if letter and cells else []:
        cells[place] = replace(cells[place], reason=letter)
    return cells


def _cell(value: Any, spread: Mapping[str, Any], geometric: bool) -> Cell:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Cell(DASH, is_number=True)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Cell(_text(value))
    std, low, high = (spread.get(name) for name in ("std", "low", "high"))
    return Cell(number(value, std, low, high, geometric=geometric), is_number=True)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        if value and all(isinstance(each, int) for each in value) and value == sorted(set(value)):
            return ranges(value)
        return ", ".join(number(each) if isinstance(each, float) else str(each) for each in value) or "none"
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def number(
    value: float | int,
    std: float | None = None,
    low: float | None = None,
    high: float | None = None,
    *,
    geometric: bool = False,
) -> str:
    """Write a number with its spread.

    Example:
        >>> number(0.123456, std=0.0234)
        '0.123 ± 0.023'
        >>> number(23345.6, low=23301.0, high=23391.0)
        '23,346 [23,301, 23,391]'
        >>> number(175.2, std=0.1, geometric=True)
        '175 ×÷ 1.11'
    """
    if isinstance(value, int):
        return f"{value:,}"
    if math.isinf(value):
        return INFINITE if value > 0 else f"{MINUS}{INFINITE}"
    if std is not None and math.isfinite(std):
        if geometric:
            return f"{_rounded(value, _places(value * math.expm1(std)))} {TIMES_OVER} {math.exp(std):.2f}"
        if std <= NEGLIGIBLE * abs(value):
            return f"{_scaled('', None, value)} {PLUS_MINUS} 0"
        return _scaled(f" {PLUS_MINUS} ", std, value, std)
    if low is not None and high is not None and math.isfinite(low) and math.isfinite(high):
        half = (high - low) / 2
        return _scaled("", half if half > NEGLIGIBLE * abs(value) else None, value, low, high)
    return _scaled("", None, value)


def _scaled(between: str, spread: float | None, value: float, *others: float) -> str:
    """A number and what stands beside it to the same place; what is very large or small as a power of ten."""
    size = max(abs(value), abs(spread or 0.0))
    power = math.floor(math.log10(size)) if size and (size >= LARGE or size < SMALL) else 0
    scale = 10.0**power
    places = _places(spread / scale) if spread else _places(value / scale, DIGITS)
    first, *rest = (_rounded(each / scale, places) for each in (value, *others))
    beside = f"{between}{rest[0]}" if len(rest) == 1 else f" [{', '.join(rest)}]" if rest else ""
    if not power:
        return first + beside
    return f"({first}{beside})e{power:+03d}" if len(rest) == 1 else f"{first}e{power:+03d}{beside}"


def _places(size: float, digits: int = OF_SPREAD) -> int:
    """Decimal places that give a number so many significant digits; none of what is 0."""
    if not size or not math.isfinite(size):
        return 0
    shown = float(f"{abs(size):.{digits - 1}e}")
    return digits - 1 - math.floor(math.log10(shown))


def _rounded(value: float, places: int) -> str:
    return f"{round(value, places) + 0.0:,.{max(places, 0)}f}"


def _heading(chosen: RunTable, name: str) -> str:
    column = chosen.declared.get(name)
    words = title(name) if name in _METRICS else name.replace("_", " ")
    words = words[:1].upper() + words[1:] if len(words) > 1 else words
    unit = column.unit if column is not None else ""
    return f"{words} [{unit}]" if unit and unit not in name.split("_") else words


def _counts(frame: pl.DataFrame, families: Mapping[str, Mapping[str, str]]) -> list[str]:
    """How many prompts entered, where a number says so."""
    columns = [spread["n"] for spread in families.values() if "n" in spread]
    counts = [count for name in columns for count in frame[name].drop_nulls().unique() if count]
    if not counts:
        return []
    least, most = min(counts), max(counts)
    return [f"n = {most:,}" if least == most else f"n from {least:,} to {most:,}"]


def _side_by_side(
    chosen: RunTable, families: Mapping[str, Any], headings: Sequence[str], rows: Sequence[Sequence[Cell]]
) -> tuple[list[str], list[list[Cell]]]:
    """A table of metrics with a column for each: a row for what the rest of the columns tell apart."""
    names, across = list(families), chosen.table.across
    value = next(name for name in names if chosen.frame.schema[name].is_float())
    order = [name for name in chosen.table.brief if name in chosen.frame[across].unique()]
    metrics = order or chosen.frame[across].unique(maintain_order=True).to_list()
    sites = chosen.frame.select(across, "site").unique() if "site" in names else None
    one_site = sites is not None and sites.height == len(metrics)  # a state stands beside the block that reads it
    of = dict(sites.iter_rows()) if sites is not None and one_site else {}
    places = [place for place, name in enumerate(names) if name not in (across, value, *(["site"] * one_site))]
    found = dict[tuple[str, ...], dict[str, Cell]]()
    first = dict[tuple[str, ...], list[Cell]]()
    for cells, metric in zip(rows, chosen.frame[across], strict=True):
        key = tuple(cells[place].text for place in places)
        first.setdefault(key, [cells[place] for place in places])
        found.setdefault(key, {})[metric] = cells[names.index(value)]
    titled = [_titled(metric, of.get(metric, "")) for metric in metrics]
    shown = [[*first[key], *(by.get(metric, Cell(DASH, True)) for metric in metrics)] for key, by in found.items()]
    words = ["State, block" if one_site and names[place] == "index" else headings[place] for place in places]
    return [*words, *titled], shown


def _titled(metric: str, site: str) -> str:
    beside = f" of the {site}" if site == "block" else ""
    return f"{title(metric)}{beside} [{unit(metric)}]" if metric in _METRICS else metric.replace("_", " ")


def _turned(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> tuple[list[str], list[list[Cell]]]:
    """Columns below one another; where there are several rows, the first names them."""
    names = [row[0].text for row in rows] if len(rows) > 1 else ["Value"]
    turned = [[Cell(heading), *(row[place] for row in rows)] for place, heading in enumerate(headings)]
    return [headings[0] if len(rows) > 1 else "Quantity", *names], turned[len(rows) > 1 :]

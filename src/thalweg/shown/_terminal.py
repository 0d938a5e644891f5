"""Sections on a terminal, and the same as plain JSON: the one file that knows rich."""

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from thalweg.shown._section import Section, Table

WIDTH = 200
"""Of what is not a terminal."""


def print_sections(sections: Iterable[Section]) -> None:
    """Print sections on stdout: of each its tables and what was found, then what was asked, each of these once."""
    facts = list[str]()
    for section in (section for section in sections if section.only != "page"):
        for table in (table for table in section.tables if table.only != "page"):
            _print_whole(table)
        for sentence in section.sentences:
            _say(f"{sentence}.")
        if section.sentences:
            _say("")
        facts.append(section.facts)
    for said in dict.fromkeys(filter(None, facts)):
        _say(f"{said}.")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """A table on stdout; text from anywhere is printed as it is, never as markup or as orders to the terminal."""
    grid = Grid(box=None, pad_edge=False)
    cells = [[_cell(value) for value in row] for row in rows]
    for index, name in enumerate(columns):
        numeric = all(_numeric(row[index]) for row in cells)
        grid.add_column(Text(printable(name)), justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        grid.add_row(*(Text(printable(cell)) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if title is not None:
        console.print(Text(printable(title)), soft_wrap=True)
    console.print(grid)


def printable(text: str) -> str:
    """``text`` with whatever a terminal would obey, such as an escape sequence, written out."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def print_json(value: Any) -> None:
    """JSON on stdout; NaN and infinity, which JSON does not have, become null."""
    sys.stdout.write(json.dumps(_plain(value), ensure_ascii=False, indent=2, default=str) + "\n")


def _print_whole(table: Table) -> None:
    """A table with its title and note and an empty line below; one without rows says so."""
    if table.rows:
        print_table(table.columns, table.rows, title=table.title or None)
    else:
        _say(f"{table.title}: none")
    if table.note:
        _say(table.note)
    _say("")


def _say(line: str) -> None:
    sys.stdout.write(printable(line) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.3g}"
    return str(value)


def _numeric(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell == "-"
    return True

"""Tables on a terminal, and the same as plain JSON."""

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """A table on stdout; text from anywhere is printed as it is, never as markup or as orders to the terminal."""
    table = Table(box=None, pad_edge=False)
    cells = [[_cell(value) for value in row] for row in rows]
    for index, name in enumerate(columns):
        numeric = all(_numeric(row[index]) for row in cells)
        table.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else 200)
    if title is not None:
        console.print(Text(printable(title)), soft_wrap=True)
    console.print(table)


def printable(text: str) -> str:
    """``text`` with whatever a terminal would obey, such as an escape sequence, written out."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def say_planted(models: Iterable[Any]) -> None:
    """What has to be known of a bundled model before its numbers are believed, on stderr."""
    said = {one.name: one.planted for one in models if one.planted}
    for name, how in said.items():
        typer.echo(printable(f"{name} is a test model: {how}."), err=True)


def print_json(value: Any) -> None:
    """JSON on stdout; NaN and infinity, which JSON does not have, become null."""
    sys.stdout.write(json.dumps(_plain(value), ensure_ascii=False, indent=2, default=str) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.3g}"
    return str(value)


def _numeric(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell == "-"
    return True

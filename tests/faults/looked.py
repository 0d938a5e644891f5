"""What every reading verb makes of a run, short enough to be compared."""

import shutil
from pathlib import Path
from typing import Any

import polars as pl
from tests.faults.performed import differing, tables

from thalweg.advice import advise
from thalweg.errors import ThalwegError
from thalweg.figures import save_figures
from thalweg.report import write_report

VERBS = ("tables", "figures", "report", "advise")


def drawn(section: Any, **_: Any) -> dict[str, bytes]:
    """What a figure would show, in place of the painter, which sees no files."""
    with pl.Config(tbl_rows=-1, tbl_cols=-1):
        return {"png": repr(section).encode()}


def look(verb: str, run: Path) -> Any:
    """Read a run as one verb does; `drawn` takes the place of matplotlib."""
    beside = run.parent / "looked"
    shutil.rmtree(beside, ignore_errors=True)
    if verb == "tables":
        return tables(run)
    if verb == "figures":
        return {file.name: file.read_bytes() for file in save_figures(run, beside)}
    if verb == "report":
        return write_report(run, beside / "report.html").read_bytes()
    return repr(advise(run))


def wrong(verb: str, run: Path, before: Any) -> str:
    """What is wrong where a verb reads a run that is no longer as it was: another answer, or no clear line."""
    try:
        seen = look(verb, run)
    except ThalwegError as error:
        return f"{verb} says more than a line: {error}" if "\n" in str(error) or len(str(error)) > 1500 else ""
    same = differing(before, seen) == [] if verb == "tables" else before == seen
    return "" if same else f"{verb} gives something else and says nothing"

"""What came of a verb: sections and tables for a person or JSON for a program on stdout, remarks on stderr."""

import sys

from thalweg.experiments import Outcome
from thalweg.shown import print_json, print_sections, print_table, printable
from thalweg.store import Run


def show(outcome: Outcome, *, as_json: bool) -> int:
    """Print an outcome and give its exit code."""
    if as_json:
        print_json(outcome.json)
    else:
        _show(outcome)
    for remark in outcome.remarks:
        _remark(remark)
    return outcome.exit_code


def _show(outcome: Outcome) -> None:
    print_sections(outcome.sections)
    for table in outcome.tables:
        print_table(table.columns, table.rows, title=table.title or None)
    if outcome.run is not None:
        _say_planted(outcome.run)
    for line in outcome.lines:
        sys.stdout.write(f"{printable(line)}\n")


def _say_planted(run: Run) -> None:
    """What has to be known of a bundled model before its numbers are believed."""
    planted = {model.name: model.planted for model in run.header.models if model.planted}
    for name, how in planted.items():
        _remark(f"{name} is a test model: {how}.")


def _remark(line: str) -> None:
    sys.stderr.write(f"{printable(line)}\n")

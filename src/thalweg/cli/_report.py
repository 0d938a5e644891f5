"""``thalweg report``."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    out: Annotated[Path | None, typer.Option(help="Where to write the report. Default: RUN/report.html.")] = None,
) -> None:
    """Draw a run as one self-contained HTML file and print its path.

    Examples:
        thalweg report runs/pythia-410m
    """
    from thalweg.report import write_report
    from thalweg.store import open_run

    typer.echo(write_report(open_run(run), out))

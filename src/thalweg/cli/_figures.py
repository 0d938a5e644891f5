"""``thalweg figures``."""

from pathlib import Path
from typing import Annotated

import typer


def figures(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the figures. Default: RUN/figures.")] = None,
) -> None:
    """Draw the paper's figures from a run's tables, as PNG and PDF, and print their paths.

    Examples:
        thalweg figures runs/pythia-410m
    """
    from thalweg.figures import save_figures
    from thalweg.store import open_run

    paths = save_figures(open_run(run), out)
    for path in paths:
        typer.echo(path)
    if not paths:
        typer.echo("nothing to draw yet: the run has no finished prompts.", err=True)

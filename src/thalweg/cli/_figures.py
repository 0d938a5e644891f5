"""``thalweg figures``."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["figures"]


def figures(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the figures. Default: RUN/figures.")] = None,
) -> None:
    """Draw the paper's figures from a run's tables, as PNG and PDF, and print their paths.

    Example:
        thalweg figures runs/pythia-410m
    """
    from thalweg.figures import save_figures
    from thalweg.store import open_run

    for path in save_figures(open_run(run), out):
        typer.echo(path)

"""What does a run say, on one page that anyone can open?

``report.html`` answers first, in words and numbers, on cards; the chapters of every experiment follow, and the run's
facts and definitions. One file, no network, and no experiment known by name.

All of it is in ``_page``, with ``page.html.j2``, ``page.css`` and ``page.js``.
"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from thalweg.paths import path_here
from thalweg.store import Run, open_run

__all__ = ["write_report"]


def write_report(run: Run | str | Path, path: Annotated[str | Path | None, Parameter(name="--out")] = None) -> Path:
    """Draw a run as one self-contained HTML file, which opens without a network, and give its path.

    On the command line:

        thalweg report runs/pythia-410m

    Args:
        run: the run or its directory, finished or not.
        path: the file to write, ``RUN/report.html`` by default.

    Returns:
        The file.

    Raises:
        RunError: there is no such run, or the file cannot be written.

    Example:
        >>> write_report("runs/pythia-410m")  # doctest: +SKIP
    """
    from thalweg.report._page import write_page  # jinja and plotly are loaded here and not for a look at the help

    run = run if isinstance(run, Run) else open_run(run)
    file = path_here("--out", path) if path is not None else run.path / "report.html"
    write_page(run, file)
    return file

"""What does a run say, on one page that anyone can open?

``report.html`` answers first, in words and numbers, on cards; the chapters of every experiment follow, and the run's
facts and definitions. One file, no network, and no experiment known by name.

In reading order: ``_page`` the page, ``_facts`` how the run was made · ``_watch`` the same over HTTP, for a run that
grows; ``page.html.j2`` and ``page.css``, ``charts.js``, ``page.js`` and ``text.js`` are what a browser reads.
"""

import logging
import webbrowser
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from thalweg.errors import UsageError
from thalweg.options import Switch
from thalweg.paths import path_here
from thalweg.store import Run, open_run

__all__ = ["write_report"]

LAST_PORT = 65535
_log = logging.getLogger("thalweg.report")


def write_report(
    run: Run | str | Path,
    path: Annotated[str | Path | None, Parameter(name="--out")] = None,
    *,
    against: Run | str | Path | None = None,
    opened: Annotated[Switch, Parameter(name="--open")] = False,
    watch: Switch = False,
    port: int | None = None,
) -> Path:
    """Draw a run as one self-contained HTML file, which opens without a network, and give its path.

    A run with several models, revisions or data sets is compared with the first of its own, see `compare`.

    On the command line:

        thalweg report runs/pythia-410m

        thalweg report runs/pythia-410m --watch --open

        thalweg report runs/q4 --against runs/bfloat16

    Args:
        run: the run or its directory, finished or not.
        path: the file to write, ``RUN/report.html`` by default.
        against: another run or its directory, what was; the page begins with what moved from it.
        opened: open it in the browser.
        watch: serve it to this machine alone and show it anew while a survey or a training writes into the run, until
            Ctrl-C.
        port: of ``watch``; by default any that is free.

    Returns:
        The file.

    Raises:
        UsageError: there is no such run, the file cannot be written, or the port is taken.

    Example:
        >>> write_report("runs/pythia-410m")  # doctest: +SKIP
    """
    from thalweg.report._page import write_page  # jinja and plotly are loaded here and not for a look at the help

    if port is not None and not (watch and 0 <= port <= LAST_PORT):
        expected = f"a number from 0 to {LAST_PORT}; 0 is any that is free" if watch else "--watch beside it"
        raise UsageError(f"--port {port}: expected {expected}.")
    run = run if isinstance(run, Run) else open_run(run)
    other = open_run(against) if isinstance(against, str | Path) else against
    file = path_here("--out", path) if path is not None else run.path / "report.html"
    if watch:
        from thalweg.report._watch import watch as watched

        watched(run, file, port or 0, against=other, opened=opened)
        return file
    write_page(run, file, other)
    if opened and not webbrowser.open(file.resolve().as_uri()):
        _log.warning("no browser could be opened here; open %s yourself.", file)
    return file

"""Progress on stderr: a bar on a terminal and in a notebook, elsewhere a line a minute."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

PAUSE = 60.0
"""Seconds between two lines."""


class Progress:
    """Counts rows and tokens; with bars, shows them.

    Attributes:
        tells: whether a line is written now and then, where no bar can be drawn.
    """

    def __init__(
        self, bars: Bars | None = None, title: str = "", total: int | None = None, *, tells: bool = False
    ) -> None:
        self._bars, self._tokens, self._since = bars or Bars(disable=True), 0, time.monotonic()
        self._task = self._bars.add_task(title, total=total, rate="")
        self.tells, self._told = tells, self._since

    def tokens(self, count: int) -> None:
        """Count the tokens of a finished batch."""
        self._tokens += count
        rate = self._tokens / max(time.monotonic() - self._since, 1e-9)
        self._bars.update(self._task, rate=f"{rate:,.0f} tokens/s")
        self._tell()

    def rows(self, count: int) -> None:
        """Count finished rows of the data."""
        self._bars.advance(self._task, count)
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        if self.tells and now - self._told >= PAUSE:
            self._told, task = now, self._bars.tasks[self._task]
            done = f"{task.completed:,.0f}" + ("" if task.total is None else f" of {task.total:,.0f}")
            sys.stderr.write(f"{task.description}: {', '.join(filter(None, (done, task.fields['rate'])))}\n")


@contextmanager
def progress_bar(title: str, total: int | None, *, shown: bool = True) -> Generator[Progress]:
    """A bar for one model on one data set.

    Args:
        title: what is being measured.
        total: rows to come; None where nobody knows.
        shown: False counts without showing anything.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    drawn = shown and (sys.stderr.isatty() or console.is_jupyter)
    with Bars(*columns, console=console, disable=not drawn) as bars:
        yield Progress(bars, title, total, tells=shown and not drawn)

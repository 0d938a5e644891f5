"""Progress on stderr: rows done, tokens a second, time left. Silent when stderr is no terminal."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


class Progress:
    """Counts rows and tokens; with bars, shows them."""

    def __init__(self, bars: Bars | None = None, title: str = "", total: int | None = None) -> None:
        self._bars, self._tokens, self._since = bars or Bars(disable=True), 0, time.monotonic()
        self._task = self._bars.add_task(title, total=total, rate="")

    def tokens(self, count: int) -> None:
        """Count the tokens of a finished batch."""
        self._tokens += count
        rate = self._tokens / max(time.monotonic() - self._since, 1e-9)
        self._bars.update(self._task, rate=f"{rate:,.0f} tokens/s")

    def rows(self, count: int) -> None:
        """Count finished rows of the data."""
        self._bars.advance(self._task, count)


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
    silent = not (shown and sys.stderr.isatty())
    with Bars(*columns, console=Console(stderr=True), disable=silent) as bars:
        yield Progress(bars, title, total)

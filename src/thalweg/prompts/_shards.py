"""Consecutive rows that are measured and written together.

Row numbers are cut into windows at the multiples of the shard size, whatever was asked for first, so that a run that is
resumed or extended reads exactly the rows that are missing. ``--limit N`` is the first N rows of the data; skipped rows
count.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from thalweg.errors import DataError
from thalweg.prompts._row import Skipped
from thalweg.prompts._source import Source
from thalweg.prompts._tokens import Prompt, Tokenization, tokenize


@dataclass(frozen=True, order=True)
class Window:
    """Rows [first, stop)."""

    first: int
    stop: int


@dataclass(frozen=True)
class Shard:
    """One window of rows, tokenized: every row is either a prompt or skipped."""

    first: int
    stop: int
    prompts: tuple[Prompt, ...]
    skipped: tuple[Skipped, ...]


def windows(limit: int | None, *, size: int = 64, done: Iterable[Window] = ()) -> Iterator[Window]:
    """The windows that are still to be read.

    Args:
        limit: How many rows of the data, or None for all: then the windows never end.
        size: Rows in a window; windows end at its multiples, at the limit, and where rows that are done begin.
        done: Rows that an earlier run finished, in any order.

    Returns:
        Windows in row order that share no row with each other or with ``done`` and, with it, cover [0, limit).

    Raises:
        DataError: A limit or size below 1.

    Example:
        >>> [(w.first, w.stop) for w in windows(10, size=4, done=[Window(0, 4), Window(4, 6)])]
        [(6, 8), (8, 10)]
    """
    for option, value in (("--limit", 1 if limit is None else limit), ("size", size)):
        if value < 1:
            raise DataError(f"{option}: expected 1 or more rows; got {value}.")
    return _windows(limit, size, sorted(window for window in done if window.first < window.stop))


def read_shards(
    source: Source, how: Tokenization, *, limit: int | None = None, size: int = 64, done: Iterable[Window] = ()
) -> Iterator[Shard]:
    """Read the rows that are missing, shard by shard, in one pass over the data.

    Rows that are done are passed over without being tokenized; if nothing is missing below the limit, the data is not
    opened. A shard whose rows were all skipped is given too, so that it can be recorded as done. The last shard ends
    where the data ends.

    Args:
        source: The prompts.
        how: The run's tokenization.
        limit: How many rows of the data, or None for all.
        size: Rows in a shard.
        done: Rows that an earlier run finished.

    Returns:
        Shards as ``windows`` cuts them.

    Raises:
        DataError: A limit below 1, or data that breaks off; shards given before stay good.
    """
    return _shards(source, how, windows(limit, size=size, done=done), limit)


def require_prompts(source: Source, kept: int, skipped: Mapping[str, int]) -> None:
    """Raise where a survey read its rows and kept none.

    Args:
        source: The prompts.
        kept: How many prompts there were.
        skipped: How many rows gave none, by reason.

    Raises:
        DataError: ``kept`` is 0; the message counts the reasons.
    """
    if kept:
        return
    reasons = ", ".join(f"{reason}: {count}" for reason, count in Counter(skipped).most_common())
    raise DataError(
        f"{source.name}: expected at least one prompt from {source.template!r}; got none "
        f"(rows skipped: {reasons or 'none, there was nothing to read'}). Change --text-field, --limit or --data."
    )


def _windows(limit: int | None, size: int, done: list[Window]) -> Iterator[Window]:
    first = 0
    while limit is None or first < limit:
        while done and done[0].first <= first:
            first = max(first, done.pop(0).stop)
        ends: list[int | None] = [(first // size + 1) * size, done[0].first if done else None, limit]
        stop = min(end for end in ends if end is not None)
        if first < stop:
            yield Window(first, stop)
        first = max(first, stop)


def _shards(source: Source, how: Tokenization, missing: Iterator[Window], limit: int | None) -> Iterator[Shard]:
    window = next(missing, None)
    if window is None:
        return
    rows = source.rows(window.first, limit)
    position = window.first
    while window is not None:
        passed, size = window.first - position, window.stop - window.first
        chosen = list(islice(rows, passed, passed + size))
        if chosen:
            tokenized = tokenize(chosen, how)
            yield Shard(window.first, window.first + len(chosen), tokenized.prompts, tokenized.skipped)
        if len(chosen) < size:
            return
        position, window = window.stop, next(missing, None)

"""Which shards of a model on a data set are finished, and what is in them.

A shard is finished once its record is there, which is written last: it names the shard's parts with the checksums of
their bytes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path

from pydantic import Field

from thalweg.errors import RunError
from thalweg.store._checksums import FileFacts
from thalweg.store._documents import read_document
from thalweg.store._facts import Count, Facts
from thalweg.store._findings_header import Coverage, Pair, PartCounts
from thalweg.store._names import Shard, is_record, part_name, record_name

Rows = tuple[int, int]
"""``first <= row < stop``"""


class ShardRecord(Facts):
    """One finished shard.

    Attributes:
        model: the model's name.
        revision: its revision.
        data: the data set's name.
        first_row: first row of the data as read, 0-based.
        stop_row: one past the last row.
        parts: by table, what its file holds.
        retry: rows among them that are not done and are to be tried again, with the reason.
        counts: what the tables cannot say.
        prompts_kept: prompts that were measured.
    """

    model: str
    revision: str
    data: str
    first_row: Count
    stop_row: Count
    parts: dict[str, FileFacts]
    retry: dict[int, str] = Field(default_factory=dict[int, str])
    counts: PartCounts = PartCounts()
    prompts_kept: Count = 0

    @property
    def done(self) -> list[Rows]:
        """The rows that are done: all but those to be tried again."""
        edges = [self.first_row - 1, *sorted(self.retry), self.stop_row]
        return [(before + 1, after) for before, after in pairwise(edges) if before + 1 < after]

    @property
    def name(self) -> str:
        """The name of its file."""
        return record_name(self.first_row, self.stop_row)

    def files(self, folder: Path) -> dict[str, Path]:
        """By table, where its part is."""
        return {table: folder / part_name(self.first_row, self.stop_row, table) for table in self.parts}


def record_of(
    shard: Shard, parts: Mapping[str, FileFacts], kept: int, counts: PartCounts, retry: Mapping[int, str]
) -> ShardRecord:
    """What is written down of a shard."""
    return ShardRecord(
        model=shard.model,
        revision=shard.revision,
        data=shard.data,
        first_row=shard.first_row,
        stop_row=shard.stop_row,
        parts=dict(parts),
        retry=dict(retry),
        counts=counts,
        prompts_kept=kept,
    )


def read_record(path: Path) -> ShardRecord:
    """Read a record; again only when it was changed.

    Raises:
        RunError: it is damaged.
    """
    try:
        seen = path.stat()
    except OSError as error:
        raise RunError(f"{path} is missing. Run the same command again.") from error
    return _read(path, seen.st_size, seen.st_mtime_ns)


def record_files(folder: Path) -> list[Path]:
    """The records of one model on one data set, by row; none where there is no folder."""
    if not folder.is_dir():
        return []
    return [folder / name for name in sorted(path.name for path in folder.iterdir()) if is_record(name)]


def records_in(folder: Path) -> list[ShardRecord]:
    """Give the finished shards of one model on one data set, by row.

    Raises:
        RunError: a record is damaged, or two hold the same rows, which no writer does.
    """
    records = sorted((read_record(path) for path in record_files(folder)), key=lambda record: record.first_row)
    done_rows(folder, records)
    return records


def done_rows(folder: Path, records: Iterable[ShardRecord]) -> list[Rows]:
    """The rows that are done, sorted.

    Raises:
        RunError: two records hold the same rows.
    """
    named = sorted((*rows, record.name) for record in records for rows in record.done)
    for (_, stop, before), (first, last, after) in pairwise(named):
        if first < stop:
            raise RunError(
                f"{folder} holds rows {first} to {min(stop, last) - 1} twice: {before} and {after}. Remove one of the "
                "two and run the same command again."
            )
    return [(first, stop) for first, stop, _ in named]


def coverage_of(pair: Pair, records: Iterable[ShardRecord], done: list[Rows]) -> Coverage:
    """Add up what the finished shards of one model on one data set hold."""
    records = list(records)
    waiting = waiting_rows(records, done)
    skipped = Counter(waiting.values())
    for record in records:
        skipped.update(record.counts.skipped)
    model, revision, data = pair
    return Coverage(
        model=model,
        revision=revision,
        data=data,
        rows_read=sum(stop - first for first, stop in done) + len(waiting),
        prompts_kept=sum(record.prompts_kept for record in records),
        skipped=dict(sorted(skipped.items())),
        nonfinite_states=sum(record.counts.nonfinite_states for record in records),
        short_prompts=sum(record.counts.short_prompts for record in records),
        bound_violations=sum(record.counts.bound_violations for record in records),
    )


def waiting_rows(records: Iterable[ShardRecord], done: list[Rows]) -> dict[int, str]:
    """The rows that are still to be tried again, with the reason."""
    named = {row: reason for record in records for row, reason in record.retry.items()}
    return {row: reason for row, reason in named.items() if not any(first <= row < stop for first, stop in done)}


@cache
def _read(path: Path, size: int, changed: int) -> ShardRecord:
    del size, changed  # a record that was written again is another one
    record = read_document(path, ShardRecord)
    if record.name != path.name:
        raise RunError(f"{path} is damaged: it is the record of {record.name}. Run the same command again.")
    return record

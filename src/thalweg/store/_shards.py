"""Which shards of a model on a data set are finished, what is in them, and what their files are called.

A shard is finished once its record is there, which is written last: it names the shard's parts with the checksums of
their bytes.
"""

import hashlib
import re
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from pydantic import Field, model_validator

from thalweg.errors import RunError
from thalweg.store._files import TEMPORARY, Count, Facts, FileFacts, read_document, remove
from thalweg.store._findings_header import Coverage, Pair, PartCounts, TableName

Rows = tuple[int, int]
"""``first <= row < stop``"""
_LONGEST = 48
_RECORD = ".json"
_SLUG = r"[A-Za-z0-9_-]+-[0-9a-f]{8}"
_FOLDER = re.compile(rf"{_SLUG}\.{_SLUG}")
_OURS = re.compile(r"\d{9,}-\d{9,}(?:\.([\w-]+)\.parquet|\.json)")


@dataclass(frozen=True, order=True)
class Shard:
    """The rows of one data set that one model was measured on, in one piece.

    Attributes:
        model: the model's name as in the header.
        revision: its revision as in the header.
        data: the data set's name as in the header.
        first_row: first row of the data as read, 0-based.
        stop_row: one past the last row. Rows in between that gave no prompt count as done.
    """

    model: str
    revision: str
    data: str
    first_row: int
    stop_row: int

    def __post_init__(self) -> None:
        if not 0 <= self.first_row < self.stop_row:
            raise ValueError(f"expected 0 <= first_row < stop_row, got {self.first_row} and {self.stop_row}")


def slug(*names: str) -> str:
    """Give a file name that is safe, readable, and different for different names.

    Args:
        names: what is to be named, such as a model and its revision; the first one stays readable.

    Returns:
        Letters, digits, ``-`` and ``_`` of the first name, and eight hexadecimal digits that stand for all of them.
    """
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{readable(names[0]) or 'unnamed'}-{digest}"


def readable(name: str) -> str:
    """Give a name's letters, digits, ``-`` and ``_``, the last 48; other names may have the same."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[-_LONGEST:].strip("-")


def pair_folder(model: str, revision: str, data: str) -> str:
    """Give the name of the folder with the parts of one model on one data set."""
    return f"{slug(model, revision)}.{slug(data)}"


def is_pair_folder(name: str) -> bool:
    """Whether a folder may hold parts."""
    return _FOLDER.fullmatch(name) is not None


def part_name(first_row: int, stop_row: int, table: str) -> str:
    """Give the file name of a shard's rows of one table."""
    return f"{first_row:09d}-{stop_row:09d}.{table}.parquet"


def record_name(first_row: int, stop_row: int) -> str:
    """Give the file name of a shard's record."""
    return f"{first_row:09d}-{stop_row:09d}{_RECORD}"


def is_record(name: str) -> bool:
    """Whether a file is a shard's record."""
    return _OURS.fullmatch(name) is not None and name.endswith(_RECORD)


def is_ours(name: str, tables: Collection[str]) -> bool:
    """Whether a file in a folder of parts is one that a writer of these tables makes, whole or not."""
    ours = _OURS.fullmatch(name.removesuffix(TEMPORARY))
    return ours is not None and ours[1] in (None, *tables)


class ShardRecord(Facts):
    """One finished shard: what names it, what the files of its parts hold, and what its tables cannot say.

    ``retry`` are the rows that are not done and are to be tried again, with the reason.
    """

    model: str
    revision: str
    data: str
    first_row: Count
    stop_row: Count
    parts: dict[TableName, FileFacts]
    retry: dict[int, str] = Field(default_factory=dict[int, str])
    counts: PartCounts = PartCounts()
    prompts_kept: Count = 0

    @model_validator(mode="after")
    def _rows_are_a_range(self) -> "ShardRecord":
        if not (self.first_row < self.stop_row and all(self.first_row <= row < self.stop_row for row in self.retry)):
            raise ValueError(
                f"rows {self.first_row} to {self.stop_row} are none, or those to be tried again are others"
            )
        return self

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


def read_record(path: Path) -> ShardRecord:
    """Read a record, again only when it was changed; RunError where it is damaged."""
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
    """The finished shards of one model on one data set, by row; RunError where a record is damaged, or as below."""
    records = sorted((read_record(path) for path in record_files(folder)), key=lambda record: record.first_row)
    done_rows(folder, records)
    return records


def done_rows(folder: Path, records: Iterable[ShardRecord]) -> list[Rows]:
    """The rows that are done, sorted; RunError where two records hold the same rows, which no writer does."""
    named = sorted((*rows, record.name) for record in records for rows in record.done)
    for (_, stop, before), (first, last, after) in pairwise(named):
        if first < stop:
            raise RunError(
                f"{folder} holds rows {first} to {min(stop, last) - 1} twice: {before} and {after}. Remove one of the "
                "two and run the same command again."
            )
    return [(first, stop) for first, stop, _ in named]


def coverage_of(pair: Pair, records: Collection[ShardRecord], done: list[Rows]) -> Coverage:
    """Add up what the finished shards of one model on one data set hold."""
    waiting = {row: reason for record in records for row, reason in record.retry.items()}
    rows = dict[str, list[int]]()
    for row, reason in sorted(waiting.items()):
        if not any(first <= row < stop for first, stop in done):
            rows.setdefault(reason, []).append(row)
    skipped = Counter({reason: len(some) for reason, some in rows.items()})
    again = skipped.total()
    for record in records:
        skipped.update(record.counts.skipped)
    left_out = sum(record.counts.left_out for record in records)
    model, revision, data = pair
    return Coverage(
        model=model,
        revision=revision,
        data=data,
        rows_read=sum(stop - first for first, stop in done) + again - left_out,
        prompts_kept=sum(record.prompts_kept for record in records),
        skipped=dict(sorted(skipped.items())),
        waiting={reason: tuple(some) for reason, some in rows.items()},
        nonfinite_states=sum(record.counts.nonfinite_states for record in records),
        short_prompts=sum(record.counts.short_prompts for record in records),
        bound_violations=sum(record.counts.bound_violations for record in records),
        bos_twice=sum(record.counts.bos_twice for record in records),
        left_out=left_out,
    )


@cache
def _read(path: Path, size: int, changed: int) -> ShardRecord:
    del size, changed  # a record that was written again is another one
    record = read_document(path, ShardRecord)
    folder = pair_folder(record.model, record.revision, record.data)
    if (folder, record.name) != (path.parent.name, path.name):
        of = record.name if record.name != path.name else f"{folder}/{record.name}"
        raise RunError(f"{path} is damaged: it is the record of {of}. Run the same command again.")
    return record


class Held:
    """The finished shards of one model on one data set, as a writer holds them in memory."""

    def __init__(self, directory: Path, pair: Pair, records: Iterable[ShardRecord] = ()) -> None:
        self.pair, self.folder = pair, directory / pair_folder(*pair)
        self._records = {record.name: record for record in records}
        self._done = done_rows(self.folder, self._records.values())
        self._coverage: Coverage | None = None

    @property
    def done(self) -> list[Rows]:
        """The row ranges that are finished, sorted."""
        return list(self._done)

    @property
    def coverage(self) -> Coverage:
        """What is finished, added up; added up again only after a change."""
        if self._coverage is None:
            self._coverage = coverage_of(self.pair, self._records.values(), self._done)
        return self._coverage

    def overlap(self, first: int, stop: int) -> Rows | None:
        """A range that is finished and shares a row with ``first <= row < stop``, if there is one."""
        place = bisect_left(self._done, (first + 1,))
        near = self._done[max(place - 1, 0) : place + 1]
        return next((rows for rows in near if rows[0] < stop and first < rows[1]), None)

    def add(self, record: ShardRecord) -> None:
        """Take a shard that was just written."""
        self._records[record.name] = record
        for rows in record.done:
            insort(self._done, rows)
        self._coverage = None

    def empty(self) -> None:
        """Remove every shard; the records first, since without its record a shard no longer counts."""
        for record in self._records.values():
            remove(self.folder / record.name, *record.files(self.folder).values())
        with suppress(OSError):  # something that is not ours may lie in it
            self.folder.rmdir()
        self._records, self._done, self._coverage = {}, [], None

"""What a writer holds in memory of what is finished; read once, when the findings are opened, and checked then."""

import logging
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from thalweg.errors import RunError
from thalweg.store._checksums import FileFacts, damaged, is_whole
from thalweg.store._files import TEMPORARY, remove
from thalweg.store._findings_header import HEADER, Coverage, FindingsHeader, Pair
from thalweg.store._names import is_ours, is_pair_folder, pair_folder
from thalweg.store._shards import Rows, ShardRecord, coverage_of, done_rows, read_record, record_files

_log = logging.getLogger("thalweg.store")


class Held:
    """The finished shards of one model on one data set."""

    def __init__(self, directory: Path, pair: Pair, records: Iterable[ShardRecord] = ()) -> None:
        """Take what was read.

        Raises:
            RunError: two records hold the same rows.
        """
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
            _remove_shard(self.folder, record)
        with suppress(OSError):  # something that is not ours may lie in it
            self.folder.rmdir()
        self._records, self._done, self._coverage = {}, [], None


def held_in(directory: Path, header: FindingsHeader) -> dict[Pair, Held]:
    """Read what is finished; what is damaged is named and removed, and what a killed writer left is removed."""
    records = dict[Pair, list[ShardRecord]]()
    for folder in sorted(path for path in directory.iterdir() if is_pair_folder(path.name)):
        for record in _intact(folder):
            records.setdefault((record.model, record.revision, record.data), []).append(record)
    held = {pair: Held(directory, pair, of_pair) for pair, of_pair in records.items()}
    if not _plans_are_there(directory, header):
        for shards in held.values():
            shards.empty()
    return held


def wholes_in(directory: Path, header: FindingsHeader) -> dict[str, tuple[FileFacts, ...]]:
    """The tables that are not in parts and are as they were written; others, and what a killed writer left, go."""
    names = [*header.named("whole"), *header.named("plan")]
    files = {name: directory / f"{name}.parquet" for name in names}
    whole = {
        name: facts
        for name in names
        if (facts := tuple(each for each in header.wholes.get(name, ()) if is_whole(files[name], each)))
    }
    for name in names:
        if name not in whole and files[name].exists():
            _log.warning("%s; it is made again.", damaged(files[name]))
            remove(files[name])
    remove(*(directory / f"{name}{TEMPORARY}" for name in (HEADER, *(file.name for file in files.values()))))
    return whole


def _plans_are_there(directory: Path, header: FindingsHeader) -> bool:
    """Whether the tables that say how the parts were measured are as they were written."""
    plans = header.named("plan")
    return all(is_whole(directory / f"{name}.parquet", *header.wholes.get(name, ())) for name in plans)


def _intact(folder: Path) -> Iterator[ShardRecord]:
    """The shards whose files hold what was written; others are named, and every other file of ours is removed."""
    intact = [record for path in record_files(folder) if (record := _checked(path))]
    kept = {path.name for record in intact for path in record.files(folder).values()} | {each.name for each in intact}
    remove(*(path for path in folder.iterdir() if is_ours(path.name) and path.name not in kept))
    yield from intact


def _checked(path: Path) -> ShardRecord | None:
    try:
        record = read_record(path)
    except RunError:
        _log.warning("%s is damaged; its rows are measured again.", path)
        return None
    for table, file in record.files(path.parent).items():
        if not is_whole(file, record.parts[table]):
            rows = f"{record.first_row} to {record.stop_row - 1}"
            _log.warning("%s; rows %s of %s are measured again.", damaged(file), rows, record.data)
            return None
    return record


def _remove_shard(folder: Path, record: ShardRecord) -> None:
    remove(folder / record.name, *record.files(folder).values())

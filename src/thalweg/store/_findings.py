"""Reading one experiment of a run: tables of what is finished, each file compared with its checksum."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.errors import RunError
from thalweg.store._checksums import damaged, is_whole, require_whole
from thalweg.store._findings_header import HEADER, FindingsHeader, Pair, read_findings_header
from thalweg.store._names import pair_folder
from thalweg.store._shards import ShardRecord, records_in


@dataclass(frozen=True)
class Findings:
    """One experiment of a run, for reading.

    Attributes:
        directory: ``RUN/<experiment>/<key>``.
        header: what was asked and how far it came.
    """

    directory: Path
    header: FindingsHeader

    @property
    def run(self) -> Path:
        """The run's directory."""
        return self.directory.parents[1]

    @property
    def missing(self) -> tuple[str, ...]:
        """The tables made from the parts that have not been written yet, as after a run that was stopped."""
        return tuple(name for name in self.header.named("whole") if not self.has(name))

    def has(self, name: str) -> bool:
        """Whether a table that is not in parts has been written."""
        return name in self.header.wholes and self._whole(name).exists()

    def table(self, name: str) -> pl.LazyFrame:
        """Give the rows of one table that are finished; none yet is an empty table.

        Rows of parts come sorted: models and data sets as listed in the header, then prompt.

        Raises:
            ValueError: there is no such table.
            RunError: a file of it is damaged or missing.
        """
        tables = self.header.tables
        if name not in tables:
            raise ValueError(f"expected one of {', '.join(tables)} as table of {self.header.experiment}, got {name!r}")
        frames = list(self._parts(name) if tables[name].kind == "parts" else self._written(name))
        return pl.concat(frames) if frames else pl.LazyFrame(schema=tables[name].types)

    def only(self, *pairs: Pair) -> "Findings":
        """The same of these models on these data sets, in this order: no part of another one is opened."""
        covered = {coverage.pair: coverage for coverage in self.header.coverage}
        chosen = tuple(covered[pair] for pair in pairs if pair in covered)
        return Findings(self.directory, self.header.model_copy(update={"coverage": chosen}))

    def _whole(self, name: str) -> Path:
        return self.directory / f"{name}.parquet"

    def _written(self, name: str) -> Iterator[pl.LazyFrame]:
        if not self.has(name):
            return
        file = self._whole(name)
        if not is_whole(file, *self.header.wholes[name]):
            now = read_findings_header(self.directory).wholes.get(name, ())  # a writer may have replaced it meanwhile
            if not is_whole(file, *now):
                raise RunError(f"{damaged(file)}. Run the same command again: it is made anew.")
        yield pl.scan_parquet(file)

    def _parts(self, name: str) -> Iterator[pl.LazyFrame]:
        schema, ordered = self.header.tables[name].types, list[Path]()
        for pair in self.header.coverage:
            folder = self.directory / pair_folder(*pair.pair)
            records = records_in(folder)
            files = [require_whole(record.files(folder)[name], record.parts[name]) for record in records]
            if _interlocked(records):
                yield from _scanned(ordered, schema)
                yield from (frame.sort("prompt", maintain_order=True) for frame in _scanned(files, schema))
                ordered = []
            else:
                ordered += files
        yield from _scanned(ordered, schema)


def findings_of(run: Path, experiment: str) -> list[Findings]:
    """Give what a run holds of one experiment, the latest last."""
    files = sorted((run / experiment).glob(f"*/{HEADER}"))
    findings = [Findings(file.parent, read_findings_header(file.parent)) for file in files]
    return sorted(findings, key=lambda each: (each.header.updated is not None, each.header.updated, each.header.key))


def _interlocked(records: list[ShardRecord]) -> bool:
    """Whether rows that were tried again lie between those of an earlier part."""
    stop = 0
    for record in records:
        if record.first_row < stop:
            return True
        stop = record.stop_row
    return False


def _scanned(files: list[Path], schema: dict[str, Any]) -> Iterator[pl.LazyFrame]:
    if files:
        yield pl.scan_parquet(files, schema=schema)

"""Writing findings: one writer of a run at a time, one record per finished shard, whole files only."""

import io
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

import filelock
import polars as pl

from thalweg.errors import RunError
from thalweg.store._files import facts_of, make_directory, remove, write_document, write_whole
from thalweg.store._findings_header import FindingsHeader, Pair, PartCounts, Session, Status, write_findings_header
from thalweg.store._header import ModelFacts, RunHeader, write_header
from thalweg.store._reader import Findings
from thalweg.store._shards import Held, Rows, Shard, ShardRecord
from thalweg.store._tables import Tables, conform

_log = logging.getLogger("thalweg.store")


class FindingsWriter:
    """The one process that writes findings of a run; made by :func:`open_findings`.

    Used in a ``with`` statement it lets go of the run at the end and, when left by an error, records whether it was
    interrupted or failed. A killed process needs no clean-up: the lock goes with it.

    Attributes:
        path: the run's directory.
        run_header: run.json as it was last written.
        header: the findings' header as it is known now.
        tables: those of the experiment.
        session: how this command runs.
    """

    def __init__(
        self,
        path: Path,
        run_header: RunHeader,
        header: FindingsHeader,
        tables: Tables,
        held: Mapping[Pair, Held],
        session: Session,
        lock: filelock.BaseFileLock,
    ) -> None:
        self.path, self.run_header, self.header, self.tables = path, run_header, header, tables
        self._directory = path / header.experiment / header.key
        self.session, self._held, self._lock = session, dict(held), lock
        self._seconds_before, self._since = header.seconds, time.monotonic()

    @property
    def missing(self) -> tuple[str, ...]:
        """The tables made from the parts that are not there."""
        return self.reading().missing

    def done(self, model: str, revision: str, data: str) -> list[Rows]:
        """Give the row ranges that are finished, ``first <= row < stop``, sorted."""
        held = self._held.get((model, revision, data))
        return held.done if held else []

    def write_part(
        self,
        shard: Shard,
        tables: Mapping[str, pl.DataFrame],
        *,
        counts: PartCounts | None = None,
        retry: Mapping[int, str] | None = None,
    ) -> None:
        """Write one finished shard: from here on a kill loses none of it.

        Tables made from the parts are removed, since they no longer describe them all; plans stay.

        Args:
            shard: model, revision, data and rows.
            tables: all that the experiment has in parts, empty where nothing was kept.
            counts: skipped rows and what else the tables cannot say.
            retry: rows of the shard that are not done and are to be tried again, with the reason.

        Raises:
            ValueError: a table or column is missing, a row belongs elsewhere, or the rows are already there.
            RunError: the directory cannot be written. Earlier parts stay.
        """
        held = self._free(shard)
        frames = self._checked(shard, tables)
        files = {name: _parquet(frame) for name, frame in frames.items()}
        facts = {name: facts_of(content) for name, content in files.items()}
        kept = list(frames.values())[-1]["prompt"].n_unique()
        record = ShardRecord(
            **asdict(shard), parts=facts, retry=dict(retry or {}), counts=counts or PartCounts(), prompts_kept=kept
        )
        self._drop_answers(**dict(self.session))
        make_directory(held.folder)
        remove(held.folder / record.name)  # of rows that were tried before and are not done
        for name, path in record.files(held.folder).items():
            write_whole(path, files[name])
        write_document(held.folder / record.name, record)
        held.add(record)

    def write_table(self, table: str, frame: pl.DataFrame) -> None:
        """Write a table that is not in parts, whole, in place of an earlier one.

        Raises:
            ValueError: another table, or a missing or unexpected column.
            RunError: the directory cannot be written.
        """
        if table not in self.tables.wholes:
            raise ValueError(f"expected one of {', '.join(self.tables.wholes)} as table, got {table!r}")
        content = _parquet(conform(table, frame, self.tables.wholes[table]))
        before, after = self.header.wholes.get(table, ())[-1:], facts_of(content)
        session = {} if self.tables.parts else dict(self.session)
        # Both are right while one takes the place of the other, so that a kill in between leaves a table to read.
        self._write(wholes={**self.header.wholes, table: (*before, after)}, **session)
        write_whole(self._directory / f"{table}.parquet", content)
        self.header = self.header.model_copy(update={"wholes": {**self.header.wholes, table: (after,)}})

    def update(self, *, status: Status | None = None, model: ModelFacts | None = None) -> None:
        """Rewrite the headers with what is known now; coverage, seconds and the time follow by themselves.

        Args:
            status: the new status, None to keep it.
            model: facts of one model of the run, learned after it was loaded.

        Raises:
            ValueError: the facts would make it another run.
            RunError: the directory cannot be written.
        """
        if model is not None:
            header = _with(self.run_header, model)
            if lines := self.run_header.identity.differences(header.identity):
                raise ValueError(f"expected facts that leave the run the same run; {'; '.join(lines)}")
            self._write_run(header)
        self._write(
            status=status or self.header.status,
            seconds=self._seconds_before + time.monotonic() - self._since,
            coverage=tuple(held.coverage for held in self._held.values()),
        )
        if status == "finished":
            for said in (coverage.not_measured for coverage in self.header.coverage if coverage.waiting):
                _log.warning(said)

    def reading(self) -> Findings:
        """The findings as they can be read now."""
        return Findings(self._directory, self.header)

    def add_model(self, model: ModelFacts) -> None:
        """Add a model or a revision to the run, such as the next step of a training; nothing happens if it is there.

        Args:
            model: facts of the model.

        Raises:
            RunError: the run holds this name and revision with other weights, dtype or BOS.
        """
        known = self.run_header.by_name
        stored = known.setdefault((model.name, model.revision), model)
        grown = self.run_header.model_copy(update={"models": tuple(known.values())})
        if lines := grown.identity.differences(_with(grown, model).identity):
            raise RunError(f"{self.path} holds {model.name} at {model.revision} already; {'; '.join(lines)}.")
        self._write_run(grown)
        for data in grown.data:
            pair = (stored.name, stored.revision, data.name)
            self._held.setdefault(pair, Held(self._directory, pair))
        self.update()

    def remove_model(self, model: str, revision: str) -> None:
        """Take out a model of which nothing was measured, as when its weights turn out damaged; the only one stays."""
        others = tuple(each for each in self.run_header.models if (each.name, each.revision) != (model, revision))
        if others and not any(held.done for held in self._of(model, revision)):
            self._write_run(self.run_header.model_copy(update={"models": others}))
            for held in self._of(model, revision):
                del self._held[held.pair]
            self.update()

    def forget(self, model: str, revision: str) -> None:
        """Remove a revision's rows, so that it can be measured again, and the tables that describe them."""
        self._drop_answers()
        for held in self._of(model, revision):
            held.empty()
        self.update()

    def hold(self) -> filelock.BaseFileLock:
        """Take the run's lock once more, for an experiment of the same process; it is released as often as taken."""
        self._lock.acquire()
        return self._lock

    def close(self) -> None:
        """Let go of the run, so that another process may write it."""
        self._lock.release()

    def __enter__(self) -> "FindingsWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                stopped = isinstance(error, KeyboardInterrupt)
                with suppress(RunError):  # the first error is the one to hear about
                    self.update(status="interrupted" if stopped else "failed")
        finally:
            self.close()

    def _write(self, **changes: object) -> None:
        self.header = write_findings_header(self._directory, self.header.model_copy(update=changes))

    def _write_run(self, header: RunHeader) -> None:
        if header != self.run_header:
            write_header(self.path, header)
            self.run_header = header

    def _of(self, model: str, revision: str) -> list[Held]:
        return [held for pair, held in self._held.items() if pair[:2] == (model, revision)]

    def _drop_answers(self, **session: object) -> None:
        """Remove the tables made from the parts: they describe every finished row, or are not there."""
        made = [name for name in self.tables.wholes if name not in self.tables.plans]
        remove(*(self._directory / f"{name}.parquet" for name in made))
        wholes = {name: facts for name, facts in self.header.wholes.items() if name not in made}
        changes = {**session, "wholes": wholes}
        if any(getattr(self.header, name) != value for name, value in changes.items()):
            self._write(**changes)

    def _free(self, shard: Shard) -> Held:
        pair = (shard.model, shard.revision, shard.data)
        held = self._held.get(pair)
        if held is None:
            raise ValueError(f"expected rows of models and data of the run, got {shard}")
        if rows := held.overlap(shard.first_row, shard.stop_row):
            raise ValueError(
                f"expected rows that are not done yet; rows {rows[0]} to {rows[1] - 1} of {shard.data} are finished, "
                f"got {shard.first_row} to {shard.stop_row - 1}"
            )
        return held

    def _checked(self, shard: Shard, tables: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
        wanted = self.tables.parts
        if set(tables) != set(wanted):
            raise ValueError(f"expected the tables {', '.join(wanted)}, got {', '.join(sorted(tables))}")
        frames = {name: conform(name, tables[name], table) for name, table in wanted.items()}
        for name, frame in frames.items():
            _check_rows(shard, name, frame)
        return frames


def _with(header: RunHeader, model: ModelFacts) -> RunHeader:
    """The header with what is known of one of its models."""
    name = (model.name, model.revision)
    models = tuple(model if (each.name, each.revision) == name else each for each in header.models)
    return header.model_copy(update={"models": models})


def _check_rows(shard: Shard, table: str, frame: pl.DataFrame) -> None:
    """Raise ValueError for a row that belongs to another shard."""
    belongs = (
        (pl.col("model") == shard.model)
        & (pl.col("revision") == shard.revision)
        & (pl.col("data") == shard.data)
        & pl.col("prompt").is_between(shard.first_row, shard.stop_row, closed="left")
    )
    strangers = frame.filter(~belongs.fill_null(value=False))
    if strangers.height:
        raise ValueError(
            f"table {table}: expected rows of {shard}; {strangers.height} belong elsewhere, such as "
            f"{strangers.select('model', 'revision', 'data', 'prompt').row(0)}"
        )


def _parquet(frame: pl.DataFrame) -> bytes:
    # Encoded in memory first, so that whatever the disk says arrives as an OSError of our own write.
    content = io.BytesIO()
    frame.write_parquet(content)
    return content.getvalue()

"""Writing a run: one writer at a time, one part per finished shard, whole files only."""

import io
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import filelock
import polars as pl

from thalweg.errors import RunError
from thalweg.store._files import TEMPORARY, os_errors_as_run_errors, write_whole
from thalweg.store._header import Coverage, DataFacts, ModelFacts, PartCounts, RunHeader, Status
from thalweg.store._headerfile import write_header
from thalweg.store._names import Shard, part_name
from thalweg.store._parts import COUNTS_KEY, committed_parts, finished_files, pair_coverage
from thalweg.store._schemas import AGGREGATES, PART_TABLES, conform


class RunWriter:
    """The one process that writes a run; made by :func:`create_or_resume`.

    Used in a ``with`` statement it lets go of the run at the end and, when left by an error, records whether it was
    interrupted or failed. A killed process needs no clean-up: the lock goes with it.
    """

    def __init__(
        self, path: Path, header: RunHeader, lock: filelock.BaseFileLock, *, session: Mapping[str, object] | None = None
    ) -> None:
        self._path = path
        self._header = header
        self._session = dict(session or {})  # how this session runs; it enters the header with its first part
        self._lock = lock
        self._covered = dict[tuple[str, str, str], Coverage]()
        self._seconds_before = header.seconds
        self._since = time.monotonic()

    @property
    def path(self) -> Path:
        """The run's directory."""
        return self._path

    @property
    def header(self) -> RunHeader:
        """The header as it was last written."""
        return self._header

    def done(self, model: str, revision: str, data: str) -> list[tuple[int, int]]:
        """Give the row ranges that are finished, ``first <= row < stop``, sorted."""
        return [(part.first_row, part.stop_row) for part in committed_parts(self._path, model, revision, data)]

    def write_part(self, shard: Shard, tables: Mapping[str, pl.DataFrame], *, counts: PartCounts | None = None) -> None:
        """Write one finished shard: from here on a kill loses none of it.

        Args:
            shard: model, revision, data and rows.
            tables: ``layers``, ``heads``, ``massive`` and ``prompts``, all four, empty where nothing was kept.
            counts: skipped rows and what else the tables cannot say.

        Raises:
            ValueError: a table or column is missing, a row belongs elsewhere, or the rows are already there.
            RunError: the directory cannot be written. Earlier parts stay.
        """
        self._check_free(shard)
        frames = self._checked(shard, tables)
        note = {
            "counts": (counts or PartCounts()).model_dump(),
            "prompts_kept": frames["prompts"].height,
            "bound_violations": frames["layers"]["bound_violated"].sum(),
        }
        # An aggregate describes every committed row or is not there: this part makes older ones out of date.
        self._remove(*(self._path / f"{table}.parquet" for table in AGGREGATES))
        self._header = self._header.model_copy(update=self._session)
        self._covered.pop((shard.model, shard.revision, shard.data), None)
        for table in PART_TABLES:  # prompts/ is last: its file is what makes the part count
            metadata = {COUNTS_KEY: json.dumps(note)} if table == "prompts" else None
            write_frame(self._path / table / part_name(shard), frames[table], metadata)

    def write_table(self, table: str, frame: pl.DataFrame) -> None:
        """Write ``profile``, ``phases`` or ``coupling`` whole, in place of an earlier one.

        Args:
            table: which of the three.
            frame: all of its rows.

        Raises:
            ValueError: another table, or a missing or unexpected column.
            RunError: the directory cannot be written.
        """
        if table not in AGGREGATES:
            raise ValueError(f"expected one of {', '.join(AGGREGATES)} as table, got {table!r}")
        write_frame(self._path / f"{table}.parquet", conform(table, frame))

    def update(
        self, *, status: Status | None = None, model: ModelFacts | None = None, data: DataFacts | None = None
    ) -> None:
        """Rewrite run.json with what is known now; coverage, seconds and the time follow by themselves.

        Args:
            status: the new status, None to keep it.
            model: facts of one model of the run, learned after it was loaded.
            data: facts of one data set of the run.

        Raises:
            ValueError: the facts would make it another run.
            RunError: the directory cannot be written.
        """
        changes: dict[str, object] = {
            "status": status or self._header.status,
            "coverage": self._coverage(),
            "seconds": self._seconds_before + time.monotonic() - self._since,
            "updated": datetime.now(UTC),
        }
        if model is not None:
            changes["models"] = tuple(
                model if (old.name, old.revision) == (model.name, model.revision) else old
                for old in self._header.models
            )
        if data is not None:
            changes["data"] = tuple(data if old.name == data.name else old for old in self._header.data)
        header = self._header.model_copy(update=changes)
        if lines := self._header.identity.differences(header.identity):
            raise ValueError(f"expected facts that leave the run the same run; {'; '.join(lines)}")
        write_header(self._path, header)
        self._header = header

    def add_model(self, model: ModelFacts) -> None:
        """Add a model or a revision to the run, such as the next step of a training; nothing happens if it is there.

        Args:
            model: facts of the model.

        Raises:
            RunError: the run holds this name and revision with other weights, dtype or BOS.
        """
        names = [(one.name, one.revision) for one in self._header.models]
        models = self._header.models
        if (model.name, model.revision) not in names:
            models = (*models, model)
        asked = self._header.model_copy(
            update={
                "models": tuple(
                    model if (one.name, one.revision) == (model.name, model.revision) else one for one in models
                )
            }
        )
        grown = self._header.model_copy(update={"models": models})
        if lines := grown.identity.differences(asked.identity):
            raise RunError(f"{self._path} holds {model.name} at {model.revision} already; {'; '.join(lines)}.")
        self._header = grown
        self.update()

    def remove_model(self, model: str, revision: str) -> None:
        """Take out a model of which nothing was measured, as when its weights turn out damaged; the only one stays."""
        others = tuple(one for one in self._header.models if (one.name, one.revision) != (model, revision))
        if others and not any(self.done(model, revision, data.name) for data in self._header.data):
            self._header = self._header.model_copy(update={"models": others})
            self.update()

    def forget(self, model: str, revision: str) -> None:
        """Remove a revision's rows, so that it can be measured again, and the aggregates that describe them."""
        self._remove(*(self._path / f"{table}.parquet" for table in AGGREGATES))
        for data in self._header.data:
            for part in committed_parts(self._path, model, revision, data.name):
                # prompts/ first: without its file the part no longer counts
                self._remove(*(self._path / table / part.name for table in reversed(PART_TABLES)))
            self._covered.pop((model, revision, data.name), None)
        self.update()

    def hold(self) -> filelock.BaseFileLock:
        """Take the run's lock once more, for an experiment of the same process; it is released as often as taken."""
        self._lock.acquire()
        return self._lock

    def close(self) -> None:
        """Let go of the run, so that another process may write it."""
        self._lock.release()

    def __enter__(self) -> "RunWriter":
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

    def clean(self) -> None:
        """Remove what a killed writer left: temporary files and parts that were never finished."""
        finished = finished_files(self._path)
        for table in PART_TABLES:
            for path in (self._path / table).iterdir():
                if path.name.endswith(TEMPORARY) or (path.suffix == ".parquet" and path.name not in finished):
                    self._remove(path)
        self._remove(*self._path.glob(f"*{TEMPORARY}"))

    def _coverage(self) -> tuple[Coverage, ...]:
        """What every pair holds; parts are read again only where some were written or removed."""
        pairs = [(model.name, model.revision, data.name) for model in self._header.models for data in self._header.data]
        unknown = [pair for pair in pairs if pair not in self._covered]
        if unknown:
            names = finished_files(self._path)
            self._covered |= {pair: pair_coverage(self._path, *pair, names=names) for pair in unknown}
        return tuple(self._covered[pair] for pair in pairs)

    def _remove(self, *paths: Path) -> None:
        for path in paths:
            with os_errors_as_run_errors(path):
                path.unlink(missing_ok=True)

    def _check_free(self, shard: Shard) -> None:
        for first, stop in self.done(shard.model, shard.revision, shard.data):
            if shard.first_row < stop and first < shard.stop_row:
                raise ValueError(
                    f"expected rows that are not done yet; rows {first} to {stop - 1} of {shard.data} are finished, "
                    f"got {shard.first_row} to {shard.stop_row - 1}"
                )

    def _checked(self, shard: Shard, tables: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
        if set(tables) != set(PART_TABLES):
            raise ValueError(f"expected the tables {', '.join(PART_TABLES)}, got {', '.join(sorted(tables))}")
        options = {"variants": self._header.variants, "keep_text": self._header.keep_text}
        frames = {table: conform(table, tables[table], **options) for table in PART_TABLES}
        for table, frame in frames.items():
            check_rows(shard, table, frame)
        return frames


def check_rows(shard: Shard, table: str, frame: pl.DataFrame) -> None:
    """Raise ValueError for a row that belongs to another shard."""
    own = (
        (pl.col("model") == shard.model)
        & (pl.col("revision") == shard.revision)
        & (pl.col("data") == shard.data)
        & pl.col("prompt").is_between(shard.first_row, shard.stop_row, closed="left")
    )
    strangers = frame.filter(~own.fill_null(value=False))
    if strangers.height:
        raise ValueError(
            f"table {table}: expected rows of {shard}; {strangers.height} belong elsewhere, such as "
            f"{strangers.select('model', 'revision', 'data', 'prompt').row(0)}"
        )


def write_frame(path: Path, frame: pl.DataFrame, metadata: dict[str, str] | None = None) -> None:
    """Write a table whole."""
    # Encoded in memory first, so that whatever the disk says arrives as an OSError of our own write.
    content = io.BytesIO()
    frame.write_parquet(content, metadata=metadata)
    write_whole(path, content.getvalue())

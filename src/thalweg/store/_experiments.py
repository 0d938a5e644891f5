"""Adding an experiment to a run, and reading it: tables in parts, resumed like the run itself.

An experiment joins the run that is there if model, data and thresholds are the run's own, and makes a run otherwise.
Its files are ``<table>.<key>.<part>.parquet`` and ``<table>.<key>.parquet`` in ``RUN/<experiment>/``; ``key`` stands
for its settings, so that one run may hold the same experiment with several of them.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import filelock
import polars as pl
from pydantic import JsonValue

from thalweg.errors import RunError
from thalweg.store._create import OF_PROMPTS, create_or_resume, locked
from thalweg.store._experiment_header import ExperimentHeader, read_experiment, write_experiment
from thalweg.store._experiment_schemas import EXPERIMENTS, conform_experiment, experiment_schema
from thalweg.store._files import TEMPORARY, os_errors_as_run_errors
from thalweg.store._header import Coverage, PartCounts, RunHeader, Status
from thalweg.store._headerfile import HEADER, read_header
from thalweg.store._names import Shard, part_name, part_prefix, row_range
from thalweg.store._parts import COUNTS_KEY
from thalweg.store._writer import RunWriter, check_rows, write_frame


@dataclass(frozen=True)
class Findings:
    """One experiment of a run, for reading.

    Attributes:
        directory: ``RUN/<experiment>``.
        header: what was asked and how far it came.
    """

    directory: Path
    header: ExperimentHeader

    def table(self, name: str) -> pl.LazyFrame:
        """Give the rows of one table that are finished; none yet is an empty table."""
        columns = experiment_schema(self.header.experiment, name)
        whole = self.directory / f"{name}.{self.header.key}.parquet"
        tables = EXPERIMENTS[self.header.experiment]
        if name in tables.wholes:
            return pl.scan_parquet(whole) if whole.exists() else pl.LazyFrame(schema=columns)
        files = [
            self.directory / f"{name}.{self.header.key}.{part}"
            for pair in self.header.coverage
            for _, _, part in _finished(self.directory, self.header, pair.model, pair.revision, pair.data)
        ]
        return pl.scan_parquet(files, schema=columns) if files else pl.LazyFrame(schema=columns)


def experiments_of(run: Path, experiment: str) -> list[Findings]:
    """Give what a run holds of one experiment, the latest last."""
    directory = run / experiment
    found = [Findings(directory, read_experiment(path)) for path in sorted(directory.glob("*.json"))]
    return sorted(found, key=lambda one: (one.header.updated is not None, one.header.updated, one.header.key))


class ExperimentWriter:
    """The one process that adds an experiment to a run; made by :func:`open_experiment`."""

    def __init__(
        self,
        run: Path,
        run_header: RunHeader,
        header: ExperimentHeader,
        pairs: tuple[tuple[str, str, str], ...],
        lock: filelock.BaseFileLock,
    ) -> None:
        self.path, self.run_header, self.header = run, run_header, header
        self._pairs, self._lock = pairs, lock
        self._directory = run / header.experiment
        self._seconds_before, self._since = header.seconds, time.monotonic()

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that a part has; the last one written makes it count."""
        return tuple(EXPERIMENTS[self.header.experiment].parts)

    def done(self, model: str, revision: str, data: str) -> list[tuple[int, int]]:
        """Give the row ranges that are finished, ``first <= row < stop``, sorted."""
        return [(first, stop) for first, stop, _ in _finished(self._directory, self.header, model, revision, data)]

    def write_part(self, shard: Shard, tables: Mapping[str, pl.DataFrame], *, counts: PartCounts | None = None) -> None:
        """Write one finished shard; tables made from the parts are removed, since they no longer describe them all.

        Tables that say what is to be measured stay.

        Raises:
            ValueError: a table or column is missing, or a row belongs elsewhere.
            RunError: the directory cannot be written. Earlier parts stay.
        """
        if set(tables) != set(self.tables):
            raise ValueError(f"expected the tables {', '.join(self.tables)}, got {', '.join(sorted(tables))}")
        frames = {name: conform_experiment(self.header.experiment, name, tables[name]) for name in self.tables}
        for name, frame in frames.items():
            check_rows(shard, name, frame)
        made = EXPERIMENTS[self.header.experiment]
        for name in set(made.wholes) - set(made.plans):
            with os_errors_as_run_errors(self._directory):
                self._whole(name).unlink(missing_ok=True)
        kept = frames[self.tables[-1]]["prompt"].n_unique()
        note = json.dumps({"counts": (counts or PartCounts()).model_dump(), "prompts_kept": kept})
        for name in self.tables:
            metadata = {COUNTS_KEY: note} if name == self.tables[-1] else None
            write_frame(self._directory / f"{name}.{self.header.key}.{part_name(shard)}", frames[name], metadata)

    def write_table(self, table: str, frame: pl.DataFrame) -> None:
        """Write a table made from the parts, whole, in place of an earlier one."""
        if table not in EXPERIMENTS[self.header.experiment].wholes:
            raise ValueError(f"{table} is written in parts")
        write_frame(self._whole(table), conform_experiment(self.header.experiment, table, frame))

    def update(self, *, status: Status | None = None) -> None:
        """Rewrite the experiment's own file with what is known now."""
        changes: dict[str, object] = {
            "status": status or self.header.status,
            "seconds": self._seconds_before + time.monotonic() - self._since,
            "coverage": tuple(_coverage(self._directory, self.header, *pair) for pair in self._pairs),
        }
        self.header = write_experiment(self._directory, self.header.model_copy(update=changes))

    def reading(self) -> Findings:
        """The experiment as it can be read now."""
        return Findings(self._directory, self.header)

    def __enter__(self) -> "ExperimentWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                with suppress(RunError):  # the first error is the one to hear about
                    self.update(status="interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        finally:
            self._lock.release()

    def clean(self) -> None:
        """Remove what a killed writer left of this experiment: temporary files."""
        for path in self._directory.glob(f"*{TEMPORARY}"):
            with os_errors_as_run_errors(path):
                path.unlink(missing_ok=True)

    def _whole(self, table: str) -> Path:
        return self._directory / f"{table}.{self.header.key}.parquet"


def open_experiment(
    path: str | Path,
    header: RunHeader,
    experiment: str,
    settings: Mapping[str, JsonValue],
    *,
    requires_run: bool = False,
    own_data: bool = False,
    holding: RunWriter | None = None,
) -> ExperimentWriter:
    """Open an experiment of a run for writing: a new one, or the same one again.

    Args:
        path: the run's directory; made if it is not there.
        header: models and data of the experiment; a run that is there may hold more of both.
        experiment: one of the experiments that the store knows.
        settings: what changes a number of it.
        requires_run: the run has to be there.
        own_data: what is read is said in the settings and need not be the run's data: only models are compared.
        holding: the run's own writer, if it is this process that has the run open.

    Returns:
        The writer, which holds the run until it is closed.

    Raises:
        RunError: the run holds other models, data or thresholds, cannot be written, or is being written by another
            process.
    """
    if experiment not in EXPERIMENTS:
        raise ValueError(f"expected one of {', '.join(EXPERIMENTS)} as experiment, got {experiment!r}")
    run = Path(path)
    if requires_run or _joins(run):
        _refuse_strangers(run, read_header(run), header, own_data=own_data)
    else:
        with create_or_resume(run, header) as writer:
            writer.update(status="finished")  # of the survey's own tables there are none to come
    lock = locked(run) if holding is None else holding.hold()
    try:
        directory = run / experiment
        with os_errors_as_run_errors(directory):
            directory.mkdir(exist_ok=True)
        asked = ExperimentHeader(
            experiment=experiment, settings=dict(settings), command=header.command, versions=header.versions
        )
        file = directory / f"{asked.key}.json"
        stored = read_experiment(file) if file.exists() else asked
        before = [(one.model, one.revision, one.data) for one in stored.coverage]
        shared = () if own_data else header.data
        now = [(model.name, model.revision, data.name) for model in header.models for data in shared]
        pairs = tuple(dict.fromkeys([*before, *now]))  # what was measured earlier, on other data too, stays readable
        pairs = pairs if EXPERIMENTS[experiment].parts else ()
        begun = stored.model_copy(update={"status": "started"})
        writer = ExperimentWriter(run, read_header(run), begun, pairs, lock)
        writer.clean()
        writer.update()
    except BaseException:
        lock.release()
        raise
    return writer


def _joins(run: Path) -> bool:
    """Whether the run is there; one without data is gone on with, and gets those of the first that shares them."""
    return (run / HEADER).exists() and bool(read_header(run).data)


def _refuse_strangers(run: Path, stored: RunHeader, asked: RunHeader, *, own_data: bool) -> None:
    """An experiment's models and data must be among the run's; what a survey alone depends on may differ."""
    models = {(model.name, model.revision) for model in asked.models}
    data = {one.name for one in asked.data}
    free = OF_PROMPTS if own_data else ("seed", "variants", "keep_text")
    comparable = asked.model_copy(update={name: getattr(stored, name) for name in free})
    common = stored.model_copy(
        update={
            "models": tuple(one for one in stored.models if (one.name, one.revision) in models) or stored.models,
            "data": stored.data if own_data else tuple(one for one in stored.data if one.name in data) or stored.data,
        }
    )
    if lines := common.identity.differences(comparable.identity):
        raise RunError(f"{run} belongs to another run; {'; '.join(lines)}. Choose another --out, or the same options.")


def _finished(
    directory: Path, header: ExperimentHeader, model: str, revision: str, data: str
) -> list[tuple[int, int, str]]:
    """Row range and part name of what is whole in every table."""
    tables = list(EXPERIMENTS[header.experiment].parts)
    prefix = part_prefix(model, revision, data)
    names = [
        {path.name.removeprefix(f"{table}.{header.key}.") for path in directory.glob(f"{table}.{header.key}.*.parquet")}
        for table in tables
    ]
    whole = set[str].intersection(*names) if names else set[str]()
    return sorted((*rows, name) for name in whole if (rows := row_range(name, prefix)))


def _coverage(directory: Path, header: ExperimentHeader, model: str, revision: str, data: str) -> Coverage:
    skipped: Counter[str] = Counter()
    rows = kept = nonfinite = 0
    last = next(reversed(EXPERIMENTS[header.experiment].parts), "")  # no parts, nothing finished, no loop
    for first, stop, name in _finished(directory, header, model, revision, data):
        stored = json.loads(pl.read_parquet_metadata(directory / f"{last}.{header.key}.{name}")[COUNTS_KEY])
        counts = PartCounts.model_validate(stored["counts"])
        rows += stop - first
        kept += stored["prompts_kept"]
        nonfinite += counts.nonfinite_states
        skipped.update(counts.skipped)
    return Coverage(
        model=model,
        revision=revision,
        data=data,
        rows_read=rows,
        prompts_kept=kept,
        nonfinite_states=nonfinite,
        skipped=dict(sorted(skipped.items())),
    )

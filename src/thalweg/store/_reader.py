"""Reading a run: lazy tables of what is finished, without torch and without the model."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.errors import RunError
from thalweg.in_notebooks import html_of
from thalweg.paths import is_there, path_here
from thalweg.store._files import AGAIN, damaged, is_whole, require_whole
from thalweg.store._findings_header import (
    HEADER,
    Coverage,
    FindingsHeader,
    Pair,
    Status,
    read_findings_header,
)
from thalweg.store._header import HEADER as RUN_HEADER
from thalweg.store._header import RESTORE, RunHeader, read_header
from thalweg.store._own import hold_rows, key_folders
from thalweg.store._shards import pair_folder, records_in


@dataclass(frozen=True)
class Findings:
    """One experiment of a run, for reading.

    Attributes:
        directory: ``RUN/<experiment>/<key>``.
        header: what was asked and how far it came.
    """

    directory: Path
    header: FindingsHeader

    def _repr_html_(self) -> str:
        return html_of("findings", self)

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
        there = self.header.status == "finished" or self._whole(name).exists()  # a finished one that is gone is damage
        return name in self.header.wholes and not self.outdated(name) and there

    def outdated(self, name: str) -> bool:
        """Whether a table was summed up by other definitions than today's; plans are not summed up."""
        return self.header.definitions != self.header.today and name in self.header.named("whole")

    def table(self, name: str) -> pl.LazyFrame:
        """Give the rows of one table that are finished; none yet is an empty table.

        Rows of parts come sorted: models and data sets as listed in the header, then prompt.

        Raises:
            RunError: there is no such table, or a file of it is damaged or missing.
        """
        tables = self.header.tables
        if name not in tables:
            raise RunError(f"{self.directory / HEADER} names no table {name!r}; expected one of {', '.join(tables)}.")
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
            now = read_findings_header(self.directory)  # a writer may have replaced it meanwhile, or be about to
            if now.status != "finished" and not file.exists():
                return
            if not is_whole(file, *now.wholes.get(name, ())):
                raise RunError(f"{damaged(file)}. {AGAIN}")
        yield _scan([file], self.header.tables[name].types)

    def _parts(self, name: str) -> Iterator[pl.LazyFrame]:
        schema, ordered = self.header.tables[name].types, list[Path]()
        for pair in self.header.coverage:
            folder = self.directory / pair_folder(*pair.pair)
            records = records_in(folder)
            kept = sum(record.prompts_kept for record in records)
            if self.header.status == "finished" and kept < pair.prompts_kept:
                raise RunError(f"{folder} holds {kept} of {pair.prompts_kept} prompts: records are missing. {AGAIN}")
            files = [require_whole(record.files(folder)[name], record.parts[name]) for record in records]
            if any(after.first_row < before.stop_row for before, after in pairwise(records)):  # rows were tried again
                yield from _scanned(ordered, schema)
                yield from (frame.sort("prompt", maintain_order=True) for frame in _scanned(files, schema))
                ordered = []
            else:
                ordered += files
        yield from _scanned(ordered, schema)


def _scanned(files: list[Path], schema: dict[str, Any]) -> Iterator[pl.LazyFrame]:
    if files:
        yield _scan(files, schema)


def _scan(files: list[Path], schema: dict[str, Any]) -> pl.LazyFrame:
    """These files and no others: no pattern, home directory or column is read out of their names."""
    for file in files:
        if _columns(file, file.stat().st_mtime_ns) != schema:
            raise RunError(f"{file} is damaged: it does not have the columns of {HEADER}. {AGAIN}")
    return pl.scan_parquet([file.absolute() for file in files], schema=schema, glob=False, hive_partitioning=False)


@cache
def _columns(file: Path, changed: int) -> dict[str, Any] | None:
    del changed  # a file that was written again is another one
    try:
        with file.open("rb") as opened:  # opened here: polars reads patterns out of names
            return dict(pl.read_parquet_schema(opened))
    except pl.exceptions.PolarsError:
        return None


SURVEY = "survey"
AGGREGATES = ("profile", "phases", "segments", "claims", "coupling")


@dataclass(frozen=True)
class Run:
    """A run on disk, finished or not.

    Rows come sorted: models and data sets as listed in the header, then prompt, then state or block and head. Parts
    are sorted when written and do not overlap, so reading sorts nothing but rows that were tried again.

    Without a survey there are no such tables, which a :class:`RunError` says.

    Attributes:
        path: the run's directory.
        header: run.json; models and data that are left out of it are not read.
    """

    path: Path
    header: RunHeader

    def __repr__(self) -> str:
        models, data = (", ".join(each.name for each in named) for named in (self.header.models, self.header.data))
        return f"Run({str(self.path)!r}, {self.status}: {models} on {data})"

    def _repr_html_(self) -> str:
        return html_of("run", self)

    @property
    def layers(self) -> pl.LazyFrame:
        """One row per model, data, prompt and state."""
        return self._parts("layers")

    @property
    def heads(self) -> pl.LazyFrame:
        """One row per model, data, prompt, block and head."""
        return self._parts("heads")

    @property
    def massive(self) -> pl.LazyFrame:
        """One row per massive entry or massive row, at most 16 per prompt and state."""
        return self._parts("massive")

    @property
    def row_norms(self) -> pl.LazyFrame:
        """One row per prompt, position and state, of every row that stands out at some state: its norm at all."""
        return self._parts("row_norms")

    @property
    def prompts(self) -> pl.LazyFrame:
        """One row per model, data and prompt."""
        return self._parts("prompts")

    @property
    def profile(self) -> pl.LazyFrame:
        """Means and spreads by state and block; :class:`RunError` before the run has come to its end."""
        profile = self._aggregate("profile")
        of_states = profile.filter(site="state").group_by("model", "revision").agg(pl.col("index").max())
        for model, revision, last in of_states.collect().iter_rows():
            facts = self.header.by_name.get((model, revision))
            if facts is not None and facts.blocks != last:
                said = f"{model} has {facts.blocks} blocks there, and {last} in profile.parquet"
                raise RunError(f"{self.path / RUN_HEADER} is damaged: {said}. {RESTORE}")
        return profile

    @property
    def phases(self) -> pl.LazyFrame:
        """Mix, compress, refine: one row per model and data; :class:`RunError` before the end."""
        return self._aggregate("phases")

    @property
    def segments(self) -> pl.LazyFrame:
        """The compress phase and the waves: one row each; :class:`RunError` before the end."""
        return self._aggregate("segments")

    @property
    def claims(self) -> pl.LazyFrame:
        """What the paper says of each phase, checked: one row a claim; :class:`RunError` before the end."""
        return self._aggregate("claims")

    @property
    def coupling(self) -> pl.LazyFrame:
        """Correlations of massive activations with compression and sinks; :class:`RunError` before the end."""
        return self._aggregate("coupling")

    @property
    def survey(self) -> Findings | None:
        """The survey, as it is on disk now; None where the run holds other experiments alone."""
        return next(reversed(self.experiments(SURVEY)), None)

    @property
    def session(self) -> FindingsHeader:
        """Command, options, packages, hardware and times: those of the survey, or else of the experiment before all."""
        if survey := self.survey:
            return survey.header
        names = sorted(path.name for path in self.path.iterdir() if path.is_dir())
        headers = [each.header for name in names for each in self.experiments(name)]
        first = min(headers, key=lambda header: str(header.started), default=None)
        return first or self._chosen.header

    @property
    def status(self) -> Status:
        """Of the survey: started, finished, interrupted or failed; without one there is nothing to finish."""
        return self._chosen.header.status

    @property
    def coverage(self) -> tuple[Coverage, ...]:
        """How far the survey came with each model and data set of the header."""
        return self._chosen.header.coverage

    @property
    def bound_violations(self) -> int:
        """States that break the theory's inequalities, over all models and data sets."""
        return self._chosen.header.bound_violations

    @property
    def nonfinite_states(self) -> int:
        """States with NaN or Inf, over all models and data sets."""
        return self._chosen.header.nonfinite_states

    @property
    def short_prompts(self) -> int:
        """Prompts too short for a sink rate, over all models and data sets."""
        return self._chosen.header.short_prompts

    @property
    def missing(self) -> tuple[str, ...]:
        """The aggregated tables that have not been written yet, as after a run that was stopped."""
        return AGGREGATES if self.survey is None else self.survey.missing

    def experiments(self, experiment: str) -> list[Findings]:
        """What the run holds of one experiment, such as ``ablation``: one entry for each settings, the latest last."""
        folders = [
            folder for folder in key_folders(self.path / experiment) if (folder / HEADER).exists() or hold_rows(folder)
        ]
        findings = [Findings(folder, read_findings_header(folder)) for folder in folders]
        return sorted(
            findings, key=lambda each: (each.header.updated is not None, each.header.updated, each.header.key)
        )

    @property
    def as_out(self) -> str:
        """The option that writes to this run, as a shell reads it."""
        return shlex.join(["--out", str(self.path)])

    def _aggregate(self, table: str) -> pl.LazyFrame:
        survey = self.survey
        if survey is not None and survey.outdated(table):
            raise RunError(
                f"{self.path} was summed up by definitions {survey.header.definitions}; today's are "
                f"{survey.header.today}. The same `thalweg survey` command with `{self.as_out}` sums it up again, "
                "or says what it lacks."
            )
        if survey is None or not survey.has(table):
            raise RunError(
                f"{self.path} has no {table}.parquet yet (status: {self.status}). Finish the run: the same "
                f"`thalweg survey` command with `{self.as_out}` goes on where it stopped."
            )
        return survey.table(table)

    def _parts(self, table: str) -> pl.LazyFrame:
        if self.survey is None:
            again = shlex.join(["thalweg", "survey", str(self.path)])
            raise RunError(f"{self.path} holds no survey, and so no {table}. Make one: `{again}`.")
        return self._chosen.table(table)

    @property
    def _chosen(self) -> Findings:
        """The survey of what the header lists, in its order."""
        survey = self.survey
        if survey is None:
            return Findings(self.path / SURVEY, FindingsHeader(experiment=SURVEY, status="finished"))
        lacking = set(self.header.pairs) - {covered.pair for covered in survey.header.coverage}
        if lacking and survey.header.status == "finished":
            there = ", ".join(sorted({covered.model for covered in survey.header.coverage}))
            model, revision, data = min(lacking)
            raise RunError(
                f"{self.path / RUN_HEADER} names {model} at {revision} on {data}, and {SURVEY}/"
                f"{survey.directory.name}/{HEADER} {there[:200]}. {RESTORE}"
            )
        return survey.only(*self.header.pairs)


def is_run(path: str | Path) -> bool:
    """Whether it is the directory of a run."""
    return is_there(Path(path) / RUN_HEADER)


def open_run(path: str | Path) -> Run:
    """Open a run for reading.

    Args:
        path: the run's directory.

    Returns:
        The run; its tables show what is finished at the moment they are asked for.

    Raises:
        RunError: it is no run, was written by another thalweg, or its run.json is damaged.
    """
    run = path_here("RUN", path)
    return Run(run, read_header(run))

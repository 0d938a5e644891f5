"""Reading a run: lazy tables of what is finished, without torch and without the model."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from thalweg.errors import RunError
from thalweg.store._findings import Findings, findings_of
from thalweg.store._findings_header import Coverage, FindingsHeader, Status
from thalweg.store._header import RunHeader
from thalweg.store._run_file import read_header

SURVEY = "survey"
AGGREGATES = ("profile", "phases", "coupling")
NOTHING = {"model": pl.String(), "revision": pl.String(), "data": pl.String(), "prompt": pl.Int64()}
"""The columns of a run without a survey."""


@dataclass(frozen=True)
class Run:
    """A run on disk, finished or not.

    Rows come sorted: models and data sets as listed in the header, then prompt, then state or block and head. Parts
    are sorted when written and do not overlap, so reading sorts nothing but rows that were tried again.

    Attributes:
        path: the run's directory.
        header: run.json; models and data that are left out of it are not read.
    """

    path: Path
    header: RunHeader

    def __repr__(self) -> str:
        models, data = (", ".join(each.name for each in named) for named in (self.header.models, self.header.data))
        return f"Run({str(self.path)!r}, {self.status}: {models} on {data})"

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
    def prompts(self) -> pl.LazyFrame:
        """One row per model, data and prompt."""
        return self._parts("prompts")

    @property
    def profile(self) -> pl.LazyFrame:
        """Means and spreads by state and block; :class:`RunError` before the run has come to its end."""
        return self._aggregate("profile")

    @property
    def phases(self) -> pl.LazyFrame:
        """Mix, compress, refine: one row per model and data; :class:`RunError` before the end."""
        return self._aggregate("phases")

    @property
    def coupling(self) -> pl.LazyFrame:
        """Correlations of massive activations with compression and sinks; :class:`RunError` before the end."""
        return self._aggregate("coupling")

    @property
    def survey(self) -> Findings | None:
        """The survey, as it is on disk now; None where the run holds other experiments alone."""
        surveys = self.experiments(SURVEY)
        return surveys[-1] if surveys else None

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
        return findings_of(self.path, experiment)

    def _aggregate(self, table: str) -> pl.LazyFrame:
        survey = self.survey
        if survey is None or not survey.has(table):
            raise RunError(
                f"{self.path} has no {table}.parquet yet (status: {self.status}). Finish the run: the same "
                f"`thalweg survey` command with `--out {self.path}` goes on where it stopped."
            )
        return survey.table(table)

    def _parts(self, table: str) -> pl.LazyFrame:
        findings = self._chosen
        return findings.table(table) if findings.header.tables else pl.LazyFrame(schema=NOTHING)

    @property
    def _chosen(self) -> Findings:
        """The survey of what the header lists, in its order."""
        survey = self.survey
        if survey is None:
            return Findings(self.path / SURVEY, FindingsHeader(experiment=SURVEY, status="finished"))
        pairs = ((model.name, model.revision, data.name) for model in self.header.models for data in self.header.data)
        return survey.only(*pairs)


def open_run(path: str | Path) -> Run:
    """Open a run for reading.

    Args:
        path: the run's directory.

    Returns:
        The run; its tables show what is finished at the moment they are asked for.

    Raises:
        RunError: it is no run, was written by another thalweg, or its run.json is damaged.
    """
    run = Path(path)
    return Run(run, read_header(run))

"""Reading a run: lazy tables of what is finished, without torch and without the model."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from thalweg.errors import RunError
from thalweg.store._experiments import Findings, experiments_of
from thalweg.store._header import RunHeader
from thalweg.store._headerfile import read_header
from thalweg.store._parts import committed_parts, finished_files
from thalweg.store._schemas import AGGREGATES, schema


@dataclass(frozen=True)
class Run:
    """A run on disk, finished or not.

    Rows come sorted: models and data sets as listed in the header, then prompt, then state or block and head. Parts
    are sorted when written and do not overlap, so reading sorts nothing.

    Attributes:
        path: the run's directory.
        header: run.json.
    """

    path: Path
    header: RunHeader

    def __repr__(self) -> str:
        models, data = (", ".join(one.name for one in named) for named in (self.header.models, self.header.data))
        return f"Run({str(self.path)!r}, {self.header.status}: {models} on {data})"

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
    def missing(self) -> tuple[str, ...]:
        """The aggregated tables that have not been written yet, as after a run that was stopped."""
        return tuple(table for table in AGGREGATES if not self._file(table).exists())

    def experiments(self, experiment: str) -> list[Findings]:
        """What the run holds of one experiment, such as ``ablation``: one entry for each settings, the latest last."""
        return experiments_of(self.path, experiment)

    def _file(self, table: str) -> Path:
        return self.path / f"{table}.parquet"

    def _aggregate(self, table: str) -> pl.LazyFrame:
        if not self._file(table).exists():
            raise RunError(
                f"{self.path} has no {table}.parquet yet (status: {self.header.status}). Finish the run: the same "
                f"`thalweg survey` command with `--out {self.path}` goes on where it stopped."
            )
        return pl.scan_parquet(self._file(table))

    def _parts(self, table: str) -> pl.LazyFrame:
        names = finished_files(self.path)
        files = [
            self.path / table / part.name
            for model in self.header.models
            for data in self.header.data
            for part in committed_parts(self.path, model.name, model.revision, data.name, names=names)
        ]
        columns = schema(table, variants=self.header.variants, keep_text=self.header.keep_text)
        return pl.scan_parquet(files, schema=columns) if files else pl.LazyFrame(schema=columns)


def open_run(path: str | Path) -> Run:
    """Open a run for reading.

    Args:
        path: the run's directory.

    Returns:
        The run; its tables show what is finished at the moment they are asked for.

    Raises:
        RunError: it is no run, was written by a newer thalweg, or its run.json is damaged.
    """
    run = Path(path)
    return Run(run, read_header(run))

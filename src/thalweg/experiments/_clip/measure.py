"""Clipping: the sink token's row with its coordinates clamped to [-gamma, gamma] (the paper, Fig. 20)."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import polars as pl

from thalweg import averages, metrics
from thalweg.errors import UsageError
from thalweg.experiments._clip.gammas import gamma_list, log_grid
from thalweg.experiments._clip.tables import TABLES
from thalweg.experiments._intervened import OnDemand, Rows, intervened, joined, scanned
from thalweg.experiments._options import index_list, index_text
from thalweg.experiments._over_prompts import measure_prompts, unfinished
from thalweg.experiments._prepare import Prepared
from thalweg.interventions import Clamp
from thalweg.prompts import Prompt
from thalweg.store import Findings, FindingsWriter, Thresholds

NAME = "clip"
AUTO = "auto"
BY = ("gamma",)
COUNT = 13
DECADES = 1000.0
"""Where no ordinary coordinate tells where to begin: this far below the massive ones."""


@dataclass(frozen=True)
class Asked:
    """What is to be clipped.

    Attributes:
        gammas: ascending; None for those between what is ordinary and what is massive.
        states: after which blocks.
        massive_only: the massive coordinates alone.
    """

    gammas: tuple[float, ...] | None
    states: tuple[int, ...]
    massive_only: bool

    @property
    def settings(self) -> dict[str, Any]:
        """What changes a number."""
        return {
            "gammas": AUTO if self.gammas is None else list(self.gammas),
            "states": index_text(self.states),
            "massive_only": self.massive_only,
        }


@dataclass(frozen=True)
class _Sweep:
    """What one data set is measured under.

    Attributes:
        gammas: ascending.
        dims: the massive coordinates of the sink's row.
        peak: the largest magnitude of them; NaN without.
        ordinary: the largest magnitude of another.
    """

    gammas: tuple[float, ...]
    dims: tuple[int, ...]
    peak: float
    ordinary: float


def asked_of(
    prepared: Prepared, gamma: str | Sequence[float] | None, states: str | Sequence[int] | None, *, massive_only: bool
) -> Asked:
    """Read what a person wrote, for one model.

    Raises:
        UsageError: a gamma that is not above 0, or a state that the model does not have.
    """
    last = prepared.header.models[0].blocks
    gammas = None if gamma is None else gamma_list(gamma)
    chosen = tuple(range(1, last + 1)) if states is None else index_list("--states", states, last)
    return Asked(gammas, chosen, massive_only)


def clipped(prepared: Prepared, asked: Asked) -> Findings:
    """Measure what is missing, and average.

    Args:
        prepared: one model, its data and where the run is.
        asked: what is to be clipped.
    """
    loading, position = OnDemand(prepared.model), prepared.options.sink_position
    with prepared.opened(NAME, asked.settings, TABLES) as writer:
        for part in prepared.of_each_source():
            if unfinished(part, writer):
                sweep = _sweep(part, writer, loading, asked)
                dims = sweep.dims if asked.massive_only else None
                clamps = [Clamp(asked.states, gamma, (position,), dims) for gamma in sweep.gammas]
                measure = partial(_measured, loading, clamps, prepared.header.thresholds)
                measure_prompts(part, writer, loading.subject, measure, _tables, title="clip")
        _write_curves(writer)
        writer.update(status="finished")
    return writer.reading()


def _sweep(part: Prepared, writer: FindingsWriter, loading: OnDemand, asked: Asked) -> _Sweep:
    """Planned once for a data set and written down, so that every prompt is measured alike."""
    key = {**part.key, "data": part.sources[0].name}
    before = writer.reading().table("sweeps").collect()
    for row in before.filter(**key).iter_rows(named=True):
        return _Sweep(tuple(row["gammas"]), tuple(row["dims"]), row["peak"], row["ordinary"])
    coordinates = scanned(part, loading)
    if not coordinates.dims and (asked.gammas is None or asked.massive_only):
        raise _nothing_to_clip(part, asked)
    sweep = _Sweep(asked.gammas or _grid(coordinates), **asdict(coordinates))
    planned = pl.DataFrame([{**key, **asdict(sweep)}], schema=TABLES["sweeps"].schema)
    writer.write_table("sweeps", pl.concat([before, planned]))
    return sweep


def _nothing_to_clip(part: Prepared, asked: Asked) -> UsageError:
    nothing = f"the row of position {part.options.sink_position} has no massive coordinate on {part.sources[0].name}"
    by_default = asked.gammas is None
    what = "name gammas, as in --gamma 1:1000:13" if by_default else "leave out --massive-only"
    return UsageError(f"{nothing}: nothing to clip{' by default' * by_default}; {what}.")


def _grid(coordinates: metrics.SinkCoordinates) -> tuple[float, ...]:
    """From what is ordinary, where nothing massive is left, to the largest there is, where nothing is clipped."""
    ordinary, peak = coordinates.ordinary, coordinates.peak
    return log_grid(ordinary if 0 < ordinary < peak else peak / DECADES, peak, COUNT)


def _measured(loading: OnDemand, clamps: Sequence[Clamp], thresholds: Thresholds, batch: Sequence[Prompt]) -> Rows:
    """One batch as it is and under every clamp."""
    parts = [joined([intervened(loading, batch, thresholds)], {"gamma": math.inf})]
    for clamp in clamps:
        clipped = intervened(loading, batch, thresholds, [clamp])
        parts.append(joined([clipped], {"gamma": clamp.gamma}))
    return joined(parts)


def _tables(_: Sequence[Prompt], results: list[Rows], key: dict[str, str]) -> Rows:
    if not results:
        return {name: pl.DataFrame(schema=TABLES[name].schema) for name in TABLES.parts}
    return joined(results, key)


def _write_curves(writer: FindingsWriter) -> None:
    """The averages over everything that is measured."""
    writer.update()
    tables, ratio = writer.reading().table, writer.run_header.thresholds.massive_ratio
    parts = tables("states"), tables("blocks"), tables("losses")
    intact = pl.col("gamma").is_infinite()
    curves = averages.changes(*parts, intact, by=BY, massive_ratio=ratio, changed="clipped")
    writer.write_table("curves", curves)

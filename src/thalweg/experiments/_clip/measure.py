"""Clipping: the sink token's row with its coordinates clamped to [-gamma, gamma] (the paper, Fig. 20)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from thalweg import metrics
from thalweg.errors import UsageError
from thalweg.experiments._clip.gammas import log_grid
from thalweg.experiments._intervened import OnDemand, Rows, intervened, joined
from thalweg.experiments._prepare import Prepared
from thalweg.experiments._sink_scan import scanned
from thalweg.interventions import Clamp
from thalweg.prompts import Prompt
from thalweg.store import EXPERIMENTS, FindingsWriter, Thresholds, experiment_schema

NAME = "clip"
AUTO = "auto"
BY = ("gamma",)
COUNT = 13
DECADES = 1000.0
"""Where no ordinary coordinate tells where to begin: this far below the massive ones."""


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


def _sweep(
    own: Prepared,
    writer: FindingsWriter,
    loading: OnDemand,
    gammas: tuple[float, ...] | None,
    *,
    massive_only: bool,
) -> _Sweep:
    """Planned once for a data set and written down, so that every prompt is measured alike."""
    key = {"model": own.models[0].name, "revision": own.models[0].revision, "data": own.sources[0].name}
    before = writer.reading().table("sweeps").collect()
    for row in before.filter(**key).iter_rows(named=True):
        return _Sweep(tuple(row["gammas"]), tuple(row["dims"]), row["peak"], row["ordinary"])
    found = scanned(own, loading)
    if not found.dims and (gammas is None or massive_only):
        nothing = f"the row of position {own.options.sink_position} has no massive coordinate on {own.sources[0].name}"
        what = "leave out --massive-only" if gammas is not None else "name gammas, as in --gamma 1:1000:13"
        raise UsageError(f"{nothing}: nothing to clip{' by default' * (gammas is None)}; {what}.")
    sweep = _Sweep(gammas or _grid(found), found.dims, found.peak, found.ordinary)
    row = {**key, "gammas": list(sweep.gammas), "dims": list(sweep.dims), "peak": sweep.peak}
    planned = pl.DataFrame([{**row, "ordinary": sweep.ordinary}], schema=experiment_schema(NAME, "sweeps"))
    writer.write_table("sweeps", pl.concat([before, planned]))
    return sweep


def _grid(found: metrics.SinkCoordinates) -> tuple[float, ...]:
    """From what is ordinary, where nothing massive is left, to the largest there is, where nothing is clipped."""
    ordinary = 0 < found.ordinary < found.peak
    return log_grid(found.ordinary if ordinary else found.peak / DECADES, found.peak, COUNT)


def _measured(loading: OnDemand, clamps: Sequence[Clamp], thresholds: Thresholds, batch: Sequence[Prompt]) -> Rows:
    """One batch as it is and under every clamp."""
    parts = [joined([intervened(loading, batch, thresholds)], {"gamma": math.inf})]
    for clamp in clamps:
        clipped = intervened(loading, batch, thresholds, [clamp])
        parts.append(joined([clipped], {"gamma": clamp.gamma}))
    return joined(parts)


def _tables(_: Sequence[Prompt], results: list[Rows], key: dict[str, str]) -> Rows:
    if not results:
        return {name: pl.DataFrame(schema=experiment_schema(NAME, name)) for name in EXPERIMENTS[NAME].parts}
    return joined(results, key)


def _write_curves(writer: FindingsWriter) -> None:
    """The averages over everything that is measured."""
    writer.update()
    tables, ratio = writer.reading().table, writer.run_header.thresholds.massive_ratio
    parts = tables("states"), tables("blocks"), tables("losses")
    found = metrics.changes(*parts, pl.col("gamma").is_infinite(), by=BY, massive_ratio=ratio)
    names = {name: name.replace("ablated", "clipped") for name in found.columns}
    writer.write_table("curves", found.rename(names))

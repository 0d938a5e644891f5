"""Clipping: the sink token's row with its coordinates clamped to [-gamma, gamma] (the paper, Fig. 20)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import polars as pl

from thalweg import metrics
from thalweg.errors import UsageError
from thalweg.experiments._gammas import gamma_list, log_grid
from thalweg.experiments._index_list import index_list, index_text
from thalweg.experiments._intervened import OnDemand, Rows, intervened, joined
from thalweg.experiments._options import SurveyOptions
from thalweg.experiments._over_prompts import measure_prompts, unfinished
from thalweg.experiments._prepare import BUNDLED_DATA, Prepared, prepare
from thalweg.experiments._sink_scan import scanned
from thalweg.interventions import Clamp
from thalweg.prompts import Prompt
from thalweg.reference import BUNDLED_MODEL
from thalweg.store import EXPERIMENTS, Experiment, ExperimentWriter, Thresholds, experiment_schema, open_experiment

__all__ = ["clip"]

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


def clip(
    model: str | Path = BUNDLED_MODEL,
    data: str | Path | Sequence[str | Path] = BUNDLED_DATA,
    *,
    gamma: str | Sequence[float] | None = None,
    states: str | Sequence[int] | None = None,
    massive_only: bool = False,
    out: str | Path | None = None,
    options: SurveyOptions | None = None,
) -> Experiment:
    """Clamp the sink token's row after every block, and measure entropy, sinks and loss against the clamp.

    Every gamma is compared with the model as it is, prompt by prompt. A run that exists is joined: finished shards are
    not measured again, and a higher ``limit`` extends it.

    Args:
        model: hub id or directory; "reference" is the model that comes with thalweg.
        data: short names, files or hub data sets; "bundled" are the prompts that come with thalweg.
        gamma: numbers, or "1,10,100", or a log grid "1:1000:13"; by default 13 values from the largest ordinary
            coordinate of the sink's row to its largest massive one.
        states: after which blocks, as numbers or "2-6"; 1..L by default.
        massive_only: clamp the massive coordinates alone.
        out: the run directory; ``runs/<model>`` by default.
        options: as for a survey.

    Returns:
        The experiment, for reading: tables ``states``, ``blocks`` and ``losses`` by gamma and prompt, gamma infinite
        being the model as it is; ``curves`` (averages and paired differences) and ``sweeps`` (the gammas, and what the
        sink's row is made of).

    Raises:
        UsageError: a gamma that is not above 0, a state that the model does not have; no massive coordinate, and no
            gamma or the massive coordinates alone are asked for; a model, a data set, an option or the directory
            cannot be used; the message says what to do.
        ProofError: the model's states or its logits cannot be told.

    Example:
        >>> curves = clip(gamma="10,100", out="runs/demo").table("curves").collect()  # doctest: +SKIP
        >>> curves.filter(site="compress", metric="compression").select("gamma", "clipped")  # doctest: +SKIP
    """
    prepared = prepare(model, data, out=out, options=options)
    if len(prepared.models) != 1:
        raise UsageError(f"clip takes one model at a time; got {len(prepared.models)}.")
    last = prepared.header.models[0].blocks
    gammas = None if gamma is None else gamma_list(gamma)
    chosen = tuple(range(1, last + 1)) if states is None else index_list("--states", states, last)
    settings = {
        "gammas": AUTO if gammas is None else list(gammas),
        "states": index_text(chosen),
        "massive_only": massive_only,
    }
    loading = OnDemand(prepared.models[0])
    with open_experiment(prepared.path, prepared.header, NAME, settings) as writer:
        for source in prepared.sources:
            own = replace(prepared, sources=[source])
            if unfinished(own, writer):
                sweep = _sweep(own, writer, loading, gammas, massive_only=massive_only)
                dims = sweep.dims if massive_only else None
                clamps = [Clamp(chosen, one, (prepared.options.sink_position,), dims) for one in sweep.gammas]
                measure = partial(_measured, loading, clamps, prepared.header.thresholds)
                measure_prompts(own, writer, loading.subject, measure, _tables, title="clip")
        _write_curves(writer)
        writer.update(status="finished")
    return writer.reading()


def _sweep(
    own: Prepared,
    writer: ExperimentWriter,
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


def _write_curves(writer: ExperimentWriter) -> None:
    """The averages over everything that is measured."""
    writer.update()
    tables, ratio = writer.reading().table, writer.run_header.thresholds.massive_ratio
    parts = tables("states"), tables("blocks"), tables("losses")
    found = metrics.changes(*parts, pl.col("gamma").is_infinite(), by=BY, massive_ratio=ratio)
    names = {name: name.replace("ablated", "clipped") for name in found.columns}
    writer.write_table("curves", found.rename(names))

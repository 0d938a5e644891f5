"""Clipping: the sink token's row with its coordinates clamped to [-gamma, gamma] (the paper, Fig. 20)."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import polars as pl

from thalweg import averages, metrics
from thalweg.errors import UsageError
from thalweg.experiments._clip.tables import TABLES
from thalweg.experiments._intervened import OnDemand, Rows, intervened, joined, scanned
from thalweg.experiments._options import index_list, index_text
from thalweg.experiments._over_prompts import measure_prompts, unfinished
from thalweg.experiments._prepare import Prepared
from thalweg.interventions import Clamp
from thalweg.prompts import Prompt
from thalweg.store import Findings, FindingsWriter, Thresholds

NAME = "clip"
BY = ("gamma",)
COUNT, MOST = 13, 1000
DECADES = 1000.0
"""Where no ordinary coordinate tells where to begin: this far below the massive ones."""


@dataclass(frozen=True)
class Asked:
    """What is to be clipped: gammas ascending, None for those between what is ordinary and what is massive."""

    gammas: tuple[float, ...] | None
    states: tuple[int, ...]
    massive_only: bool


def clipped(
    prepared: Prepared, gamma: str | Sequence[float] | None, states: str | Sequence[int] | None, *, massive_only: bool
) -> Findings:
    """Read what a person wrote, measure what is missing, and average."""
    last = prepared.header.models[0].blocks
    gammas = None if gamma is None else gamma_list(gamma)
    chosen = tuple(range(1, last + 1)) if states is None else index_list("--states", states, last)
    asked, loading = Asked(gammas, chosen, massive_only), OnDemand(prepared.model)
    settings = {
        "gammas": "auto" if gammas is None else list(gammas),
        "states": index_text(chosen),
        "massive_only": massive_only,
    }
    with prepared.opened(NAME, settings, TABLES) as writer:
        for part in prepared.of_each_source():
            if unfinished(part, writer):
                clamps = _clamps(part, writer, loading, asked)
                measure = partial(_measured, loading, clamps, prepared.header.thresholds)
                measure_prompts(part, writer, loading.subject, measure, _tables, title="clip")
        _write_curves(writer)
        writer.update(status="finished")
    return writer.reading()


def gamma_list(given: str | Sequence[float]) -> tuple[float, ...]:
    """Read numbers and log grids, ``1,10,100`` or ``1:1000:13``: every finite value once, ascending.

    Infinity, which is the model as it is, is measured anyway.

    Example:
        >>> gamma_list("1:100:3,7")
        (1.0, 7.0, 10.0, 100.0)
    """
    values = (
        [value for piece in given.split(",") for value in _values(piece)] if isinstance(given, str) else list(given)
    )
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f"--gamma takes numbers; got {value!r}.")
        if not value > 0:
            raise UsageError(f"--gamma is the largest magnitude left, above 0; got {value:g}.")
    finite = tuple(sorted({float(value) for value in values if value < math.inf}))
    if not finite:
        raise UsageError("--gamma names no finite value; expected numbers such as 1,10,100 or a log grid 1:1000:13.")
    if len(finite) > MOST:
        raise UsageError(f"--gamma takes at most {MOST} values; got {len(finite)}.")
    return finite


def log_grid(first: float, last: float, count: int) -> tuple[float, ...]:
    """Values at equal distances on a log axis, both ends included.

    Example:
        >>> log_grid(1.0, 100.0, 3)
        (1.0, 10.0, 100.0)
    """
    between = (first * (last / first) ** (step / (count - 1)) for step in range(1, count - 1))
    return (first, *(float(f"{value:.6g}") for value in between), last)


def _values(piece: str) -> Sequence[float]:
    numbers = piece.strip().split(":")
    try:
        values = [float(number) for number in numbers[:2]]
        count = int(numbers[2]) if len(numbers) == 3 else 1
    except ValueError:
        values, count = [], 0
    if len(values) == len(numbers) == 1:
        return values
    first, last = values if len(values) == 2 and len(numbers) == 3 else (math.nan, math.nan)
    if not (0 < first < last < math.inf and 2 <= count <= MOST):
        if any(value <= 0 for value in values):
            raise UsageError(f"--gamma is the largest magnitude left, above 0; got {piece.strip()!r}.")
        raise UsageError(
            f"--gamma takes numbers such as 1,10,100 and log grids first:last:count such as 1:1000:13; "
            f"got {piece.strip()!r}."
        )
    return log_grid(first, last, count)


def _clamps(part: Prepared, writer: FindingsWriter, loading: OnDemand, asked: Asked) -> list[Clamp]:
    """Planned once for a data set and written down, so that every prompt is measured alike."""
    key = {**part.key, "data": part.sources[0].name}
    before = writer.reading().table("sweeps").collect()
    sweep = before.filter(**key)
    if not sweep.height:
        sweep = pl.DataFrame([{**key, **_sweep(part, loading, asked)}], schema=TABLES["sweeps"].schema)
        writer.write_table("sweeps", pl.concat([before, sweep]))
    row = sweep.row(0, named=True)
    dims = tuple(row["dims"]) if asked.massive_only else None
    return [Clamp(asked.states, gamma, (part.options.sink_position,), dims) for gamma in row["gammas"]]


def _sweep(part: Prepared, loading: OnDemand, asked: Asked) -> dict[str, Any]:
    """The gammas of one data set, and what the sink's row is made of."""
    coordinates, by_default = scanned(part, loading), asked.gammas is None
    if not coordinates.dims and (by_default or asked.massive_only):
        nothing = f"the row of position {part.options.sink_position} has no massive coordinate"
        what = "name gammas, as in --gamma 1:1000:13" if by_default else "leave out --massive-only"
        by = " by default" if by_default else ""
        raise UsageError(f"{nothing} on {part.sources[0].name}: nothing to clip{by}; {what}.")
    return {"gammas": asked.gammas or _grid(coordinates), **asdict(coordinates)}


def _grid(coordinates: metrics.SinkCoordinates) -> tuple[float, ...]:
    """From what is ordinary, where nothing massive is left, to the largest there is, where nothing is clipped."""
    ordinary, peak = coordinates.ordinary, coordinates.peak
    return log_grid(ordinary if 0 < ordinary < peak else peak / DECADES, peak, COUNT)


def _measured(loading: OnDemand, clamps: Sequence[Clamp], thresholds: Thresholds, batch: Sequence[Prompt]) -> Rows:
    """One batch as it is and under every clamp."""
    parts = [joined([intervened(loading, batch, thresholds)], {"gamma": math.inf})]
    for clamp in clamps:
        parts.append(joined([intervened(loading, batch, thresholds, [clamp])], {"gamma": clamp.gamma}))
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

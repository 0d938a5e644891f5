"""Clipping: the massive row with its coordinates clamped to [-gamma, gamma] (the paper, Fig. 20)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import polars as pl

from thalweg import averages, metrics
from thalweg.engines import require_all, run_shards
from thalweg.errors import UsageError
from thalweg.experiments._clip.tables import TABLES
from thalweg.experiments._intervened import OnDemand, Rows, intervened, joined
from thalweg.experiments._options import index_list, index_text
from thalweg.experiments._over_prompts import batching, measure_prompts, unfinished
from thalweg.experiments._pass import StateSeen, lengths_of, read
from thalweg.experiments._planned import Plan, SegmentRows, Target, planned
from thalweg.experiments._prepare import Prepared
from thalweg.interventions import Clamp
from thalweg.prompts import Prompt, Shard, read_shards
from thalweg.store import Findings, FindingsWriter

NAME = "clip"
BY = ("gamma",)
COUNT, MOST = 13, 1000
DECADES = 1000.0
"""Where no ordinary coordinate tells where to begin: this far below the massive ones."""
ABOVE = 1.001
"""Rounding differs from batch to batch: what is this far above the largest coordinate clips none."""
JUDGED, GONE, LOWEST = 8, 0.1, 10.0
"""Where a sweep begins by default: so many prompts tell whether less than this share of the compression is left; it
begins at most so far below what is ordinary."""


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
        **prepared.by_hand,
    }
    with prepared.opened(NAME, settings, TABLES) as writer:
        for part in prepared.of_each_source():
            if unfinished(part, writer):
                found = planned(part, writer, lambda: loading.subject)
                clip = _Clipping(part, loading, asked, Plan((found.main,)))
                measure = partial(_measured, clip, _gammas(clip, writer))
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


@dataclass(frozen=True)
class _Clipping:
    """One data set, and how the row that stands out there is clamped."""

    part: Prepared
    loading: OnDemand
    asked: Asked
    plan: Plan

    @property
    def row(self) -> Target:
        """What is clamped."""
        return self.plan.main

    def sinks(self, batch: Sequence[Prompt]) -> SegmentRows:
        """Where it is."""
        return SegmentRows.of(self.plan, self.loading.subject, batch)

    def clamp(self, gamma: float, sinks: SegmentRows) -> tuple[Clamp, ...]:
        """What is changed in a batch; nothing where gamma is infinite."""
        dims = self.row.dims if self.asked.massive_only else None
        return () if math.isinf(gamma) else (Clamp(self.asked.states, gamma, sinks.positions, dims),)


def _gammas(clip: _Clipping, writer: FindingsWriter) -> tuple[float, ...]:
    """Planned once for a data set and written down, so that every prompt is measured alike."""
    key = {**clip.part.key, "data": clip.part.sources[0].name}
    before = writer.reading().table("sweeps").collect()
    sweep = before.filter(**key)
    if not sweep.height:
        row = clip.row
        planned = {"gammas": _chosen(clip), "dims": row.dims, "peak": row.largest, "ordinary": row.ordinary}
        sweep = pl.DataFrame([{**key, **planned}], schema=TABLES["sweeps"].schema)
        writer.write_table("sweeps", pl.concat([before, sweep]))
    return tuple(sweep["gammas"][0])


def _chosen(clip: _Clipping) -> tuple[float, ...]:
    """As asked for; by default from where compression is gone to where nothing is clipped."""
    row, by_default = clip.row, clip.asked.gammas is None
    if not row.dims and (by_default or clip.asked.massive_only):
        nothing = f"the row of position {row.position} has no massive coordinate"
        what = "name gammas, as in --gamma 1:1000:13" if by_default else "leave out --massive-only"
        by = " by default" if by_default else ""
        raise UsageError(f"{nothing} on {clip.part.sources[0].name}: nothing to clip{by}; {what}.")
    return clip.asked.gammas or _lowered(clip, _grid(row))


def _grid(row: Target) -> tuple[float, ...]:
    """From what is ordinary to the largest there is, where nothing is clipped."""
    largest = row.largest * ABOVE
    return log_grid(row.ordinary if 0 < row.ordinary < largest else largest / DECADES, largest, COUNT)


def _lowered(clip: _Clipping, grid: tuple[float, ...]) -> tuple[float, ...]:
    """The same, begun lower in the same steps until compression is below a tenth of the intact one, judged on a few.

    No lower than a tenth of what is ordinary.
    """
    step, least = grid[1] / grid[0], grid[0] / LOWEST
    intact = _judged(clip, math.inf)
    references = {place: reference for place, (_, reference) in intact.items()}
    whole = _compression(intact, references)
    while grid[0] / step >= least and not _compression(_judged(clip, grid[0]), references) < GONE * whole:
        grid = (float(f"{grid[0] / step:.6g}"), *grid)
    return grid


Entropies = dict[tuple[int, int], tuple[float, float]]
"""By prompt and state of the compress phase, with massive rows and, of the model as it is, without them."""


class _Entropies:
    """What compression is told by."""

    def __init__(self, clip: _Clipping, batch: Sequence[Prompt], *, changed: bool) -> None:
        self.states, self.batch = clip.row.states, batch
        ratio, alone = clip.part.options.massive_ratio, [not changed] * len(batch)
        self.reduced = metrics.StatesOfBatch(lengths_of(batch), massive_ratio=ratio, without_massive=alone)

    def state(self, index: int, seen: StateSeen, /) -> None:
        if index in self.states:
            self.reduced.see(seen.padded)

    @property
    def rows(self) -> Entropies:
        """Of every prompt at every state of the phase."""
        columns: Any = self.reduced.measured().columns
        both = zip(columns["entropy"], columns["entropy_without_massive"], strict=True)
        places = ((prompt.row, state) for state in sorted(self.states) for prompt in self.batch)
        return {
            place: (own, math.nan if others is None else others)
            for place, (own, others) in zip(places, both, strict=True)
        }


def _judged(clip: _Clipping, gamma: float) -> Entropies:
    """The first prompts under one gamma."""
    part, subject, found = clip.part, clip.loading.subject, Entropies()

    def measure(batch: Sequence[Prompt]) -> Entropies:
        clamp = clip.clamp(gamma, clip.sinks(batch))
        reader = _Entropies(clip, batch, changed=bool(clamp))
        read(subject, batch, reader, interventions=clamp)
        return reader.rows

    def keep(shard: Shard, results: list[Entropies]) -> None:
        require_all(shard)
        for rows in results:
            found.update(rows)

    shards = islice(read_shards(part.sources[0], part.tokenizations[0], limit=JUDGED, size=JUDGED), 1)
    run_shards(shards, measure=measure, finish=keep, options=batching(subject, part.options))
    return found


def _compression(entropies: Entropies, references: Mapping[tuple[int, int], float]) -> float:
    """How much lower the entropy is than that of the other rows alone, on average; NaN is no compression."""
    shares = [max(0.0, 1 - entropy / references[place]) for place, (entropy, _) in entropies.items()]
    known = [share for share in shares if math.isfinite(share)]
    return math.fsum(known) / len(known) if known else math.nan


def _measured(clip: _Clipping, gammas: Sequence[float], batch: Sequence[Prompt]) -> Rows:
    """One batch as it is and under every clamp."""
    thresholds, sinks = clip.part.header.thresholds, clip.sinks(batch)
    return joined(
        [
            joined([intervened(clip.loading, batch, thresholds, sinks, clip.clamp(gamma, sinks))], {"gamma": gamma})
            for gamma in (math.inf, *gammas)
        ]
    )


def _tables(_: Sequence[Prompt], results: list[Rows], key: dict[str, str]) -> Rows:
    if not results:
        return {name: pl.DataFrame(schema=TABLES[name].schema) for name in TABLES.parts}
    return joined(results, key)


def _write_curves(writer: FindingsWriter) -> None:
    """The averages over everything that is measured."""
    writer.update()
    tables, intact = writer.reading().table, pl.col("gamma").is_infinite()
    compress = tables("segments").filter(name=averages.COMPRESS).collect()
    parts = tables("states"), tables("blocks"), tables("losses")
    curves = averages.changes(*parts, compress, intact, by=BY, changed="clipped")
    writer.write_table("curves", curves)

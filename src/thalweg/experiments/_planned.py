"""What an intervention acts on: the rows that stand out of a model's segments, found once and written down.

They are found on the first 64 rows of a data set, or of its sample, whatever the limit, and stay when a run is
extended, so that every prompt is measured alike. A segment's row s is, in each prompt, the row that is largest at the
segment's peak; a sink position given by hand replaces it. Where no state is massive, the row at the sink position takes
its place.
"""

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from thalweg import averages, metrics
from thalweg.capture import RowsAt, Subject, brought
from thalweg.engines import require_all, run_shards
from thalweg.errors import UsageError
from thalweg.experiments._columns import SEGMENTS
from thalweg.experiments._over_prompts import batching
from thalweg.experiments._pass import EachState, RowNorms, StateSeen, lengths_of, read
from thalweg.experiments._prepare import Prepared
from thalweg.prompts import Prompt, Shard, read_shards
from thalweg.shapes import Int
from thalweg.shown import listing, span_of
from thalweg.store import FindingsWriter

ROWS = 64
SHARE = 0.5
NONE = "none"
"""Where a segment's name would be, of a row that stands out nowhere."""


@dataclass(frozen=True)
class Target:
    """One segment and its row.

    Attributes:
        name: of the segment; "none" where there is none, and its states are None.
        first, last, peak, until: as in `averages.Segment`.
        reference_state: where the row is longest inside the segment; without one, where it stands out most.
        position: where the row is most often.
        sink_position: where it is in every prompt; None for where it is largest at the peak.
        dims: its massive coordinates at the reference state, for at least half of the prompts.
        largest: their largest magnitude at the states 1..L.
        ordinary: largest magnitude of the other rows, at the segment's states.
    """

    name: str
    first: int | None
    last: int | None
    peak: int | None
    until: int | None
    reference_state: int
    position: int
    sink_position: int | None
    dims: tuple[int, ...]
    largest: float
    ordinary: float

    @property
    def states(self) -> tuple[int, ...]:
        """First to last; none without a segment."""
        return () if self.first is None or self.last is None else tuple(range(self.first, self.last + 1))

    @property
    def described(self) -> str:
        """Name and states in words: ``compress (states 12 to 28)``."""
        return (
            self.name if self.first is None or self.last is None else f"{self.name} ({span_of(self.first, self.last)})"
        )


@dataclass(frozen=True)
class Plan:
    """The segments of one model on one data set, in order of depth, or the one row that takes their place."""

    targets: tuple[Target, ...]

    @classmethod
    def of(cls, rows: pl.DataFrame) -> "Plan":
        """From the rows of the table ``segments``."""
        names = [field.name for field in fields(Target)]
        return cls(tuple(Target(**{**row, "dims": tuple(row["dims"])}) for row in rows.select(names).to_dicts()))

    @cached_property
    def main(self) -> Target:
        """The compress phase, or what takes its place."""
        return next((target for target in self.targets if target.name == averages.COMPRESS), self.targets[0])

    def narrowed(self, segment: str | int | None, data: str) -> "Plan":
        """The one that a person names, by its name or a state inside it; all where none is named.

        Raises:
            UsageError: it is none; the message lists those there are.
        """
        if segment is None:
            return self
        given = str(segment).strip()
        named = [target for target in self.targets if given == target.name != NONE or given in map(str, target.states)]
        if len(named) == 1:
            return Plan(tuple(named))
        there = [target.described for target in self.targets if target.states]
        one = f"expected one of {listing(there)}, or a state inside one"
        expected = one if there else "no state is massive, so there is none"
        raise UsageError(f"--segment {given} is no segment on {data}: {expected}.")

    def place_of(self, depth: int) -> int:
        """Which of the rows counts at a state, and for the block that reads it: compress's where no wave is."""
        inside = (
            place
            for place, target in enumerate(self.targets)
            if target.first is not None and target.until is not None and target.first <= depth <= target.until
        )
        return next(inside, self.targets.index(self.main))

    def positions(self, subject: Subject, batch: Sequence[Prompt]) -> Int[Tensor, "batch target"]:
        """Where the row of each segment is in each prompt, by a pass of its own; -1 where a prompt is too short."""
        peaks = {target.peak for target in self.targets if target.sink_position is None}
        largest = _largest(subject, batch, peaks) if peaks else {}
        columns = [
            largest[target.peak]
            if target.sink_position is None
            else [target.sink_position if target.sink_position < len(prompt) else -1 for prompt in batch]
            for target in self.targets
        ]
        return torch.tensor(columns).T


@dataclass(frozen=True)
class SegmentRows:
    """Where the rows of a plan are in the prompts of one batch."""

    plan: Plan
    positions: Int[Tensor, "batch target"]

    @classmethod
    def of(cls, plan: Plan, subject: Subject, batch: Sequence[Prompt]) -> "SegmentRows":
        """Found by a pass of their own."""
        return cls(plan, plan.positions(subject, batch))

    def at(self, depth: int) -> Int[Tensor, " batch"]:
        """The sinks at a state, and for the block that reads it; -1 for none."""
        return self.positions[:, self.plan.place_of(depth)]


def _largest(subject: Subject, batch: Sequence[Prompt], states: Set[int | None]) -> dict[int | None, list[int]]:
    """Where the largest row of some states is, in each prompt."""
    norms, shown = RowNorms(lengths_of(batch)), list[int]()

    def keep(index: int, seen: StateSeen) -> None:
        if index in states:
            norms.see(seen.padded)
            shown.append(index)

    read(subject, batch, EachState(keep))
    return dict(zip(shown, norms.every.argmax(-1).tolist(), strict=True))


def planned(
    part: Prepared, writer: FindingsWriter, subject: Callable[[], Subject], known: pl.DataFrame | None = None
) -> Plan:
    """The plan of one data set, made at its first prompt and read back ever after.

    Args:
        part: one model and one data set.
        writer: of an experiment with a plan ``segments``.
        subject: gives the model, asked for once there is something to find.
        known: rows of the same table that another experiment of the run has made.
    """
    key = {**part.key, "data": part.sources[0].name}
    before = writer.reading().table("segments").collect()
    rows = before.filter(**key)
    if not rows.height:
        rows = _found(part, subject(), key) if known is None else known.filter(**key)
        writer.write_table("segments", pl.concat([before, rows]))
    return Plan.of(rows)


@dataclass(frozen=True)
class _Sizes:
    """How large the rows of one prompt are; ``massive`` are the massive coordinates by state and position, of some."""

    prompt: Prompt
    norms: np.ndarray  # state x token
    peaks: np.ndarray
    massive: Mapping[tuple[int, int], tuple[int, ...]]

    @cached_property
    def ratios(self) -> np.ndarray:
        """Every row's norm over the median one, by state."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.norms / np.median(self.norms, axis=1, keepdims=True)

    @cached_property
    def largest(self) -> list[int]:
        """Position of the largest row, by state."""
        return self.norms.argmax(axis=1).tolist()


class _SizesOf:
    """Of every prompt of a batch."""

    def __init__(self, batch: Sequence[Prompt], sink_position: int) -> None:
        self.batch, self.sink_position = batch, sink_position
        self.norms, self.peaks, self.chosen = RowNorms(lengths_of(batch)), list[Tensor](), list[Tensor]()

    def state(self, _: int, seen: StateSeen, /) -> None:
        self.norms.see(seen.padded)
        self.peaks.append(seen.padded.abs().amax(-1))
        norms = self.norms.kept[-1]
        pads = torch.arange(norms.shape[1], device=norms.device) >= seen.lengths[:, None]
        largest = norms.masked_fill(pads, -1.0).argmax(-1, keepdim=True)
        sink = torch.full_like(largest, self.sink_position)
        self.chosen.append(RowsAt(torch.cat([largest, sink], -1)).of(seen.padded))

    @property
    def rows(self) -> list[_Sizes]:
        """One for each prompt."""
        norms, peaks, chosen = self.norms.every.numpy(), brought(self.peaks).double().numpy(), brought(self.chosen)
        found = list[_Sizes]()
        for number, prompt in enumerate(self.batch):
            own = norms[:, number, : len(prompt)]
            massive = {
                (state, position): metrics.massive_coordinates(chosen[state, number, place])
                for state, largest in enumerate(own.argmax(1).tolist())
                for place, position in enumerate((largest, self.sink_position))
                if position < len(prompt)
            }
            found.append(_Sizes(prompt, own, peaks[:, number, : len(prompt)], massive))
        return found


def _found(part: Prepared, subject: Subject, key: Mapping[str, str]) -> pl.DataFrame:
    """The segments of one data set, by its first rows."""
    options, sizes = part.options, list[_Sizes]()
    sink = part.header.thresholds.sink_position

    def measure(batch: Sequence[Prompt]) -> list[_Sizes]:
        reader = _SizesOf(batch, sink)
        read(subject, batch, reader)
        return reader.rows

    def keep(shard: Shard, results: list[list[_Sizes]]) -> None:
        require_all(shard)
        sizes.extend(prompt for batch in results for prompt in batch)

    shards = islice(read_shards(part.sources[0], part.tokenizations[0], limit=ROWS, size=ROWS), 1)
    run_shards(shards, measure=measure, finish=keep, options=batching(subject, options))
    layers = _layers(sizes, part.model.tokenizer).with_columns(pl.lit(value).alias(name) for name, value in key.items())
    largest = layers.select(*key, "prompt", "state", "token", position="row_position")
    found = averages.segments(layers, None, largest, massive_ratio=options.massive_ratio)
    used = {
        prompt for course in averages.courses(layers, massive_ratio=options.massive_ratio) for prompt in course.prompts
    }
    counted, by_hand = [size for size in sizes if size.prompt.row in used], options.sink_position
    targets = [
        {**row, **_row_of(row, counted, by_hand, options.massive_ratio)} for row in found.iter_rows(named=True)
    ] or [{**key, "name": NONE, "position_share": 1.0, **_row_of({}, counted, sink, options.massive_ratio)}]
    return pl.DataFrame([{name: row.get(name) for name in SEGMENTS.schema} for row in targets], schema=SEGMENTS.schema)


def _layers(sizes: Sequence[_Sizes], tokenizer: Any) -> pl.DataFrame:
    """What segments are found in: the largest row of every state, against the median one."""
    rows = [
        (size.prompt.row, len(size.prompt), state, size.ratios[state].max(), position, size.prompt.tokens[position])
        for size in sizes
        for state, position in enumerate(size.largest)
    ]
    names = ("prompt", "tokens", "state", "row_ratio", "row_position", "token")
    schema = {**dict.fromkeys(names, pl.Int64), "row_ratio": pl.Float64}
    layers = pl.DataFrame(rows, schema=schema, orient="row")
    texts = {token: tokenizer.decode([token]) for token in layers["token"].unique()}
    return layers.with_columns(pl.col("token").replace_strict(texts, return_dtype=pl.String))


def _row_of(
    segment: Mapping[str, Any], sizes: Sequence[_Sizes], sink_position: int | None, massive_ratio: float
) -> dict[str, Any]:
    """What is known of a segment's row, or of the one at a position, over prompts."""
    at = {size.prompt.row: size.largest[segment["peak"]] if sink_position is None else sink_position for size in sizes}
    reached = [size for size in sizes if at[size.prompt.row] < len(size.prompt)]
    own = [(size, at[size.prompt.row]) for size in reached]
    last = len(sizes[0].norms) - 1 if sizes else 0
    states = range(segment["first"], segment["last"] + 1) if segment else range(last + 1)
    # without a segment the last state would be the longest one's
    lengths = [(size.norms if segment else size.ratios)[states, row] for size, row in own]
    with np.errstate(divide="ignore"):
        reference = states[int(np.log(lengths).mean(axis=0).argmax())] if own else 0
    known = [(size, row) for size, row in own if (size.ratios[states, row] >= massive_ratio).any()]
    votes = [size.massive[reference, row] for size, row in known if (reference, row) in size.massive]
    dims = [dim for dim in sorted({*sum(votes, ())}) if sum(dim in vote for vote in votes) >= SHARE * len(votes)]
    enough = bool(known) and len(known) >= SHARE * len(sizes)
    return {
        "reference_state": reference,
        **({} if sink_position is None else {"position": sink_position, "position_share": 1.0}),
        "sink_position": sink_position,
        "dims": dims if enough else [],
        "largest": max((float(size.peaks[1:, row].max()) for size, row in known), default=math.nan)
        if enough
        else math.nan,
        "ordinary": max((_ordinary(size, row, states) for size, row in own), default=math.nan),
    }


def _ordinary(size: _Sizes, row: int, states: Sequence[int]) -> float:
    """Largest magnitude of the other rows of a prompt."""
    return float(np.delete(size.peaks[states], row, axis=1).max(initial=0.0))

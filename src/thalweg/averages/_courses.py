"""At which states does a row stand out: the compress phase, earlier and later waves.

Conventions: row ratios of a model are geometric means over prompts. Prompts of fewer than three tokens, or with a row
ratio that is not finite at some state, are left out and counted. A state is massive for a prompt if `row_ratio` >=
massive_ratio, for the model if it is for at least half of the prompts. State 0 is what enters block 0: no block wrote
it, and it belongs to no segment.

- Compress = the states around the peak whose row ratio is at least the root of the peak's: halfway, in logarithms,
  between no row standing out (1) and the peak (full width at half maximum). The peak is the largest row ratio among the
  massive states of 1..L, the first if tied. There are no gaps, but for dips whose states are all massive and behind
  which the ratio is as high again.
- Runs = maximal runs of massive states in 1..L; two are one where the ratio between them stays at half the threshold.
- Waves = runs that neither overlap nor touch compress; what they leave behind lasts until the ratio is below half the
  threshold. Massive states outside compress of a run that does are its shoulders.
- Segment = compress or a wave. Its row is, in each prompt, the one that is largest at the segment's peak.

No torch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from thalweg.options import MASSIVE_RATIO

KEYS = ["model", "revision", "data"]
SHARE = 0.5
HALFWAY, LINES = 0.5, (0.4, 0.6)
THRESHOLDS = (5.0, 10.0, 20.0)
MOST_MOVED = 2
FEWEST_TOKENS = 3
COMPRESS = "compress"


@dataclass(frozen=True, slots=True)
class Segment:
    """The compress phase or a wave.

    Attributes:
        name: "compress", "wave", or "wave 1", "wave 2" where there are several.
        first: its first state.
        last: its last state.
        peak: the state of the largest row ratio.
        run_first: first state of its run of massive states, shoulders included.
        until: the last state that means of mix and refine leave out with it.
        dips: states inside that are below the line.
        shoulders: massive states outside compress of a run that overlaps or touches it.
    """

    name: str
    first: int
    last: int
    peak: int
    run_first: int
    until: int
    dips: tuple[int, ...] = ()
    shoulders: tuple[int, ...] = ()

    @property
    def states(self) -> range:
        """First to last."""
        return range(self.first, self.last + 1)


def segments_of(
    ratios: Sequence[float] | np.ndarray,
    massive: Sequence[bool] | np.ndarray,
    /,
    *,
    massive_ratio: float = MASSIVE_RATIO,
    power: float = HALFWAY,
) -> tuple[Segment, ...]:
    """The segments of one trajectory of row ratios, in order of depth; none where no state of 1..L is massive.

    Args:
        ratios: row ratio of the states 0..L.
        massive: whether each of them is massive.
        massive_ratio: the threshold, half of which joins two runs and ends a wave.
        power: of the peak's ratio, where compress begins and ends.

    Example:
        1, 1, 12, 6, 2, 100, 50, 12, 3: a wave at state 2, which lasts until 3, and compress at 5 to 7 (the root of 100
        is 10).
    """
    span = _compress(ratios, massive, power)
    if span is None:
        return ()
    first, last, peak = span
    runs = _runs(ratios, massive, massive_ratio / 2)
    touching = [(begin, end) for begin, end in runs if begin <= last + 1 and end >= first - 1]
    compress = Segment(
        COMPRESS,
        first,
        last,
        peak,
        run_first=min((begin for begin, _ in touching), default=first),
        until=last,
        dips=tuple(state for state in range(first, last + 1) if ratios[state] < ratios[peak] ** power),
        shoulders=tuple(
            state
            for begin, end in touching
            for state in range(begin, end + 1)
            if massive[state] and not first <= state <= last
        ),
    )
    apart = [run for run in runs if run not in touching]
    waves = [
        Segment(
            f"wave {number}" if len(apart) > 1 else "wave",
            begin,
            end,
            max(range(begin, end + 1), key=lambda state: ratios[state] if massive[state] else -math.inf),
            run_first=begin,
            until=_until(ratios, end, massive_ratio / 2, first if begin < first else len(ratios)),
        )
        for number, (begin, end) in enumerate(apart, start=1)
    ]
    return tuple(sorted([compress, *waves], key=lambda segment: segment.first))


def _compress(
    ratios: Sequence[float] | np.ndarray, massive: Sequence[bool] | np.ndarray, power: float
) -> tuple[int, int, int] | None:
    """First state, last state and peak."""
    candidates = [state for state in range(1, len(ratios)) if massive[state]]
    if not candidates:
        return None
    peak = max(candidates, key=lambda state: ratios[state])
    line = ratios[peak] ** power
    below, above = (_edge(ratios, massive, peak, line, step) for step in (-1, 1))
    return below, above, peak


def _edge(
    ratios: Sequence[float] | np.ndarray, massive: Sequence[bool] | np.ndarray, peak: int, line: float, step: int
) -> int:
    """The last state in one direction that is above the line, over dips that are massive throughout."""
    edge, state = peak, peak + step
    while 1 <= state < len(ratios) and (ratios[state] >= line or massive[state]):
        edge = state if ratios[state] >= line else edge
        state += step
    return edge


def _runs(
    ratios: Sequence[float] | np.ndarray, massive: Sequence[bool] | np.ndarray, floor: float
) -> list[tuple[int, int]]:
    runs = list[tuple[int, int]]()
    for state in (state for state in range(1, len(ratios)) if massive[state]):
        if runs and all(ratios[between] >= floor for between in range(runs[-1][1] + 1, state)):
            runs[-1] = (runs[-1][0], state)
        else:
            runs.append((state, state))
    return runs


def _until(ratios: Sequence[float] | np.ndarray, last: int, floor: float, stop: int) -> int:
    while last + 1 < stop and ratios[last + 1] >= floor:
        last += 1
    return last


@dataclass(frozen=True)
class Course:
    """The row ratios of one model on one data set, and what follows from them.

    Attributes:
        key: model, revision and data.
        prompts: numbers of the prompts that count, ascending.
        left_out: how many do not.
        ratios: prompt x state.
        massive_ratio: the threshold.
    """

    key: dict[str, Any]
    prompts: np.ndarray
    left_out: int
    ratios: np.ndarray
    massive_ratio: float

    @cached_property
    def mean(self) -> np.ndarray:
        """Geometric mean by state; NaN without prompts."""
        if not len(self.prompts):
            return np.full(self.last + 1, np.nan)
        logarithms: np.ndarray = np.log(self.ratios)
        sums = [math.fsum(column) for column in logarithms.T]  # exact: the order of rows is nothing
        return np.asarray(np.exp(np.array(sums) / len(self.prompts)))

    @cached_property
    def massive(self) -> np.ndarray:
        """Whether each state is massive for the model."""
        return self._massive_at(self.massive_ratio)

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """In order of depth."""
        return segments_of(self.mean, self.massive, massive_ratio=self.massive_ratio)

    @property
    def compress(self) -> Segment | None:
        """The compress phase."""
        return next((segment for segment in self.segments if segment.name == COMPRESS), None)

    @property
    def last(self) -> int:
        """L, the number of the last state."""
        return self.ratios.shape[1] - 1

    def phases(self) -> list[str | None]:
        """The phase of every state: mix, compress, refine, or wave; None for a massive state 0, or without phases."""
        if self.compress is None:
            return [None] * (self.last + 1)
        first, last = self.compress.first, self.compress.last
        found: list[str | None] = [
            "mix" if state < first else COMPRESS if state <= last else "refine" for state in range(self.last + 1)
        ]
        for wave in (segment for segment in self.segments if segment.name != COMPRESS):
            found[wave.first : wave.until + 1] = ["wave"] * (wave.until + 1 - wave.first)
        if self.massive[0]:
            found[0] = None
        return found

    def lines(self, power: float) -> tuple[int, int] | None:
        """First and last state of compress where the line is drawn at this power of the peak."""
        span = _compress(self.mean, self.massive, power)
        return None if span is None else span[:2]

    def overlapping_runs(self, threshold: float) -> list[tuple[int, int]]:
        """Runs of massive states that overlap compress, were the threshold another."""
        if self.compress is None:
            return []
        runs = _runs(self.mean, self._massive_at(threshold), threshold / 2)
        return [run for run in runs if run[0] <= self.compress.last and run[1] >= self.compress.first]

    def agreement(self) -> tuple[float, float]:
        """Share of prompts whose own compress has the same first, and the same last state."""
        if self.compress is None:
            return math.nan, math.nan
        spans = [_compress(row, row >= self.massive_ratio, HALFWAY) for row in self.ratios]
        first = sum(span is not None and span[0] == self.compress.first for span in spans)
        last = sum(span is not None and span[1] == self.compress.last for span in spans)
        return first / len(spans), last / len(spans)

    def _massive_at(self, threshold: float) -> np.ndarray:
        if not len(self.prompts):
            return np.zeros(self.last + 1, dtype=bool)
        return np.asarray(np.mean(self.ratios >= threshold, axis=0) >= SHARE)


def courses(
    layers: pl.LazyFrame | pl.DataFrame, *, massive_ratio: float = MASSIVE_RATIO, ratio: str = "row_ratio"
) -> list[Course]:
    """The course of every model on every data set.

    Args:
        layers: rows by prompt and state, with `row_ratio`; with `tokens`, short prompts are left out.
        massive_ratio: the ratio from which a state is massive.
        ratio: the column that is compared with it: "row_ratio" of the largest row, or "sink_ratio" of the sink's.

    Example:
        One prompt with row ratios 1, 30, 1: mean 1, 30, 1, compress at state 1.
    """
    names = layers.collect_schema().names()
    tokens = pl.col("tokens") if "tokens" in names else pl.lit(FEWEST_TOKENS)
    rows = layers.lazy().select(*KEYS, "prompt", "state", row_ratio=ratio, tokens=tokens).collect()
    return [
        _course(dict(zip(KEYS, key, strict=True)), group, massive_ratio)
        for key, group in sorted(rows.group_by(KEYS), key=lambda pair: tuple(map(str, pair[0])))
    ]


def _course(key: dict[str, Any], rows: pl.DataFrame, massive_ratio: float) -> Course:
    last, prompts = int(rows["state"].max()), rows["prompt"].unique().sort()  # pyright: ignore[reportArgumentType]
    ratios = np.full((len(prompts), last + 1), np.nan)
    places = np.searchsorted(prompts.to_numpy(), rows["prompt"].to_numpy())
    ratios[places, rows["state"].to_numpy()] = rows["row_ratio"].cast(pl.Float64).fill_null(math.nan).to_numpy()
    fewest = np.full(len(prompts), FEWEST_TOKENS)
    fewest[places] = rows["tokens"].to_numpy()
    used = np.isfinite(ratios).all(axis=1) & (fewest >= FEWEST_TOKENS)
    return Course(key, prompts.to_numpy()[used], int((~used).sum()), ratios[used], massive_ratio)


def boundaries(
    layers: pl.LazyFrame | pl.DataFrame, *, massive_ratio: float = MASSIVE_RATIO, ratio: str = "row_ratio"
) -> pl.DataFrame:
    """First and last state of the compress phase of each model.

    Args:
        layers: rows by prompt and state, with `row_ratio`.
        massive_ratio: the ratio from which a state is massive.
        ratio: the column that is compared with it.

    Returns:
        One row for each (model, revision, data): `states` (L, the last state), `prompts` (those that count),
        `compress_first` and `compress_last`, null without massive states.

    Example:
        Two prompts with row ratios 1, 1, 50, 50, 1: compress at 2 to 3.
    """
    rows = [
        {
            **course.key,
            "states": course.last,
            "prompts": len(course.prompts),
            "compress_first": course.compress.first if course.compress else None,
            "compress_last": course.compress.last if course.compress else None,
        }
        for course in courses(layers, massive_ratio=massive_ratio, ratio=ratio)
    ]
    numbers = ("states", "prompts", "compress_first", "compress_last")
    return pl.DataFrame(rows, schema={**dict.fromkeys(KEYS, pl.String), **dict.fromkeys(numbers, pl.Int64)})


def is_of(key: Mapping[str, object], /) -> list[pl.Expr]:
    """What picks the rows of one model on one data set, for ``filter(*...)``.

    Args:
        key: model, revision and data, among others; a null is a value like any other.

    Example:
        ``profile.filter(*is_of(row))``: of a profile the rows that the row of `boundaries` is about.
    """
    return [pl.col(name).eq_missing(pl.lit(key[name])) for name in KEYS]


def moved(line: tuple[int, int] | None, segment: Segment) -> bool:
    """Whether another line moves a boundary by more than two states."""
    return line is not None and max(abs(line[0] - segment.first), abs(line[1] - segment.last)) > MOST_MOVED


def birth_and_death(norms: np.ndarray, /) -> dict[str, float | int | None]:
    """Birth and death of a row: where its norm rises most, and where it falls most after that.

    Example:
        Norms 1, 2, 200, 190, 3: born at state 2 (x 100), dead at state 4 (x 0.0158).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.diff(np.log(norms))
    steps[~np.isfinite(steps)] = 0.0
    birth = int(steps.argmax()) if steps.size and steps.max() > 0 else None
    after = steps[birth + 1 :] if birth is not None else steps[:0]
    death = birth + 1 + int(after.argmin()) if birth is not None and after.size and after.min() < 0 else None
    return {
        "birth": None if birth is None else birth + 1,
        "rise": math.nan if birth is None else math.exp(steps[birth]),
        "death": None if death is None else death + 1,
        "fall": math.nan if death is None else math.exp(steps[death]),
    }

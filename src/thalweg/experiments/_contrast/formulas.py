"""Which heads behave differently on the prompts where the others sink most and on those where they sink least.

Conventions: prompts are ranked for every head by the mean over all OTHER heads, so that chance in the head's own values
cannot pick its prompts. The top n are the largest; the bottom n the smallest of the rest; of equal ones the first rows.
The difference of a head is its mean over the top n minus its mean over the bottom n. If the ranking means nothing to
the head, its two sets are as good as any two disjoint sets of n prompts: that is the distribution which p and the
interval come from. All or many such draws, the same for every head. Values are finite; `comparable` says which prompts
and heads are. No torch.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import false_discovery_control  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from thalweg.shapes import Bool, Float, Int

LEAST_PERMUTATIONS, MOST_PERMUTATIONS = 10_000, 250_000
FOR_INTERVALS = 10_000
TIE = 1e-5  # of a head's standard deviation: what float32 sums leave of equal differences
DRAWN_AT_ONCE = 2**23  # numbers of a chunk: some ten megabytes
GATHERED = 50  # so much faster is a matrix product than picking the same numbers one by one


@dataclass(frozen=True)
class Comparable:
    """Heads that take part, by metric, and the prompts where all of them have a finite value of every metric."""

    prompts: Bool[np.ndarray, " prompt"]
    heads: Mapping[str, Bool[np.ndarray, " head"]]


@dataclass(frozen=True)
class TopAndBottom:
    """The rows of the top and of the bottom prompts, for every head, best and least first."""

    top: Int[np.ndarray, "rank head"]
    bottom: Int[np.ndarray, "rank head"]


@dataclass(frozen=True)
class HeadChanges:
    """What differs between the top and the bottom prompts, by head: the means, their difference with its 95% interval.

    ``p`` is the chance of a difference of this magnitude if the ranking means nothing, two-sided; ``q`` the least
    false-discovery rate at which the head counts as changed (Benjamini and Hochberg).
    """

    top: Float[np.ndarray, " head"]
    bottom: Float[np.ndarray, " head"]
    difference: Float[np.ndarray, " head"]
    low: Float[np.ndarray, " head"]
    high: Float[np.ndarray, " head"]
    p: Float[np.ndarray, " head"]
    q: Float[np.ndarray, " head"]


@dataclass(frozen=True)
class Contrast:
    """Top against bottom prompts: of every metric its changes, each head ranked without itself.

    ``score`` is the ranking metric of each prompt, its mean over all heads; ``overall`` one ranking by it for all
    heads, to be shown: no test stands on it. p stands on so many permutations, ``exact`` if these are all there are.
    """

    changes: Mapping[str, HeadChanges]
    score: Float[np.ndarray, " prompt"]
    overall: TopAndBottom
    permutations: int
    exact: bool
    least_p: float


def comparable(values: Mapping[str, Float[np.ndarray, "prompt head"]], /, *, by: str) -> Comparable:
    """Which prompts and heads can be compared: what is undefined is left out, never taken for 0.

    A head with a finite value in less than half of the prompts is left out, and in every metric one that has no place
    in the ranking; a prompt has to have all of the others.

    Example:
        Three prompts, two heads, head 1 NaN in prompts 0 and 1, head 0 NaN in prompt 2: head 0 and prompts 0 and 1.
    """
    finite = {metric: np.isfinite(numbers) for metric, numbers in values.items()}
    defined = {metric: known.mean(axis=0) >= 0.5 for metric, known in finite.items()}
    heads = {metric: known & defined[by] for metric, known in defined.items()}
    whole = [finite[metric][:, taking_part].all(axis=1) for metric, taking_part in heads.items()]
    return Comparable(np.logical_and.reduce(whole), heads)


def mean_of_others(scores: Float[np.ndarray, "prompt head"], /) -> Float[np.ndarray, "prompt head"]:
    """The mean over all other heads of the same prompt: each head's own ranking of the prompts.

    Example:
        Scores 0.1, 0.2, 0.6 of three heads: 0.4, 0.35, 0.15.
    """
    wide = scores.astype(np.float64)
    return (wide.sum(axis=1, keepdims=True) - wide) / (wide.shape[1] - 1)


def top_and_bottom(ranking: Float[np.ndarray, "prompt head"], count: int, /) -> TopAndBottom:
    """The top and the bottom prompts of every column; of equal ones the first rows, and never one on both sides.

    Example:
        Scores 0.5, 0.9, 0.5, 0.1 and one a side: row 1 and row 3.
    """
    if not 1 <= count <= len(ranking) // 2:
        raise ValueError(f"expected 1 to {len(ranking) // 2} of {len(ranking)} prompts a side, got {count}")
    top = np.argsort(-ranking, axis=0, kind="stable")[:count]
    rest = ranking.astype(np.float64)
    np.put_along_axis(rest, top, math.inf, axis=0)
    return TopAndBottom(top, np.argsort(rest, axis=0, kind="stable")[:count])


def permutations_needed(heads: int, fdr: float) -> int:
    """How many draws let the procedure of Benjamini and Hochberg see a single changed head among these.

    The least p of P draws is 1 / (P + 1) and has to stay below fdr / heads: four times as many, 10,000 at least, and
    250,000 at most unless fewer could not see it.

    Example:
        1,024 heads at 5%: 81,920.
    """
    fewest = math.ceil(heads / fdr)
    return max(LEAST_PERMUTATIONS, fewest, min(4 * fewest, MOST_PERMUTATIONS))


def head_changes(
    values: Float[np.ndarray, "prompt head"],
    chosen: TopAndBottom,
    /,
    *,
    permutations: int,
    seed: int = 0,
    advance: Callable[[int], object] | None = None,
) -> HeadChanges:
    """Difference of the top and bottom prompts of every head, against random sets of as many.

    p = (1 + the number of draws whose difference is at least as large in magnitude) / (1 + the number of draws); where
    there are no more different draws than ``permutations``, all of them are taken, and p is the share among them. The
    interval is the difference plus and minus the 95% quantile of the draws' magnitudes. It inverts the test: the draws'
    distribution is symmetric, since every draw has a twin with its sides exchanged.

    q after Benjamini and Hochberg (1995), over the heads: it controls the false-discovery rate for independent tests
    and positively dependent ones. Two heads to which the ranking means nothing have little more in common than the
    order of the prompts, which leaves their p next to independent. The procedure of Benjamini and Yekutieli (2001),
    right under any dependence, would pay for it with a factor of ln(heads) + 0.58: 7.5 for 1,024 heads.

    A head with a value that is not finite has no result, NaN. ``advance`` is told of every so many draws that are done.

    Example:
        Four prompts with values 4, 3, 2, 1, ranked in this order, two a side: difference 2, and of the six draws this
        one and its twin are as large: p = 1/3.
    """
    finite = np.asarray(np.isfinite(values).all(axis=0))
    count = len(chosen.top)
    top, bottom = (
        np.take_along_axis(values, rows, axis=0).mean(axis=0, dtype=np.float64) for rows in (chosen.top, chosen.bottom)
    )
    wide = values[:, finite].astype(np.float64)
    spread = np.where(np.ptp(wide, axis=0) > 0, wide.std(axis=0), 1.0)
    scaled = ((wide - wide.mean(axis=0)) / spread).astype(np.float32)
    observed = (top - bottom)[finite] / spread
    exact = _ways(len(values), count) <= permutations
    draws = _every(len(values), count) if exact else _drawn(len(values), count, permutations, seed)
    reached, kept, total = np.zeros(scaled.shape[1], dtype=np.int64), list[np.ndarray](), 0
    for rows in draws:
        drawn = np.abs(_differences(scaled, rows, count))
        reached += (drawn >= np.abs(observed) - TIE).sum(axis=0)
        if total < FOR_INTERVALS:
            kept.append(drawn[: FOR_INTERVALS - total])
        total += len(rows)
        if advance is not None:
            advance(len(rows))
    width = np.quantile(np.concatenate(kept), 0.95, axis=0) * spread
    p = reached / total if exact else (1 + reached) / (1 + total)
    q = false_discovery_control(p, method="bh") if len(p) else p
    change = (top - bottom)[finite]
    columns = (top[finite], bottom[finite], change, change - width, change + width, p, q)
    return HeadChanges(*(_with_gaps(column, finite) for column in columns))


def contrast(
    values: Mapping[str, Float[np.ndarray, "prompt head"]],
    /,
    *,
    by: str,
    count: int,
    permutations: int,
    seed: int = 0,
    advance: Callable[[int], object] | None = None,
) -> Contrast:
    """Rank prompts by one metric and compare the ends in all of them (the paper, Figs. 5, 26, 27).

    ``values`` are of prompts whose values of ``by`` are finite for the heads that have any, two heads at least.

    Example:
        Ten prompts, in five of which every head sinks, five a side: the differences are the sinks' strength.
    """
    ranked = np.isfinite(values[by]).all(axis=0)
    if ranked.sum() < 2:
        raise ValueError(f"expected two heads or more to rank by, got {ranked.sum()}")
    scores = values[by][:, ranked]
    ranking = np.full(values[by].shape, math.nan)
    ranking[:, ranked] = mean_of_others(scores)
    chosen = top_and_bottom(ranking, count)
    score = scores.mean(axis=1, dtype=np.float64)
    changes = {
        metric: head_changes(
            np.where(ranked, numbers, math.nan), chosen, permutations=permutations, seed=seed, advance=advance
        )
        for metric, numbers in values.items()
    }
    ways = _ways(len(score), count)
    exact = ways <= permutations
    least = 2 / ways if exact else 1 / (1 + permutations)
    return Contrast(changes, score, top_and_bottom(score[:, None], count), min(ways, permutations), exact, least)


def _with_gaps(column: np.ndarray, there: np.ndarray) -> np.ndarray:
    whole = np.full(len(there), math.nan)
    whole[there] = column
    return whole


def _ways(prompts: int, count: int) -> int:
    """Pairs of disjoint sets."""
    return math.comb(prompts, count) * math.comb(prompts - count, count)


def _every(prompts: int, count: int) -> Iterator[np.ndarray]:
    """All of them: rows of the one set, then of the other."""
    rows = range(prompts)
    every = [
        (*side, *other)
        for side in combinations(rows, count)
        for other in combinations([row for row in rows if row not in side], count)
    ]
    mixed = np.random.default_rng(0).permutation(np.array(every))  # its beginning stands for all, in intervals
    step = _at_once(prompts)
    for start in range(0, len(mixed), step):
        yield mixed[start : start + step]


def _drawn(prompts: int, count: int, permutations: int, seed: int) -> Iterator[np.ndarray]:
    """Random ones, each as likely as any other."""
    random = np.random.default_rng(seed)
    step = _at_once(prompts)
    for start in range(0, permutations, step):
        yield _draw(random, min(step, permutations - start), prompts, 2 * count)


def _draw(random: np.random.Generator, draws: int, prompts: int, wanted: int) -> np.ndarray:
    if wanted**2 > 2 * prompts:
        everything = np.broadcast_to(np.arange(prompts, dtype=np.int32), (draws, prompts))
        return random.permuted(everything, axis=1)[:, :wanted]
    rows = random.integers(prompts, size=(draws, wanted))
    while (again := _repeats(rows)).any():  # few against many: most draws have no row twice
        rows[again] = random.integers(prompts, size=(int(again.sum()), wanted))
    return rows


def _repeats(rows: np.ndarray) -> np.ndarray:
    return (np.diff(np.sort(rows, axis=1), axis=1) == 0).any(axis=1)


def _at_once(prompts: int) -> int:
    return max(1, min(1024, DRAWN_AT_ONCE // prompts))


def _differences(values: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Mean over the first ``count`` rows minus mean over the others, for every draw and head."""
    if GATHERED * rows.shape[1] <= len(values):
        return values[rows[:, :count]].mean(axis=1) - values[rows[:, count:]].mean(axis=1)
    signs = np.zeros((len(rows), len(values)), dtype=np.float32)
    np.put_along_axis(signs, rows[:, :count], np.float32(1 / count), axis=1)
    np.put_along_axis(signs, rows[:, count:], np.float32(-1 / count), axis=1)
    return signs @ values

"""Did a change of the model remove compression and sinks, or did they stay, and has another row taken over?

Conventions: C and S as in `_effects.py`, for each segment apart, over what the change can reach: the segment's states
above the first block that is changed, and the blocks that read them. Where the model as it is has C not above 0.2, or S
not above 0.1, there is *nothing to remove*; with fewer than two prompts, or no state to reach, it *cannot be told*, and
the reason says why. *Removed*: the upper 95% bound of the mean after the change is at most a tenth of the mean before,
and no state (block) is above half of what it was; *unchanged*: the mean is within 1% of what it was, or the 95%
interval of the paired difference holds 0; *reduced*, *increased*: it lies wholly below, or above, 0. Sinks are *gone*
only where heads do not sink anywhere else either: where the share of heads with top_score >= tau is removed by the same
rule; else they *moved*.

A row is still massive, and another row has become massive, at the states where that holds for at least half of the
prompts: of all, and of those that had no other massive row there before. No torch.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from polars import selectors as cs

from thalweg.averages._courses import KEYS, SHARE
from thalweg.averages._effects import compressions
from thalweg.averages._profile import statistics
from thalweg.options import MASSIVE_RATIO

REMOVED, HALF, NEGLIGIBLE = 0.1, 0.5, 0.01
LEAST = {"compression": 0.2, "sinks": 0.1}
"""What the model as it is must have more of, for its removal to be a question."""
NOTHING, UNTOLD = "nothing to remove", "cannot be told"
BY = ("condition", "seed")
INTACT = pl.col("condition") == "intact"


def verdict(before: np.ndarray, after: np.ndarray, /, *, least: float) -> str:
    """The verdict on one phenomenon.

    Args:
        before: what the model as it is has, prompt x place, all finite.
        after: the same under the change.
        least: what the mean before has to exceed.

    Returns:
        "removed", "reduced", "increased", "unchanged", "nothing to remove" or "cannot be told".

    Example:
        Two prompts and one state, C 0.7 and 0.72 before: 0.01 and 0.011 after are removed, 0.5 and 0.51 reduced, 0.705
        and 0.724 unchanged.
    """
    if len(before) < 2 or not before.size:
        return UNTOLD
    intact = before.mean()
    if not intact > least:
        return NOTHING
    if _removed(before, after):
        return "removed"
    change = _statistics(after - before)
    if abs(change["mean"]) <= NEGLIGIBLE * intact or change["low"] <= 0 <= change["high"]:
        return "unchanged"
    return "reduced" if change["high"] < 0 else "increased"


def _removed(before: np.ndarray, after: np.ndarray) -> bool:
    little = _statistics(after)["high"] <= REMOVED * before.mean()
    return bool(little and (after.mean(0) <= HALF * before.mean(0)).all())


def verdicts(
    states: pl.LazyFrame, blocks: pl.LazyFrame, segments: pl.DataFrame, conditions: pl.DataFrame
) -> pl.DataFrame:
    """The verdict on compression and on sinks of every segment under every condition.

    Args:
        states: rows by condition, seed, prompt and state, with `entropy` and `entropy_without_massive`; the condition
            "intact" is the model as it is.
        blocks: rows by condition, seed, prompt and block, with `sink_rate` and `top_rate`.
        segments: one row for each segment of the model as it is: `name`, `first`, `last`.
        conditions: one row for each condition, but for "intact", of each model and data set: `condition`, `seed`,
            `first_state` (the first one that it can reach) and `judged` (the segment that it is about, null for all).

    Returns:
        Two rows, `phenomenon` "compression" and "sinks", for each condition and segment (null, without a verdict, where
        there is none): `first` and `last` (states that it can reach, or blocks), `verdict`, `reason` (where it cannot
        be told), `intact` and `ablated` (C or S) with `ablated_low` and `ablated_high`, `difference`, `low`, `high`,
        `n`; `gone_from` (the first state or block from which on it is removed, where these are at least half of all)
        with `before_intact` and `before_ablated` (means over what comes before, NaN for nothing); for sinks
        `anywhere_intact` and `anywhere_ablated` (mean top_rate) and `moved` (whether heads sink elsewhere from
        `gone_from` on).

    Example:
        Compress at states 2 to 3, two prompts whose C falls from 0.7 and 0.72 to 0.001 and 0.002: removed.
    """
    within = _reached(segments, conditions)
    places = [*KEYS, *BY, "prompt"]
    of_states = compressions(states, INTACT).select(*places, index="state", after="compression")
    of_blocks = blocks.select(*places, index="block", after="sink_rate", anywhere_after="top_rate")
    frames = {"compression": _paired(of_states), "sinks": _paired(of_blocks)}
    rows = [
        {**row, "phenomenon": phenomenon, **_judged(row, phenomenon, measured)}
        for row in within.iter_rows(named=True)
        for phenomenon, measured in frames.items()
    ]
    return pl.DataFrame(rows, schema=_SCHEMA)


def _reached(segments: pl.DataFrame, conditions: pl.DataFrame) -> pl.DataFrame:
    """Every condition with every segment that it is about, and the states of it that it can reach."""
    of_data = segments.drop_nulls("first").select(*KEYS, "first", "last", segment="name")
    joined = conditions.join(of_data, on=KEYS, how="left", nulls_equal=True, maintain_order="left_right")
    about = pl.col("judged").is_null() | (pl.col("judged") == pl.col("segment"))
    first = pl.max_horizontal("first", "first_state")
    return (
        joined.filter(about.fill_null(value=True))
        .with_columns(first=first)
        .select(*KEYS, *BY, "segment", "first", "last", "first_state")
    )


def _paired(rows: pl.LazyFrame) -> dict[tuple[Any, ...], pl.DataFrame]:
    """By model, data and condition: every value beside that of the intact run."""
    on = [*KEYS, "prompt", "index"]
    intact = rows.filter(INTACT).select(*on, cs.contains("after").name.replace("after", "before"))
    joined = rows.filter(~INTACT).join(intact, on=on, nulls_equal=True).sort("prompt", "index").collect()
    return joined.partition_by(*KEYS, *BY, as_dict=True)


def _judged(row: dict[str, Any], phenomenon: str, measured: Mapping[tuple[Any, ...], pl.DataFrame]) -> dict[str, Any]:
    key = tuple(row[name] for name in (*KEYS, *BY))
    rows = measured.get(key, pl.DataFrame(schema={"index": pl.Int64}))
    rows = rows.filter(pl.col("index").is_between(row["first"], row["last"]))
    if not rows.height:
        return {"verdict": UNTOLD, "reason": _nothing_reached(row, phenomenon), "n": 0, "first": None, "last": None}
    places = rows["index"].unique().sort().to_list()
    values = {name: _matrix(rows, name, places) for name in VALUES if name in rows.columns}
    finite = np.all([np.isfinite(matrix).all(1) for matrix in values.values()], axis=0)
    numbers = _numbers({name: matrix[finite] for name, matrix in values.items()}, places, phenomenon)
    return {"first": places[0], "last": places[-1], **numbers}


def _nothing_reached(row: dict[str, Any], phenomenon: str) -> str:
    if row["segment"] is None:
        return "no massive state: no compress phase, no wave"
    if row["first"] > row["last"]:
        return f"it ends at state {row['last']}, before state {row['first_state']}, the first that can change"
    return "no block with softmax attention reads its states" if phenomenon == "sinks" else "no prompt is measured"


def _matrix(rows: pl.DataFrame, name: str, places: list[int]) -> np.ndarray:
    """Prompt x place."""
    table = rows.pivot("index", index="prompt", values=name).select(map(str, places))
    return table.fill_null(math.nan).to_numpy().astype(np.float64)


def _numbers(values: dict[str, np.ndarray], places: list[int], phenomenon: str) -> dict[str, Any]:
    before, after, least = values["before"], values["after"], LEAST[phenomenon]
    said, left, change = verdict(before, after, least=least), _statistics(after), _statistics(after - before)
    gone = _gone_from(before, after, least) if said in ("removed", "reduced") else None
    few = f"{len(before) or 'no'} prompt{'' if len(before) else 's'} with finite values: no interval"
    numbers = {
        "verdict": said,
        "reason": few if said == UNTOLD else None,
        "n": len(before),
        "intact": _statistics(before)["mean"],
        "ablated": left["mean"],
        **{f"ablated_{end}": left[end] for end in ("low", "high")},
        "difference": change["mean"],
        **{end: change[end] for end in ("low", "high")},
        "gone_from": None if gone is None else places[gone],
        **{f"before_{side}": float(values[name][:, :gone].mean()) if gone else math.nan for side, name in SIDES},
    }
    if phenomenon == "sinks":
        numbers |= {f"anywhere_{side}": _statistics(values[f"anywhere_{name}"])["mean"] for side, name in SIDES}
        tail = [values[f"anywhere_{name}"][:, gone:] for _, name in SIDES]
        numbers["moved"] = None if gone is None else not _removed(*tail)
    return numbers


def _gone_from(before: np.ndarray, after: np.ndarray, least: float) -> int | None:
    """The first place from which on there was something that is removed, where half of the places or more come behind.

    With everything removed, the first of all.
    """
    count = before.shape[1]
    tails = ((first, before[:, first:], after[:, first:]) for first in range(count // 2 + 1))
    return next((first for first, was, left in tails if was.size and was.mean() > least and _removed(was, left)), None)


def _statistics(values: np.ndarray) -> dict[str, float]:
    """Mean over places and prompts, with the interval over prompts."""
    return statistics(pl.Series([values.mean(1)], dtype=pl.List(pl.Float64))).row(0, named=True)


def replacements(states: pl.LazyFrame, *, massive_ratio: float = MASSIVE_RATIO) -> pl.DataFrame:
    """Where the segments' rows are still massive, and which other row has become so, under every condition.

    Args:
        states: rows by condition, seed, prompt and state: `own_ratio` of the row of the segment that the state belongs
            to, and `other_ratio`, `other_position` and `other_token` of the largest one of the others.
        massive_ratio: the row ratio from which a row is massive.

    Returns:
        One row for each condition but "intact": `still_states` (after the first one, at which the segment's own row is
        massive); `other_states` (at which another row has become massive), `other_ratio` (geometric mean at their
        peak), `other_position` (most frequent of those rows), `other_share` (of them at that position),
        `other_tokens` (those there, most frequent first) and `other_prompts` (share of prompts in which another row has
        become massive at some state).

    Example:
        Two prompts in which the row at position 3 becomes massive at state 2: other states 2, position 3, share 1.
    """
    own, other = (pl.col(name).fill_nan(None) >= massive_ratio for name in ("own_ratio", "other_ratio"))
    marked = states.filter(pl.col("state") > 0).with_columns(own=own, other=other.fill_null(value=False))
    on = [*KEYS, "prompt", "state"]
    before = marked.filter(INTACT).select(*on, had="other")
    paired = marked.filter(~INTACT).join(before, on=on, nulls_equal=True).sort("prompt", "state").collect()
    groups = paired.partition_by(*KEYS, *BY, as_dict=True).items()
    found = [{**dict(zip([*KEYS, *BY], key, strict=True)), **_standing(measured)} for key, measured in groups]
    return pl.DataFrame(found, schema=_REPLACEMENTS).sort(*KEYS, *BY)


def _standing(measured: pl.DataFrame) -> dict[str, Any]:
    others = _mostly(measured.filter(~pl.col("had")), "other")
    there = measured.filter(pl.col("state").is_in(others))
    taken = there.filter(pl.col("other"), ~pl.col("had"))
    counts = taken["other_position"].value_counts().sort(["count", "other_position"], descending=[True, False])
    position, count = counts.row(0) if others else (None, 0)
    tokens = taken.filter(pl.col("other_position") == pl.lit(position, pl.Int64))["other_token"].drop_nulls()
    anywhere = measured.group_by("prompt").agg((pl.col("other") & ~pl.col("had")).any())["other"]
    ratios = there.group_by("state").agg(pl.col("other_ratio").log().mean())["other_ratio"].to_list()
    return {
        "still_states": _mostly(measured, "own"),
        "other_prompts": anywhere.mean(),
        "other_states": others,
        "other_ratio": math.exp(max(ratios)) if others else math.nan,
        "other_position": position,
        "other_share": count / len(taken) if others else math.nan,
        "other_tokens": tokens.value_counts()
        .sort(["count", "other_token"], descending=[True, False])["other_token"]
        .to_list(),
    }


def _mostly(rows: pl.DataFrame, massive: str) -> list[int]:
    """States at which it holds for at least half of the prompts."""
    shares = rows.group_by("state").agg(pl.col(massive).fill_null(value=False).mean())
    return shares.filter(pl.col(massive) >= SHARE)["state"].sort().to_list()


SIDES = (("intact", "before"), ("ablated", "after"))
VALUES = tuple(f"{kind}{name}" for kind in ("", "anywhere_") for _, name in SIDES)
_KEYS: dict[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys([*KEYS, "condition"], pl.String),
    "seed": pl.Int32,
}
_NUMBERS = ("intact", "ablated", "ablated_low", "ablated_high", "difference", "low", "high")
_SCHEMA = {
    **_KEYS,
    **dict.fromkeys(("segment", "phenomenon"), pl.String),
    **dict.fromkeys(("first", "last"), pl.Int64),
    **dict.fromkeys(("verdict", "reason"), pl.String),
    **dict.fromkeys(_NUMBERS, pl.Float64),
    **dict.fromkeys(("n", "gone_from"), pl.Int64),
    **dict.fromkeys(("before_intact", "before_ablated", "anywhere_intact", "anywhere_ablated"), pl.Float64),
    "moved": pl.Boolean,
}
_REPLACEMENTS = {
    **_KEYS,
    "still_states": pl.List(pl.Int64),
    "other_states": pl.List(pl.Int64),
    "other_ratio": pl.Float64,
    "other_position": pl.Int64,
    "other_share": pl.Float64,
    "other_tokens": pl.List(pl.String),
    "other_prompts": pl.Float64,
}

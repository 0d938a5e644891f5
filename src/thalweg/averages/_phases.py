"""At which states is a model massive, and where does it mix, compress and refine.

Conventions: a state is massive for a prompt if `row_ratio` >= massive_ratio, and massive for the model if it is for at
least half of the prompts that have a row ratio; a is the first such state, b the last. Mix = states before a,
compress = a..b, refine = states after b. Block l belongs to the phase of the state it reads, l. Depths are shares of L,
the last state. No torch.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import polars as pl

from thalweg.options import MASSIVE_RATIO

KEYS = ["model", "revision", "data"]
SHARE = 0.5
INSIDE: dict[str, Literal["state", "block"]] = {"mixing": "block", "sink_rate": "block", "entropy_normalized": "state"}
PHASES = ("mix", "compress", "refine")


def boundaries(
    layers: pl.LazyFrame | pl.DataFrame, *, massive_ratio: float = MASSIVE_RATIO, ratio: str = "row_ratio"
) -> pl.DataFrame:
    """First and last massive state of each model, and how far its prompts agree.

    Args:
        layers: rows by prompt and state, with ``ratio``.
        massive_ratio: the ratio from which a state is massive.
        ratio: the column that is compared with it: "row_ratio" of the largest row, or "sink_ratio" of the sink's.

    Returns:
        One row for each (model, revision, data): `states` (L, the last state), `prompts`, `compress_first` (a) and
        `compress_last` (b), null without massive states, `dips` (states between that are not massive), `agreement`
        (share of prompts whose own first massive state is a; null without a).

    Example:
        Two prompts, massive at states 1..3 and 2..3: every one of 1, 2, 3 is massive for half, a = 1, b = 3, agreement
        0.5.
    """
    known = pl.col(ratio).cast(pl.Float64).fill_nan(None)
    state, massive, first = pl.col("state"), pl.col("massive"), pl.col("compress_first")
    marked = layers.lazy().select(*KEYS, "prompt", state.cast(pl.Int64), massive=known >= massive_ratio)
    by_state = marked.group_by([*KEYS, "state"]).agg((massive.mean() >= SHARE).fill_null(value=False))
    hits = state.filter(massive)
    ends = by_state.group_by(KEYS).agg(
        states=state.max(),
        compress_first=hits.min(),
        compress_last=hits.max(),
        dips=state.filter(~massive & (state > hits.min()) & (state < hits.max())).sort(),
    )
    prompts = marked.group_by([*KEYS, "prompt"]).agg(first=hits.min(), known=massive.is_not_null().any())
    agreeing = pl.col("first").eq_missing(first).filter(pl.col("known") & first.is_not_null())
    counts = (
        prompts.join(ends, on=KEYS, nulls_equal=True)
        .group_by(KEYS)
        .agg(prompts=pl.len().cast(pl.Int64), agreement=agreeing.mean())
    )
    return ends.join(counts, on=KEYS, nulls_equal=True).sort(KEYS).collect()


def is_of(key: Mapping[str, object], /) -> list[pl.Expr]:
    """What picks the rows of one model on one data set, for ``filter(*...)``.

    Args:
        key: model, revision and data, among others; a null is a value like any other.

    Example:
        ``profile.filter(*is_of(row))``: of a profile the rows that the row of `boundaries` is about.
    """
    return [pl.col(name).eq_missing(pl.lit(key[name])) for name in KEYS]


def phases(
    layers: pl.LazyFrame | pl.DataFrame, profile: pl.DataFrame, *, massive_ratio: float = MASSIVE_RATIO
) -> pl.DataFrame:
    """The phases of each model, with what happens inside them (the paper, section 4).

    Args:
        layers: rows by prompt and state, with `row_ratio` and `massive_entry_count`.
        profile: what `profile` returns for the same run.
        massive_ratio: the row ratio from which a state is massive.

    Returns:
        One row for each (model, revision, data): states (L), blocks, prompts, massive_share_threshold,
        has_massive_activations, compress_first (a), compress_last (b), their depths, has_refine, dips, agreement (share
        of prompts that give the same a), rise_state and fall_state (largest rise and fall of the logarithm of
        norm_ratio from the state before), rest_norm_rise_state (first state after the least rest_norm of the compress
        phase at which it has doubled), sun_prompt_share, the means of mixing, sink_rate and entropy_normalized inside
        each phase (NaN for a phase that is not there), and the reason for what is missing.

    Example:
        States 0..6 with row ratios 1, 1, 50, 50, 50, 1, 1 in every prompt: a = 2, b = 4, all three phases, agreement 1.
    """
    ends = boundaries(layers, massive_ratio=massive_ratio)
    sun = _sun_share(layers.lazy())
    rows = [_row(row, profile.filter(*is_of(row)), sun) for row in ends.iter_rows(named=True)]
    return pl.DataFrame(rows, schema=_SCHEMA)


def trajectory(profile: pl.DataFrame, site: Literal["state", "block"], metric: str, /) -> dict[int, float]:
    """Means of one metric by index, ascending; what is not finite is left out, so an index that is missing is a gap."""
    rows = profile.filter((pl.col("site") == site) & (pl.col("metric") == metric) & pl.col("mean").is_finite())
    return dict(rows.sort("index").select("index", "mean").iter_rows())


def of_written_states(profile: pl.DataFrame, metric: str, /) -> dict[int, float]:
    """Means of one metric by state, but for state 0, which no block has written."""
    return {state: mean for state, mean in trajectory(profile, "state", metric).items() if state > 0}


def _row(ends: dict[str, Any], profile: pl.DataFrame, sun: dict[tuple[Any, ...], float]) -> dict[str, Any]:
    first, last, states = ends["compress_first"], ends["compress_last"], ends["states"]
    has = first is not None
    jumps = _jumps(trajectory(profile, "state", "norm_ratio"))
    return {
        **ends,
        "blocks": profile.filter(pl.col("site") == "block")["index"].n_unique(),
        "massive_share_threshold": SHARE,
        "has_massive_activations": has,
        "compress_first_depth": first / states if has and states else math.nan,
        "compress_last_depth": last / states if has and states else math.nan,
        "has_refine": has and last < states,
        "agreement": ends["agreement"] if has else math.nan,
        "rise_state": max((state for state in jumps if jumps[state] > 0), key=jumps.__getitem__, default=None),
        "fall_state": min((state for state in jumps if jumps[state] < 0), key=jumps.__getitem__, default=None),
        "rest_norm_rise_state": _doubling(trajectory(profile, "state", "rest_norm"), first, last) if has else None,
        "sun_prompt_share": sun.get(tuple(ends[key] for key in KEYS), math.nan),
        **{f"{phase}_{metric}": _inside(profile, phase, metric) for phase in PHASES for metric in INSIDE},
        "reason": _reason(first, last, states),
    }


def _jumps(ratio: dict[int, float]) -> dict[int, float]:
    """Change of the logarithm from the state before, by state."""
    known = {state: math.log(value) for state, value in ratio.items() if value > 0}
    return {state: known[state] - known[state - 1] for state in known if state - 1 in known}


def _doubling(rest: dict[int, float], first: int, last: int) -> int | None:
    """The first state after the first massive one whose mean norm exceeds twice the least inside the compress phase."""
    inside = {state: norm for state, norm in rest.items() if first <= state <= last}
    if not inside:
        return None
    least = min(inside.values())
    return next((state for state, norm in rest.items() if state > first and norm > 2 * least), None)


def _inside(profile: pl.DataFrame, phase: str, metric: str) -> float:
    means = trajectory(profile.filter(pl.col("phase") == phase), INSIDE[metric], metric)
    return math.fsum(means.values()) / len(means) if means else math.nan


def _sun_share(layers: pl.LazyFrame) -> dict[tuple[Any, ...], float]:
    """Share of prompts with a massive entry in some state."""
    if "massive_entry_count" not in layers.collect_schema().names():
        return {}
    counted = layers.filter(pl.col("massive_entry_count").is_not_null())
    prompts = counted.group_by([*KEYS, "prompt"]).agg(any=(pl.col("massive_entry_count") > 0).any())
    shares = prompts.group_by(KEYS).agg(pl.col("any").mean()).collect()
    return {row[:-1]: row[-1] for row in shares.iter_rows()}


def _reason(first: int | None, last: int | None, states: int) -> str | None:
    if first is None:
        return "no massive state: no compress phase"
    reasons = ["no mix phase: the first state is massive"] if first == 0 else []
    if last == states:
        reasons.append("no refine phase: the last state is massive")
    return "; ".join(reasons) or None


_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(KEYS, pl.String),
    **dict.fromkeys(("states", "blocks", "prompts"), pl.Int64),
    "massive_share_threshold": pl.Float64,
    "has_massive_activations": pl.Boolean,
    **dict.fromkeys(("compress_first", "compress_last"), pl.Int64),
    **dict.fromkeys(("compress_first_depth", "compress_last_depth"), pl.Float64),
    "has_refine": pl.Boolean,
    "dips": pl.List(pl.Int64),
    "agreement": pl.Float64,
    **dict.fromkeys(("rise_state", "fall_state", "rest_norm_rise_state"), pl.Int64),
    "sun_prompt_share": pl.Float64,
    **{f"{phase}_{metric}": pl.Float64 for phase in PHASES for metric in INSIDE},
    "reason": pl.String,
}

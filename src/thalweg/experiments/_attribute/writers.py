"""Which blocks' MLPs write the massive row: attribution averaged over prompts, and the smallest set that does it.

Conventions: a model has massive activations if some state's row_ratio >= massive_ratio for at least half of the prompts
(`averages.boundaries`), and its sink is massive if that holds of sink_ratio. Averages are over the prompts whose sink
row is massive at some state, where the model's sink is massive, else over all; prompts without a reference state are
left out, `n` given. What comes after a prompt's reference state counts 0 in `share_before`, so that its means sum to 1.
No torch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from thalweg.averages import KEYS, STATISTICS, boundaries, gathered, is_of, with_statistics
from thalweg.options import MASSIVE_RATIO

THRESHOLD = 0.9
HELD = 0.01
PART = ["block", "part"]
AVERAGED = ["norm", "along", "share", "share_before", "cosine"]
NO_MASSIVE = "no massive activation"


@dataclass(frozen=True, slots=True)
class Writers:
    """The blocks whose MLPs write the massive row.

    Attributes:
        blocks: in order of depth; empty where there are none to name.
        share: of <x_0, v> at the reference state, what their MLPs wrote; where `blocks` is empty, what all MLPs that
            raise it wrote together, NaN where nothing is known.
        reason: why `blocks` is empty, or None.
    """

    blocks: tuple[int, ...]
    share: float
    reason: str | None


def writing_blocks(shares: Mapping[int, float], /, *, threshold: float = THRESHOLD) -> Writers:
    """The smallest set of blocks whose MLPs write at least a threshold of the sink's row, or why there is none.

    Taking blocks by size, largest first, no set of as many reaches more; on ties the earlier block comes first.

    Example:
        {0: 0.05, 1: 0.7, 2: -0.1, 3: 0.25} gives blocks 1 and 3, which write 0.95.
    """
    if not shares or not all(math.isfinite(share) for share in shares.values()):
        return Writers((), math.nan, "no prompt has a reference state")
    raising = sorted((block for block in shares if shares[block] > 0), key=lambda block: (-shares[block], block))
    reached = 0.0
    for count in range(1, len(raising) + 1):
        reached = math.fsum(shares[block] for block in raising[:count])
        if reached >= threshold:
            return Writers(tuple(sorted(raising[:count])), reached, None)
    return Writers((), reached, f"all MLPs that raise it write {reached:.0%} of the massive row, below {threshold:.0%}")


def writers(
    states: pl.LazyFrame | pl.DataFrame,
    contributions: pl.LazyFrame | pl.DataFrame,
    *,
    massive_ratio: float = MASSIVE_RATIO,
    sink_position: int = 0,
    threshold: float = THRESHOLD,
) -> pl.DataFrame:
    """The blocks that write the massive row of each model (`--blocks auto`), and how far prompts agree on them.

    ``states`` are rows by prompt and state, with `row_ratio`, `row_position` and `sink_ratio`; ``contributions`` rows
    by prompt, block and part, with `share`, `before` and `reference_state`.

    Example:
        Two prompts with a massive sink row, the MLP of block 1 wrote 0.97 and 0.99 of it: block 1, share 0.98,
        agreement 1.
    """
    states, limits = states.lazy(), _Limits(massive_ratio, sink_position, threshold)
    parts = _used_parts(states, contributions.lazy(), massive_ratio)
    rows = [
        _row(ends, states.filter(*is_of(ends)), parts.filter(*is_of(ends)).collect(), limits)
        for ends in boundaries(states, massive_ratio=massive_ratio).iter_rows(named=True)
    ]
    return pl.DataFrame(rows, schema=_SCHEMA)


def attribution_profile(
    states: pl.LazyFrame | pl.DataFrame,
    contributions: pl.LazyFrame | pl.DataFrame,
    dimensions: pl.LazyFrame | pl.DataFrame,
    writing: pl.DataFrame,
    *,
    massive_ratio: float = MASSIVE_RATIO,
) -> pl.DataFrame:
    """What each part of each block adds to the sink's row, averaged over prompts.

    Beside what `writers` takes and returns: `norm`, `along` and `cosine` of the contributions; ``dimensions`` are rows
    by prompt, block, part and rank, with `dim` and `value`.

    Example:
        One prompt whose block 0's MLP adds (3, 0, 4) along (0, 0, 1): norm 5, along 4, cosine 0.8, dims 2 and 0.
    """
    parts = _used_parts(states.lazy(), contributions.lazy(), massive_ratio)
    groups = [*KEYS, *PART, "metric"]
    table = (
        parts.unpivot(index=[*KEYS, "prompt", *PART], on=AVERAGED, variable_name="metric", value_name="value")
        .group_by(groups)
        .agg(gathered("value"))
        .sort(groups)
        .collect()
    )
    mlps = writing.select(*KEYS, block="writing_blocks", part=pl.lit("mlp"), writes=pl.lit(value=True))
    on = [*KEYS, *PART]
    table = with_statistics(table).with_columns(pl.col("block").cast(pl.Int64))
    for known in (mlps.explode("block").drop_nulls("block"), _held(parts, dimensions.lazy())):
        table = table.join(known, on=on, how="left", nulls_equal=True, maintain_order="left")
    filled = pl.col("writes").fill_null(value=False), pl.col("dims").fill_null([])
    return table.with_columns(*filled).select(*groups, *STATISTICS, "writes", "dims")


def _used_parts(states: pl.LazyFrame, contributions: pl.LazyFrame, massive_ratio: float) -> pl.LazyFrame:
    """The rows of prompts that averages are over, and what of each counts towards its row at the reference state."""
    sink = boundaries(states, massive_ratio=massive_ratio, ratio="sink_ratio")
    massive = sink.lazy().select(*KEYS, has=pl.col("compress_first").is_not_null())
    prompts = states.group_by([*KEYS, "prompt"]).agg(is_massive=_has_massive_sink(massive_ratio))
    joined = prompts.join(massive, on=KEYS, how="left", nulls_equal=True)
    used = joined.filter(pl.col("is_massive") | ~pl.col("has"))
    defined = contributions.join(used, on=[*KEYS, "prompt"], how="semi", nulls_equal=True).filter(
        pl.col("share").is_not_nan()
    )
    return defined.with_columns(share_before=pl.when("before").then("share").otherwise(0.0))


def _has_massive_sink(massive_ratio: float) -> pl.Expr:
    """Whether the sink's row is massive at some state of a prompt."""
    return (pl.col("sink_ratio").fill_nan(None) >= massive_ratio).any()


@dataclass(frozen=True, slots=True)
class _Limits:
    """What a person may set."""

    massive_ratio: float
    sink_position: int
    threshold: float


def _row(ends: dict[str, Any], states: pl.LazyFrame, parts: pl.DataFrame, limits: _Limits) -> dict[str, Any]:
    mlps = parts.filter(part="mlp")
    chosen = writing_blocks(_means(mlps, "block"), threshold=limits.threshold)
    sink = boundaries(states, massive_ratio=limits.massive_ratio, ratio="sink_ratio")
    if ends["compress_first"] is None:
        chosen = Writers((), math.nan, NO_MASSIVE)
    elif sink["compress_first"][0] is None:
        chosen = Writers((), math.nan, _elsewhere(states, limits))
    elif chosen.reason is not None and math.isfinite(chosen.share):
        chosen = Writers((), chosen.share, f"{chosen.reason}; {_others(parts)}")
    reference, share = _most_common(parts)
    massive = states.group_by("prompt").agg(is_massive=_has_massive_sink(limits.massive_ratio)).collect()["is_massive"]
    return {
        **{name: ends[name] for name in (*KEYS, "compress_first", "compress_last", "prompts")},
        "writing_blocks": list(chosen.blocks),
        "writing_share": chosen.share,
        "writing_threshold": limits.threshold,
        "writing_agreement": _agreement(mlps, chosen, limits.threshold),
        "reference_state": reference,
        "reference_agreement": share,
        "has_massive_activations": ends["compress_first"] is not None,
        "massive_prompts": int(massive.sum()),
        "reason": chosen.reason,
    }


def _means(parts: pl.DataFrame, group: str) -> dict[Any, float]:
    """Mean share by group; its sum is exact, so that it does not depend on the order of rows."""
    lists = parts.group_by(group).agg("share_before")
    return {key: math.fsum(shares) / len(shares) for key, shares in lists.iter_rows()}


def _agreement(mlps: pl.DataFrame, chosen: Writers, threshold: float) -> float:
    """Share of prompts whose own smallest set is the chosen one."""
    if not chosen.blocks:
        return math.nan
    by_prompt = (dict(prompt.select("block", "share_before").iter_rows()) for _, prompt in mlps.group_by("prompt"))
    same = [writing_blocks(shares, threshold=threshold).blocks == chosen.blocks for shares in by_prompt]
    return sum(same) / len(same)


def _most_common(parts: pl.DataFrame) -> tuple[int | None, float]:
    states = parts.filter(pl.col("part") == "embedding")["reference_state"].drop_nulls()
    if not len(states):
        return None, math.nan
    counts = states.value_counts().sort(["count", "reference_state"], descending=[True, False])
    return counts["reference_state"][0], counts["count"][0] / len(states)


def _elsewhere(states: pl.LazyFrame, limits: _Limits) -> str:
    massive = states.filter(pl.col("row_ratio").fill_nan(None) >= limits.massive_ratio)
    place = massive.select(pl.col("row_position").mode().min()).collect().item()
    return (
        f"the massive row is not at the sink position {limits.sink_position}, but at position {place} most often; "
        f"ask with --sink-position {place}"
    )


def _others(parts: pl.DataFrame) -> str:
    """What embedding and attention wrote, for the sentence that says why the MLPs do not suffice."""
    shares = _means(parts.group_by("prompt", "part").agg(pl.col("share_before").sum()), "part")
    return f"the embedding writes {shares['embedding']:.0%}, attention {shares['attention']:.0%}"


def _held(parts: pl.LazyFrame, dimensions: pl.LazyFrame) -> pl.DataFrame:
    """The dimensions in which a part writes most, by part."""
    keys = [*KEYS, "prompt", *PART]
    norms = parts.filter(pl.col("norm").fill_nan(None) > 0).select(*keys, "norm")
    prompts = norms.group_by([*KEYS, *PART]).agg(prompts=pl.len())
    held = dimensions.join(norms, on=keys, how="inner", nulls_equal=True)
    held = held.group_by([*KEYS, *PART, "dim"]).agg(held=((pl.col("value") / pl.col("norm")) ** 2).sum().round(9))
    held = held.join(prompts, on=[*KEYS, *PART], nulls_equal=True).filter(pl.col("held") >= HELD * pl.col("prompts"))
    ordered = held.sort(["held", "dim"], descending=[True, False])
    dims = ordered.group_by([*KEYS, *PART], maintain_order=True).agg(dims=pl.col("dim").cast(pl.Int64))
    return dims.with_columns(pl.col("block").cast(pl.Int64)).collect()


_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(KEYS, pl.String),
    "writing_blocks": pl.List(pl.Int64),
    **dict.fromkeys(("writing_share", "writing_threshold", "writing_agreement"), pl.Float64),
    "reference_state": pl.Int64,
    "reference_agreement": pl.Float64,
    "has_massive_activations": pl.Boolean,
    **dict.fromkeys(("compress_first", "compress_last"), pl.Int64),
    **dict.fromkeys(("prompts", "massive_prompts"), pl.Int64),
    "reason": pl.String,
}

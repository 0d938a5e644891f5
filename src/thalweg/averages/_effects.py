"""What does a change of the model do, prompt by prompt, against the model as it is.

Conventions: every prompt is compared with itself; only prompts with a finite value on both sides enter, `n` counts
them. Ratios are compared as logarithms, so that their difference is a factor, 1 for no change. Means, deviations and
95% intervals as everywhere (`_profile.py`). Compression at a state is C_l = max(0, 1 - e_l / r_l), e_l the entropy and
r_l what the model as it is has there for the same prompt without its massive rows: a row perfectly removed gives 0.
A segment's C is the mean over its states, its S the mean sink rate, at the segment's row, of the blocks that read them.
No torch.
"""

from collections.abc import Sequence

import polars as pl

from thalweg.averages._courses import COMPRESS, KEYS
from thalweg.averages._profile import GEOMETRIC, long, statistics

PLACE = ["site", "index", "metric"]
STATE = ("entropy", "entropy_normalized", "sink_norm", "rest_norm", "norm_ratio", "row_ratio")
BLOCK = ("sink_rate", "sink_score", "top_rate", "top_score", "elsewhere_rate", "mixing_normalized")


def changes(
    states: pl.LazyFrame,
    blocks: pl.LazyFrame,
    losses: pl.LazyFrame,
    segments: pl.DataFrame,
    intact: pl.Expr,
    *,
    by: Sequence[str],
    changed: str = "ablated",
) -> pl.DataFrame:
    """The effect of every condition at every state and block, over each segment, over the depth, and on the loss.

    Args:
        states: rows by condition, prompt and state.
        blocks: rows by condition, prompt and block.
        losses: rows by condition and prompt.
        segments: one row for each segment of the model as it is: `name`, `first`, `last`.
        intact: picks the rows of the model as it is, in each of the three.
        by: the columns that name a condition.
        changed: what the model under a condition is called.

    Returns:
        As `effects`, with the names of segments and "depth" as sites beside "state", "block" and "prompt", and
        `compress_first` and `compress_last`, null without a compress phase.

    Example:
        A model of 8 blocks, one prompt, one segment, two conditions: 206 rows by place, 18 of the segment, 6 of the
        depth.
    """
    measured = [
        measurements(states, blocks, losses, by=by),
        segment_means(states, blocks, segments, intact, by=by),
        depth_means(states, blocks, by=by),
    ]
    table = effects(pl.concat(measured), intact, by=by, changed=changed)
    ends = segments.filter(name=COMPRESS).select(*KEYS, compress_first="first", compress_last="last")
    return table.join(ends, on=KEYS, how="left", nulls_equal=True)


def measurements(
    states: pl.LazyFrame, blocks: pl.LazyFrame, losses: pl.LazyFrame, *, by: Sequence[str]
) -> pl.LazyFrame:
    """What was measured under several conditions, one row for each number.

    Args:
        states: rows by condition, prompt and state, with the norms, ratios and entropies.
        blocks: rows by condition, prompt and block, with rates, scores and mixing.
        losses: rows by condition and prompt, with `loss`.
        by: the columns that name a condition.

    Returns:
        Columns model, revision, data, prompt, those of ``by``, site ("state" | "block" | "prompt"), index (null for a
        prompt), metric, value.

    Example:
        A model of 8 blocks, one prompt, two conditions: 2 x (9 x 6 + 8 x 6 + 1) = 206 rows.
    """
    keys = [*KEYS, "prompt", *by]
    frames = [
        long(states, keys, STATE, site="state", index="state"),
        long(blocks, keys, BLOCK, site="block", index="block"),
        long(losses, keys, ("loss",), site="prompt"),
    ]
    return pl.concat(frames)


def compressions(states: pl.LazyFrame, intact: pl.Expr) -> pl.LazyFrame:
    """The rows with their C as `compression`, NaN where an entropy is missing.

    Args:
        states: rows by condition, prompt and state, with `entropy` and `entropy_without_massive`.
        intact: picks the rows of the model as it is.

    Example:
        Entropy 0.5, and 2 without the massive rows as the model is: C = 0.75.
    """
    on = [*KEYS, "prompt", "state"]
    without = pl.col("entropy_without_massive").fill_null(float("nan"))
    references = states.filter(intact).select(*on, reference=pl.when(without > 0).then(without).otherwise(float("nan")))
    joined = states.drop("entropy_without_massive").join(references, on=on, how="left", nulls_equal=True)
    c = 1 - pl.col("entropy").fill_null(float("nan")) / pl.col("reference")
    return joined.with_columns(compression=pl.when(c < 0).then(0.0).otherwise(c))


def segment_means(
    states: pl.LazyFrame, blocks: pl.LazyFrame, segments: pl.DataFrame, intact: pl.Expr, *, by: Sequence[str]
) -> pl.LazyFrame:
    """What each segment is like for every condition and prompt.

    Args:
        states: rows by condition, prompt and state, with entropies and `norm_ratio`.
        blocks: rows by condition, prompt and block.
        segments: one row for each segment of the model as it is: `name`, `first`, `last`.
        intact: picks the rows of the model as it is.
        by: the columns that name a condition.

    Returns:
        As `measurements`, the site being the segment's name, index null: `compression` (C), `entropy_normalized` and
        `norm_ratio` (means over its states, of the ratio the geometric one), `sinks` (S) and the means of what else
        blocks have over those that read these states. NaN where one of them is missing.

    Example:
        Entropies 1, 0.5 at the states of a segment, and 2 at both without the massive rows: C = 0.625.
    """
    keys = [*KEYS, "prompt", *by, "segment"]
    ends = segments.lazy().drop_nulls("first").select(*KEYS, "first", "last", segment="name")
    inside = compressions(states, intact).join(ends, on=KEYS, nulls_equal=True)
    of_states = (
        inside.filter(pl.col("state").is_between("first", "last"))
        .group_by(keys)
        .agg(pl.col("compression", "entropy_normalized").mean(), pl.col("norm_ratio").log().mean().exp())
    )
    reading = blocks.join(ends, on=KEYS, nulls_equal=True).filter(pl.col("block").is_between("first", "last"))
    of_blocks = reading.group_by(keys).agg(pl.col(BLOCK).mean()).rename({"sink_rate": "sinks"})
    named, others = ["compression", "entropy_normalized", "norm_ratio"], ["sinks", *BLOCK[1:]]
    rows = pl.concat([long(of_states, keys, named, site=""), long(of_blocks, keys, others, site="")])
    return rows.with_columns(site="segment").drop("segment")


def depth_means(states: pl.LazyFrame, blocks: pl.LazyFrame, *, by: Sequence[str]) -> pl.LazyFrame:
    """What the whole depth is like for every condition and prompt, phases or none.

    Args:
        states: rows by condition, prompt and state, with `entropy_normalized` and `norm_ratio`.
        blocks: rows by condition, prompt and block, with `sink_rate`.
        by: the columns that name a condition.

    Returns:
        As `measurements`, site "depth": `entropy_normalized` and `norm_ratio` (means over the states 1..L, of the
        ratio the geometric one) and `sink_rate` (mean over the blocks).

    Example:
        Normalized entropies 0.9, 0.5, 0.3 at states 0, 1, 2: 0.4.
    """
    keys = [*KEYS, "prompt", *by]
    written = states.filter(pl.col("state") > 0).group_by(keys)
    of_states = written.agg(pl.col("entropy_normalized").mean(), pl.col("norm_ratio").log().mean().exp())
    of_blocks = blocks.group_by(keys).agg(pl.col("sink_rate").mean())
    named = ["entropy_normalized", "norm_ratio"]
    frames = [long(of_states, keys, named, site="depth"), long(of_blocks, keys, ["sink_rate"], site="depth")]
    return pl.concat(frames)


def effects(measured: pl.LazyFrame, intact: pl.Expr, *, by: Sequence[str], changed: str = "ablated") -> pl.DataFrame:
    """The effect of every condition on every metric, paired by prompt.

    Args:
        measured: as `measurements` gives it.
        intact: picks the rows of the model as it is, which differ from themselves by nothing.
        by: the columns that name a condition.
        changed: what the model under a condition is called.

    Returns:
        One row for each model, revision, data, condition, site, index and metric: `intact` and `ablated` (means),
        `intact_std`, `ablated_std`, `difference` with `low` and `high` (mean of ablated - intact, or of the factor
        ablated / intact where `geometric`), `ablated_low`, `ablated_high`, `intact_low`, `intact_high` (intervals of
        the means), `n`, `geometric`. Columns are named after ``changed`` instead of `ablated`.

    Example:
        Entropies 1 and 3 become 2 and 6: intact 2, ablated 4, difference 2.
    """
    on = [*KEYS, "prompt", *PLACE]
    before = measured.filter(intact).select(*on, before="value")
    geometric = pl.col("metric").is_in(GEOMETRIC)
    pairs = (
        measured.join(before, on=on, how="inner", nulls_equal=True)
        .with_columns(
            after=pl.when(geometric).then(pl.col("value").log()).otherwise("value"),
            before=pl.when(geometric).then(pl.col("before").log()).otherwise("before"),
            geometric=geometric,
        )
        .filter(pl.col("after").is_finite() & pl.col("before").is_finite())
    )
    groups = [*KEYS, *by, *PLACE]
    places = measured.select(*groups, geometric=geometric).unique()
    lists = pairs.group_by(groups).agg("before", "after", change=pl.col("after") - pl.col("before"))
    table = places.join(lists, on=groups, how="left", nulls_equal=True).sort(groups).collect()
    difference = _averaged(table, "change").select(pl.col("mean").alias("difference"), "low", "high", "n")
    sides = [_side(table, "before", "intact"), _side(table, "after", changed), difference]
    return pl.concat([table.select(*groups, "geometric"), *sides], how="horizontal")


def _side(table: pl.DataFrame, lists: str, name: str) -> pl.DataFrame:
    """Mean, deviation and interval before or after, by row."""
    spread = pl.col("std", "low", "high").name.prefix(f"{name}_")
    return _averaged(table, lists).select(pl.col("mean").alias(name), spread)


def _averaged(table: pl.DataFrame, lists: str) -> pl.DataFrame:
    """Over the prompts of every row, of which there may be none."""
    return statistics(table.select(pl.col(lists).fill_null([]))[lists], table["geometric"])

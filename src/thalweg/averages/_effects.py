"""What does a change of the model do, prompt by prompt, against the model as it is.

Conventions: every prompt is compared with itself; only prompts with a finite value on both sides enter, `n` counts
them. Ratios are compared as logarithms, so that their difference is a factor, 1 for no change. Means, deviations and
95% intervals as everywhere (`_profile.py`). a and b are the first and last massive state of the model as it is. Per
prompt, compression C = 1 - mean of e_l over the states a..b / e at the last mix state a - 1, e the entropy, and sinks
S = mean sink rate of the blocks a..b. No torch.
"""

from collections.abc import Sequence

import polars as pl

from thalweg.averages._profile import GEOMETRIC, long, statistics
from thalweg.averages._segments import KEYS, boundaries
from thalweg.options import MASSIVE_RATIO

PLACE = ["site", "index", "metric"]
STATE = ("entropy", "entropy_normalized", "sink_norm", "rest_norm", "norm_ratio", "row_ratio")
BLOCK = ("sink_rate", "sink_score")


def changes(
    states: pl.LazyFrame,
    blocks: pl.LazyFrame,
    losses: pl.LazyFrame,
    intact: pl.Expr,
    *,
    by: Sequence[str],
    massive_ratio: float = MASSIVE_RATIO,
    changed: str = "ablated",
) -> pl.DataFrame:
    """The effect of every condition at every state and block, over the compress phase, over the depth, and on the loss.

    Args:
        states: rows by condition, prompt and state.
        blocks: rows by condition, prompt and block.
        losses: rows by condition and prompt.
        intact: picks the rows of the model as it is, in each of the three.
        by: the columns that name a condition.
        massive_ratio: the row ratio from which a row is massive.
        changed: what the model under a condition is called.

    Returns:
        As `effects`, with the sites "compress" and "depth" beside "state", "block" and "prompt", and `compress_first`
        and `compress_last`, null without a compress phase.

    Example:
        A model of 8 blocks, one prompt, two conditions: 142 rows by place, 8 of the compress phase, 6 of the depth.
    """
    ends = boundaries(states.filter(intact), massive_ratio=massive_ratio)
    measured = [
        measurements(states, blocks, losses, by=by),
        compress_means(states, blocks, ends, by=by),
        depth_means(states, blocks, by=by),
    ]
    table = effects(pl.concat(measured), intact, by=by, changed=changed)
    return table.join(ends.select(*KEYS, "compress_first", "compress_last"), on=KEYS, how="left", nulls_equal=True)


def measurements(
    states: pl.LazyFrame, blocks: pl.LazyFrame, losses: pl.LazyFrame, *, by: Sequence[str]
) -> pl.LazyFrame:
    """What was measured under several conditions, one row for each number.

    Args:
        states: rows by condition, prompt and state, with the norms, ratios and entropies.
        blocks: rows by condition, prompt and block, with `sink_rate` and `sink_score`.
        losses: rows by condition and prompt, with `loss`.
        by: the columns that name a condition.

    Returns:
        Columns model, revision, data, prompt, those of ``by``, site ("state" | "block" | "prompt"), index (null for a
        prompt), metric, value.

    Example:
        A model of 8 blocks, one prompt, two conditions: 2 x (9 x 6 + 8 x 2 + 1) = 142 rows.
    """
    keys = [*KEYS, "prompt", *by]
    frames = [
        long(states, keys, STATE, site="state", index="state"),
        long(blocks, keys, BLOCK, site="block", index="block"),
        long(losses, keys, ("loss",), site="prompt"),
    ]
    return pl.concat(frames)


def compress_means(
    states: pl.LazyFrame, blocks: pl.LazyFrame, ends: pl.DataFrame, *, by: Sequence[str]
) -> pl.LazyFrame:
    """What the compress phase is like for every condition and prompt.

    Args:
        states: rows by condition, prompt and state, with `entropy`, `entropy_normalized` and `norm_ratio`.
        blocks: rows by condition, prompt and block, with `sink_rate`.
        ends: what `boundaries` returns for the model as it is.
        by: the columns that name a condition.

    Returns:
        Columns model, revision, data, prompt, those of ``by``, site ("compress"), index (null), metric and value:
        `compression` (C), `entropy_normalized` and `norm_ratio` (means over a..b, of the ratio the geometric one),
        `sinks` (S). NaN where one of the states has no entropy, where there is no mix state, or where no block of the
        phase has a sink rate; no rows without a phase.

    Example:
        Entropies 2, 1, 0.5 at states 1, 2, 3 with a = 2, b = 3: C = 1 - 0.75 / 2 = 0.625.
    """
    keys = [*KEYS, "prompt", *by]
    first, last = pl.col("compress_first"), pl.col("compress_last")
    phase = ends.lazy().filter(first.is_not_null()).select(*KEYS, "compress_first", "compress_last")
    within = states.join(phase, on=KEYS, how="inner", nulls_equal=True)
    inside = pl.col("state").is_between(first, last)
    entropy, mix = pl.col("entropy"), pl.col("entropy").filter(pl.col("state") == first - 1)
    of_states = within.group_by(keys).agg(
        compression=1 - entropy.filter(inside).mean() / mix.first(),
        entropy_normalized=pl.col("entropy_normalized").filter(inside).mean(),
        norm_ratio=pl.col("norm_ratio").filter(inside).log().mean().exp(),
    )
    of_blocks = (
        blocks.join(phase, on=KEYS, how="inner", nulls_equal=True)
        .filter(pl.col("block").is_between(first, last))
        .group_by(keys)
        .agg(sinks=pl.col("sink_rate").mean())
    )
    named = ["compression", "entropy_normalized", "norm_ratio"]
    frames = [long(of_states, keys, named, site="compress"), long(of_blocks, keys, ["sinks"], site="compress")]
    return pl.concat(frames)


def depth_means(states: pl.LazyFrame, blocks: pl.LazyFrame, *, by: Sequence[str]) -> pl.LazyFrame:
    """What the whole depth is like for every condition and prompt, phases or none.

    Args:
        states: rows by condition, prompt and state, with `entropy_normalized` and `norm_ratio`.
        blocks: rows by condition, prompt and block, with `sink_rate`.
        by: the columns that name a condition.

    Returns:
        As `compress_means`, site "depth": `entropy_normalized` and `norm_ratio` (means over the states 1..L, of the
        ratio the geometric one) and `sink_rate` (mean over the blocks).

    Example:
        Normalized entropies 0.9, 0.5, 0.3 at states 0, 1, 2: 0.4.
    """
    keys = [*KEYS, "prompt", *by]
    written = states.filter(pl.col("state") > 0).group_by(keys)
    of_states = written.agg(pl.col("entropy_normalized").mean(), pl.col("norm_ratio").log().mean().exp())
    of_blocks = blocks.group_by(keys).agg(pl.col("sink_rate").mean())
    named = ["entropy_normalized", "norm_ratio"]
    return pl.concat([long(of_states, keys, named, site="depth"), long(of_blocks, keys, ["sink_rate"], site="depth")])


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

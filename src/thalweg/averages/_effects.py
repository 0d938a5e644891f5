"""What does a change of the model do, prompt by prompt, against the model as it is.

Conventions: every prompt is compared with itself; only prompts with a finite value on both sides enter, `n` counts
them. Ratios are compared as logarithms, so that their difference is a factor, 1 for no change. Means, deviations and
95% intervals as everywhere (`_intervals.py`). No torch.
"""

from collections.abc import Sequence

import polars as pl

from thalweg.averages._boundaries import KEYS
from thalweg.averages._intervals import statistics
from thalweg.averages._long import long
from thalweg.catalogue import metrics_at

PLACE = ["site", "index", "metric"]
SITES = {"state": "states", "block": "blocks"}
GEOMETRIC = frozenset(row.name for row in metrics_at("state") if row.kind == "geometric")
STATE = ("entropy", "entropy_normalized", "sink_norm", "rest_norm", "norm_ratio", "row_ratio")
BLOCK = ("sink_rate", "sink_score")


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
    geometric = pl.col("metric").is_in(list(GEOMETRIC))
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
    sides = [_side(table, "before", "intact"), _side(table, "after", changed), _difference(table)]
    return pl.concat([table.select(*groups, "geometric"), *sides], how="horizontal")


def _side(table: pl.DataFrame, lists: str, name: str) -> pl.DataFrame:
    """Mean, deviation and interval before or after, by row."""
    averages = _averaged(table, lists)
    return averages.select(
        pl.col("mean").alias(name),
        pl.col("std").alias(f"{name}_std"),
        pl.col("low").alias(f"{name}_low"),
        pl.col("high").alias(f"{name}_high"),
    )


def _difference(table: pl.DataFrame) -> pl.DataFrame:
    return _averaged(table, "change").select(pl.col("mean").alias("difference"), "low", "high", "n")


def _averaged(table: pl.DataFrame, lists: str) -> pl.DataFrame:
    """Over the prompts of every row, of which there may be none."""
    return statistics(table.select(pl.col(lists).fill_null([]))[lists], table["geometric"])

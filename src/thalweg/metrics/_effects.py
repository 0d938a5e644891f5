"""What does a change of the model do, prompt by prompt, against the model as it is.

Conventions: every prompt is compared with itself; only prompts with a finite value on both sides enter, `n` counts
them. Ratios are compared as logarithms, so that their difference is a factor, 1 for no change. Means, deviations and
95% intervals as everywhere (`_intervals.py`). No torch.
"""

from collections.abc import Sequence

import polars as pl

from thalweg.catalogue import metrics_at
from thalweg.metrics._boundaries import KEYS
from thalweg.metrics._intervals import VALUES, with_statistics

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
    place = pl.col("state").cast(pl.Int64).alias("index"), pl.col("block").cast(pl.Int64).alias("index")
    frames = [
        _long(states.with_columns(place[0]), keys, "state", STATE),
        _long(blocks.with_columns(place[1]), keys, "block", BLOCK),
        _long(losses.with_columns(pl.lit(None, pl.Int64).alias("index")), keys, "prompt", ("loss",)),
    ]
    return pl.concat(frames)


def effects(measured: pl.LazyFrame, intact: pl.Expr, *, by: Sequence[str]) -> pl.DataFrame:
    """The effect of every condition on every metric, paired by prompt.

    Args:
        measured: as `measurements` gives it.
        intact: picks the rows of the model as it is, which differ from themselves by nothing.
        by: the columns that name a condition.

    Returns:
        One row for each model, revision, data, condition, site, index and metric: `intact` and `ablated` (means),
        `intact_std`, `ablated_std`, `difference` with `low` and `high` (mean of ablated - intact, or of the factor
        ablated / intact where `geometric`), `ablated_low`, `ablated_high`, `intact_low`, `intact_high` (intervals of
        the means), `n`, `geometric`.

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
    sides = {"before": "intact", "after": "ablated", "change": "difference"}
    return pl.concat(
        [table.select(*groups, "geometric"), *(_side(table, column, name) for column, name in sides.items())],
        how="horizontal",
    ).rename({"difference_low": "low", "difference_high": "high"})


def _long(frame: pl.LazyFrame, keys: list[str], site: str, metrics: Sequence[str]) -> pl.LazyFrame:
    return (
        frame.select(*keys, "index", *[pl.col(name).cast(pl.Float64) for name in metrics])
        .unpivot(index=[*keys, "index"], on=metrics, variable_name="metric", value_name="value")
        .select(*keys, pl.lit(site).alias("site"), "index", "metric", "value")
    )


def _side(table: pl.DataFrame, column: str, name: str) -> pl.DataFrame:
    """Mean and interval of one of the three lists of every row."""
    lists = table.select("geometric", pl.col(column).fill_null([]).alias(VALUES))
    found = with_statistics(lists, "geometric")
    names = {"mean": name, "low": f"{name}_low", "high": f"{name}_high"}
    if name == "difference":
        return found.select("mean", "low", "high", "n").rename(names)
    return found.select("mean", "std", "low", "high").rename({**names, "std": f"{name}_std"})

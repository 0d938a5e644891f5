"""Do two measurements differ, place by place: of two models on the same prompts, or on different ones?

Conventions: with the same prompts every prompt is compared with itself (paired differences, t interval); with different
ones the two means are compared (Welch's t interval, degrees of freedom after Satterthwaite). Ratios are compared as
logarithms, so that their difference is a factor, 1 for no change. Values that are not finite are left out, and counted.
p is two-sided and adjusted by Holm over all places of a metric. *Moved* is what has an adjusted p below 0.05 and a
difference of at least 1% of the first mean, of what lies between 0 and 1 at least 0.01. No torch.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy.special import stdtr  # pyright: ignore[reportMissingTypeStubs]

from thalweg.averages._courses import KEYS
from thalweg.averages._paired import ALPHA, holm
from thalweg.averages._profile import GEOMETRIC, block_values, long, t_quantile
from thalweg.catalogue import METRICS

OF_STATES = ("entropy_normalized", "sink_norm", "rest_norm", "norm_ratio", "row_ratio", "peak_value")
OF_BLOCKS = ("sink_rate", "mixing_normalized")
OF_HEADS = ("sink_score", "mixing_normalized")
OVERALL = (
    ("sink_rate", "block", "mean"),
    ("entropy_normalized", "state", "min"),
    ("row_ratio", "state", "max"),
    ("peak_value", "state", "max"),
    ("mixing_normalized", "block", "mean"),
)
"""What is told of the whole depth, per prompt: means over blocks, extremes over the states that a block wrote."""
NOTICEABLE = 0.01
"""Of the first mean; of shares, as they are."""
PLACES = ("site", "index", "metric")
HEAD_PLACES = ("block", "head", "metric")
_SHARES = [metric.name for metric in METRICS if (metric.low, metric.high) == (0.0, 1.0)]


def measured_places(layers: pl.LazyFrame, heads: pl.LazyFrame, prompts: pl.LazyFrame, *, tau: float) -> pl.DataFrame:
    """The numbers of each prompt that are compared: at every state and block, and over the depth.

    Args:
        layers: rows of one model on one data set by prompt and state.
        heads: rows by prompt, block and head.
        prompts: rows by prompt, with `sink_uniform`.
        tau: threshold of the sink rate.

    Returns:
        Columns prompt, site ("state" | "block" | "depth"), index (null for the depth), metric, value; of the largest
        entry the magnitude.

    Example:
        Normalized entropies 0.9, 0.2, 0.4 at states 0, 1, 2: these three, and 0.2 over the depth.
    """
    keys = [*KEYS, "prompt"]
    states = layers.with_columns(pl.col("peak_value").abs())
    blocks, _ = block_values(heads, prompts, tau)
    of_states = long(states, keys, OF_STATES, site="state", index="state")
    of_blocks = long(blocks.lazy(), keys, OF_BLOCKS, site="block", index="block")
    at_places = pl.concat([of_states, of_blocks]).select("prompt", *PLACES, "value").collect()
    written = at_places.filter((pl.col("site") == "block") | (pl.col("index") > 0), pl.col("value").is_finite())
    overall = [
        written.filter(site=site, metric=metric)
        .group_by("prompt", maintain_order=True)
        .agg(getattr(pl.col("value"), how)())
        .select("prompt", site=pl.lit("depth"), index=pl.lit(None, pl.Int64), metric=pl.lit(metric), value="value")
        for metric, site, how in OVERALL
    ]
    return pl.concat([at_places, *overall])


def measured_heads(heads: pl.LazyFrame) -> pl.DataFrame:
    """The same of every head: columns prompt, block, head, metric, value.

    Example:
        One prompt, 2 blocks of 3 heads: 12 rows, a sink score and a mixing of each head.
    """
    numbers = heads.select("prompt", "block", "head", *(pl.col(name).cast(pl.Float64) for name in OF_HEADS)).collect()
    return numbers.unpivot(index=["prompt", "block", "head"], on=OF_HEADS, variable_name="metric", value_name="value")


def compared(one: pl.DataFrame, other: pl.DataFrame, *, by: Sequence[str], paired: bool) -> pl.DataFrame:
    """How the other measurement differs from the one, at every place.

    Args:
        one: columns prompt, those of ``by`` (metric among them) and value; prompts are equal where they are the same.
        other: the same.
        by: what a place is.
        paired: whether every prompt is compared with itself; prompts that only one has are then left out.

    Returns:
        Those of ``by``; `geometric`; `one` and `other` (means) with `one_std` and `other_std`; `difference` (other -
        one, or the factor where geometric) with its 95% interval `low`, `high`; `n_one` and `n_other`; `p`, and
        `adjusted` over all places of the metric; `moved`, null where p is undefined. Sorted by place.

    Example:
        Entropies 1, 2, 3 become 2, 3, 4.1: difference 1.033 [0.890, 1.177].
    """
    ready, changes = [_ready(rows, by) for rows in (one, other)], None
    if paired:
        on = [*by, "prompt"]
        both = ready[0].join(ready[1], on=on, how="inner", nulls_equal=True, suffix="_other")
        ready = [both.drop("value_other"), both.drop("value").rename({"value_other": "value"})]
        differing = both.with_columns(value=pl.col("value_other") - pl.col("value"))
        changes = _moments(differing, by).rename({"mean": "difference", "std": "spread", "n": "pairs"})
    sides = [
        _moments(rows, by).rename({"mean": name, "std": f"{name}_std", "n": f"n_{name}"})
        for rows, name in zip(ready, ("one", "other"), strict=True)
    ]
    table = sides[0].join(sides[1], on=by, how="inner", nulls_equal=True)
    if changes is not None:
        table = table.join(changes, on=by, how="inner", nulls_equal=True)
        error, freedom = pl.col("spread") / pl.col("pairs").sqrt(), pl.col("pairs") - 1.0
    else:
        error, freedom = _welch()
        table = table.with_columns(difference=pl.col("other") - pl.col("one"))
    table = table.with_columns(error=error, freedom=freedom).sort(by, nulls_last=True)
    return _judged(table).select(*by, *_COLUMNS)


_COLUMNS = (
    *("geometric", "one", "one_std", "other", "other_std", "difference", "low", "high", "n_one", "n_other"),
    *("p", "adjusted", "moved"),
)


def _ready(rows: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Finite values, ratios as logarithms."""
    number = pl.col("value").cast(pl.Float64)
    value = pl.when(pl.col("metric").is_in(GEOMETRIC)).then(number.log()).otherwise(number)
    return rows.select("prompt", *by, value=value).filter(pl.col("value").is_finite())


def _moments(rows: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    value = pl.col("value")
    return rows.group_by(by, maintain_order=True).agg(mean=value.mean(), std=value.std(), n=pl.len().cast(pl.Int64))


def _welch() -> tuple[pl.Expr, pl.Expr]:
    """Standard error of the difference of two means, and its degrees of freedom."""
    one, other = (pl.col(f"{name}_std") ** 2 / pl.col(f"n_{name}") for name in ("one", "other"))
    freedom = (one + other) ** 2 / (one**2 / (pl.col("n_one") - 1.0) + other**2 / (pl.col("n_other") - 1.0))
    return (one + other).sqrt(), freedom


def _judged(table: pl.DataFrame) -> pl.DataFrame:
    """With intervals, p, and what has moved."""
    difference, error, freedom = (
        table[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("difference", "error", "freedom")
    )
    half = t_quantile(freedom + 1) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.asarray(2 * stdtr(freedom, -np.abs(difference / error)))
    p = np.where(error == 0, np.where(difference == 0, 1.0, 0.0), p)
    half = np.where(error == 0, 0.0, half)
    ends = {"low": pl.Series(difference - half), "high": pl.Series(difference + half), "p": pl.Series(p)}
    table = table.with_columns(geometric=pl.col("metric").is_in(GEOMETRIC), **ends)
    table = table.with_columns(adjusted=_adjusted(table))
    least = pl.when("geometric").then(np.log1p(NOTICEABLE)).otherwise(NOTICEABLE * pl.col("one").abs())
    least = pl.when(pl.col("metric").is_in(_SHARES)).then(pl.max_horizontal(least, NOTICEABLE)).otherwise(least)
    moved = (pl.col("adjusted") < ALPHA) & (pl.col("difference").abs() >= least)
    powers = [
        pl.when("geometric").then(pl.col(name).exp()).otherwise(name).alias(name)
        for name in ("one", "other", "difference", "low", "high")
    ]
    return table.with_columns(moved=pl.when(pl.col("p").is_not_nan()).then(moved)).with_columns(powers)


def _adjusted(table: pl.DataFrame) -> pl.Series:
    """Holm's p over the places of a metric and, where there are several kinds of them, of a site."""
    groups = ["metric", *(["site"] if "site" in table.columns else [])]
    numbered = table.with_row_index("row").filter(pl.col("p").is_not_nan())
    adjusted = np.full(table.height, np.nan)
    for _, some in numbered.group_by(groups):
        adjusted[some["row"].to_numpy()] = holm(some["p"].to_list())
    return pl.Series(adjusted)

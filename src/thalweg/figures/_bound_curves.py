"""Preparation: measurement beside the theory's bounds, averaged over the same prompts."""

import polars as pl

from thalweg.figures._pairs import Pair
from thalweg.store import Run

_NAN = float("nan")
BOUND_QUANTITIES: dict[str, pl.Expr] = {
    "sigma1": pl.col("sigma1_sq").sqrt(),
    "sink_norm": pl.col("sink_norm"),
    "frobenius": pl.col("frobenius_sq").sqrt(),
    "M": pl.col("M"),
    "alpha_R": pl.col("alpha") * pl.col("R"),
    "M_plus_R": pl.col("M") + pl.col("R"),
    "sigma1_sq": pl.col("sigma1_sq"),
    "sigma2_sq": pl.col("sigma2_sq"),
    "sigma3_sq": pl.col("sigma3_sq"),
    "top_three": pl.sum_horizontal("sigma1_sq", "sigma2_sq", "sigma3_sq"),
    "dominance": pl.col("dominance"),
    "dominance_bound": pl.col("dominance_bound"),
    "dominance_bound_weak": pl.col("dominance_bound_weak"),
    "anisotropy": pl.col("anisotropy"),
    "anisotropy_bound": pl.col("anisotropy_bound"),
    "anisotropy_bound_weak": pl.col("anisotropy_bound_weak"),
    "entropy": pl.col("entropy"),
    "entropy_bound": pl.col("entropy_bound"),
    "entropy_bound_weak": pl.col("entropy_bound_weak"),
    "entropy_bound_massive": pl.col("entropy_bound_massive"),
}
# Compared quantities are averaged over the prompts where all of them are finite: else the mean of a bound could lie on
# the wrong side of the mean of what it bounds.
_TOGETHER = (
    ("sigma1", "sink_norm", "frobenius", "M", "alpha_R", "M_plus_R"),
    ("sigma1_sq", "sigma2_sq", "sigma3_sq", "top_three"),
    ("dominance", "dominance_bound", "dominance_bound_weak"),
    ("anisotropy", "anisotropy_bound", "anisotropy_bound_weak"),
    ("entropy", "entropy_bound", "entropy_bound_weak", "entropy_bound_massive"),
)


def bound_curves(run: Run, pair: Pair) -> pl.DataFrame:
    """Give what the theorem speaks about, by state, for one model on one data set.

    Args:
        run: the run; its ``layers`` are enough, finished or not.
        pair: the model and the data set.

    Returns:
        One row per quantity and state: ``quantity index mean lower upper n``; spread is one standard deviation. States
        where no prompt has a finite value carry NaN.
    """
    per_prompt = run.layers.filter(pair.rows).select(
        pl.col("state").alias("index"), *(value.alias(name) for name, value in BOUND_QUANTITIES.items())
    )
    for group in _TOGETHER:
        finite = pl.all_horizontal(pl.col(name).is_finite() for name in group)
        per_prompt = per_prompt.with_columns(pl.when(finite).then(pl.col(group)).otherwise(None))
    long = per_prompt.collect().unpivot(index="index", variable_name="quantity", value_name="value")
    value = pl.col("value")
    table = long.group_by("quantity", "index", maintain_order=True).agg(
        value.mean().alias("mean"), value.std().fill_null(0.0).alias("std"), value.count().alias("n")
    )
    return table.sort("quantity", "index", maintain_order=True).select(
        "quantity",
        "index",
        pl.col("mean").fill_null(_NAN),
        (pl.col("mean") - pl.col("std")).fill_null(_NAN).alias("lower"),
        (pl.col("mean") + pl.col("std")).fill_null(_NAN).alias("upper"),
        "n",
    )

"""Mean, spread and 95% interval of many prompts at once, as polars expressions.

Conventions: values that are not finite are left out and `n` counts the rest; standard deviation with ddof 1; the
interval is mean +- t(n - 1) std / sqrt(n) at 97.5%. Geometric rows are averaged as logarithms: `mean`, `low`, `high`
are exponentials, `std` stays that of the logarithms. Without two values `std`, `low` and `high` are NaN, without one
the mean is NaN too. No torch.
"""

import math

import numpy as np
import polars as pl
from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs]

__all__ = ["STATISTICS", "interval_columns", "statistics"]

STATISTICS = ("mean", "std", "low", "high", "n")


def statistics(value: str, geometric: str) -> list[pl.Expr]:
    """Aggregations `mean`, `std` and `n` of one column of a long frame; those of logarithms where `geometric` is true.

    Args:
        value: name of the column of values.
        geometric: name of the boolean column, constant in each group.

    Returns:
        Expressions for ``group_by(...).agg``.
    """
    number = pl.when(pl.col(geometric)).then(pl.col(value).log()).otherwise(pl.col(value))
    finite = number.filter(number.is_finite())
    return [finite.mean().alias("mean"), finite.std(ddof=1).alias("std"), finite.count().cast(pl.Int64).alias("n")]


def interval_columns(frame: pl.DataFrame, geometric: str) -> pl.DataFrame:
    """Adds `low` and `high` to `mean`, `std` and `n`, with NaN for what is undefined, and undoes logarithms."""
    count = frame["n"].to_numpy()
    half = pl.lit(pl.Series(frame["std"].fill_null(math.nan).to_numpy() * _quantiles(count) / np.sqrt(count.clip(1))))
    mean = pl.col("mean").fill_null(math.nan)
    columns = {"mean": mean, "low": mean - half, "high": mean + half}
    return frame.with_columns(
        pl.col("std").fill_null(math.nan),
        *[pl.when(pl.col(geometric)).then(value.exp()).otherwise(value).alias(name) for name, value in columns.items()],
    )


def _quantiles(counts: np.ndarray) -> np.ndarray:
    """Student's t at 97.5% for each number of values; NaN below two."""
    degrees = np.where(counts > 1, counts - 1, 1)
    return np.where(counts > 1, stdtrit(degrees, 0.975), math.nan)

"""Mean, spread and 95% interval of many prompts.

Conventions: values that are not finite are left out and `n` counts the rest; standard deviation with ddof 1; the
interval is mean +- t(n - 1) std / sqrt(n) at 97.5%. Geometric rows are averaged as logarithms: `mean`, `low`, `high`
are exponentials, `std` stays that of the logarithms. Without two values `std`, `low` and `high` are NaN, without one
the mean is NaN too. No torch.
"""

import math

import numpy as np
import polars as pl
from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs]

STATISTICS = ("mean", "std", "low", "high", "n")
LOGGED = ("mean", "low", "high")
VALUES = "values"


def gathered(value: str, geometric: str) -> pl.Expr:
    """All finite values of a group as a list, their logarithms where ``geometric`` is true; for ``group_by(...).agg``.

    Args:
        value: name of the column of values.
        geometric: name of the boolean column, constant in each group.
    """
    number = pl.when(pl.col(geometric)).then(pl.col(value).log()).otherwise(pl.col(value))
    return number.filter(number.is_finite()).alias(VALUES)


def with_statistics(frame: pl.DataFrame, geometric: str) -> pl.DataFrame:
    """Replaces gathered lists by `mean`, `std`, `low`, `high` and `n`, with NaN for what is undefined.

    Sums are exact before they are rounded, so they do not depend on the order of rows: two runs over the same prompts
    compare bit by bit.
    """
    moments = [_moments(values.to_numpy()) for values in frame[VALUES]]
    mean, std, count = (np.array(column) for column in zip(*moments, strict=True)) if moments else (np.empty(0),) * 3
    half = std * _quantiles(count) / np.sqrt(np.maximum(count, 1))
    table = frame.drop(VALUES).with_columns(
        pl.Series("mean", mean, pl.Float64),
        pl.Series("std", std, pl.Float64),
        pl.Series("low", mean - half, pl.Float64),
        pl.Series("high", mean + half, pl.Float64),
        pl.Series("n", count, pl.Int64),
    )
    undone = [
        pl.when(pl.col(geometric)).then(pl.col(name).exp()).otherwise(pl.col(name)).alias(name) for name in LOGGED
    ]
    return table.with_columns(undone)


def _moments(values: np.ndarray) -> tuple[float, float, int]:
    count = len(values)
    mean = math.fsum(values) / count if count else math.nan
    spread = math.sqrt(math.fsum((values - mean) ** 2) / (count - 1)) if count > 1 else math.nan
    return mean, spread, count


def _quantiles(counts: np.ndarray) -> np.ndarray:
    """Student's t at 97.5% for each number of values; NaN below two."""
    degrees = np.where(counts > 1, counts - 1, 1)
    return np.where(counts > 1, stdtrit(degrees, 0.975), math.nan)

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


def gathered(value: str, geometric: str | None = None) -> pl.Expr:
    """All finite values of a group as a list `values`; for ``group_by(...).agg``.

    Args:
        value: name of the column of values.
        geometric: name of a boolean column, constant in each group: where it is true, their logarithms. None: nowhere.

    Example:
        Of 1, NaN and 3: the list 1, 3.
    """
    number = pl.col(value)
    if geometric is not None:
        number = pl.when(pl.col(geometric)).then(number.log()).otherwise(number)
    return number.filter(number.is_finite()).alias(VALUES)


def with_statistics(frame: pl.DataFrame, geometric: str | None = None) -> pl.DataFrame:
    """Replace the lists that `gathered` makes by their `statistics`.

    Args:
        frame: with the column `values`.
        geometric: as for `gathered`.

    Example:
        The list 1, 3: mean 2, std 1.4142, interval 2 +- 12.706, n 2.
    """
    averages = statistics(frame[VALUES], None if geometric is None else frame[geometric])
    return pl.concat([frame.drop(VALUES), averages], how="horizontal")


def statistics(lists: pl.Series, geometric: pl.Series | None = None) -> pl.DataFrame:
    """`mean`, `std`, `low`, `high` and `n` of every list, NaN for what is undefined.

    Sums are exact before they are rounded, so they do not depend on the order of rows: two runs over the same prompts
    compare bit by bit.

    Args:
        lists: of finite values, of logarithms where ``geometric`` is true.
        geometric: of as many booleans; None for no list.

    Example:
        The list 1, 3: mean 2, std 1.4142, interval 2 +- 12.706, n 2.
    """
    moments = [_moments(values.to_numpy()) for values in lists]
    mean, std, count = (np.array(column) for column in zip(*moments, strict=True)) if moments else (np.empty(0),) * 3
    half = std * t_quantile(count) / np.sqrt(np.maximum(count, 1))
    table = pl.DataFrame(
        {"mean": mean, "std": std, "low": mean - half, "high": mean + half, "n": count},
        schema={**dict.fromkeys(STATISTICS, pl.Float64), "n": pl.Int64},
    )
    if geometric is None:
        return table
    powers = [pl.when(geometric).then(pl.col(name).exp()).otherwise(pl.col(name)).alias(name) for name in LOGGED]
    return table.with_columns(powers)


def t_quantile(counts: int | np.ndarray, /) -> np.ndarray:
    """Student's t at 97.5% with one degree of freedom less than there are values; NaN below two.

    Args:
        counts: numbers of values.

    Example:
        Two values: 12.706.
    """
    return np.asarray(stdtrit(np.asarray(counts) - 1, 0.975))


def _moments(values: np.ndarray) -> tuple[float, float, int]:
    count = len(values)
    mean = math.fsum(values) / count if count else math.nan
    spread = math.sqrt(math.fsum((values - mean) ** 2) / (count - 1)) if count > 1 else math.nan
    return mean, spread, count

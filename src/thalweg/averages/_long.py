"""Rows with a column for each metric, made long: one row for each number.

Conventions: a number that is null was not measured, and is NaN, as everything undefined. No torch.
"""

import math
from collections.abc import Sequence

import polars as pl


def long(
    frame: pl.LazyFrame, keys: Sequence[str], metrics: Sequence[str], *, site: str, index: str | None = None
) -> pl.LazyFrame:
    """One row for each row and metric.

    Args:
        frame: with a column for each of the metrics.
        keys: columns to keep.
        metrics: names of columns.
        site: what the rows are about: "state", "block", "prompt" ...
        index: the column that counts them; None where there is one a key.

    Returns:
        The columns of ``keys``, site, index (null without one), metric, value.

    Example:
        One row with entropy 2 and norm_ratio 5 at state 3: two rows with site "state" and index 3.
    """
    at = (pl.lit(None, pl.Int64) if index is None else pl.col(index).cast(pl.Int64)).alias("index")
    numbers = [pl.col(name).cast(pl.Float64).fill_null(math.nan) for name in metrics]
    return (
        frame.select(*keys, at, *numbers)
        .unpivot(index=[*keys, "index"], on=metrics, variable_name="metric", value_name="value")
        .select(*keys, pl.lit(site).alias("site"), "index", "metric", "value")
    )

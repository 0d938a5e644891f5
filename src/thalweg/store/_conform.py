"""Rows as they are stored: with the table's columns, types and order."""

import polars as pl

from thalweg.store._columns import Table


def conform(name: str, frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Give the frame with the table's columns, types and row order; gaps in floats that are not absent are NaN.

    Args:
        name: the table's name, for errors.
        frame: its rows, columns in any order and of any type that casts without loss of range.
        table: what is wanted.

    Raises:
        ValueError: a column is missing, unexpected, or holds what its type cannot.
    """
    wanted = table.schema
    missing = [column for column in wanted if column not in frame.columns]
    unexpected = [column for column in frame.columns if column not in wanted]
    if missing or unexpected:
        raise ValueError(
            f"table {name}: expected the columns of its schema; "
            f"missing: {', '.join(missing) or 'none'}; unexpected: {', '.join(unexpected) or 'none'}"
        )
    try:
        frame = frame.select(list(wanted)).cast(pl.Schema(wanted))
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"table {name}: a column cannot be stored as its type: {error}") from error
    gaps = [column for column, dtype in wanted.items() if dtype.is_float() and column not in table.absent]
    frame = frame.with_columns(pl.col(gaps).fill_null(float("nan")))
    return frame.sort(table.order, maintain_order=True) if table.order else frame

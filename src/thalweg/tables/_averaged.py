"""Rows of single prompts, averaged: of every number the mean over prompts, its spread, interval and count.

Conventions are those of the profile: values that are not finite are left out and counted, ratios are averaged as
logarithms. Flags are averaged as shares; of positions, counts and texts the most frequent one stands, the least of
several.
"""

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from thalweg.averages import KEYS, gathered, statistics
from thalweg.catalogue import METRICS
from thalweg.store import Column, Table

PROMPT = "prompt"
SPREAD = ("std", "low", "high", "n")
_KINDS = {metric.name: metric.kind for metric in METRICS}


def places_of(table: Table) -> list[str]:
    """What tells the rows of one prompt apart; nothing where a prompt has one row, or the table is not of prompts."""
    return [name for name in table.order if name != PROMPT] if PROMPT in table.order else []


def averaged(rows: pl.LazyFrame, table: Table) -> tuple[pl.DataFrame, Table]:
    """Average rows over prompts.

    Args:
        rows: one for each model, data set, prompt and place.
        table: as it is declared.

    Returns:
        One row for each model, data set and place: beside each mean its `_std`, `_low`, `_high` and `_n`, and in
        `prompts` how many there are; and the declaration of that.
    """
    present = set(rows.collect_schema().names())
    places = places_of(table)
    keys = [name for name in (*KEYS, *places) if name in present]
    others = [column for column in table.columns if column.name in present - {*keys, PROMPT}]
    grouped = rows.sort(keys, maintain_order=True, nulls_last=True).group_by(keys, maintain_order=True)
    common = [_most_frequent(column.name) for column in others if not _is_number(column)]
    frame = grouped.agg(*common, pl.len().cast(pl.Int64).alias("prompts")).collect()
    for column in filter(_is_number, others):
        geometric = is_geometric(column)
        lists = rows.group_by(keys).agg(gathered(column.name, geometric=geometric).alias(column.name)).collect()
        joined = frame.select(keys).join(lists, on=keys, how="left", nulls_equal=True, maintain_order="left")
        found = statistics(joined[column.name], pl.Series([geometric] * joined.height, dtype=pl.Boolean))
        frame = frame.hstack(found.rename({name: _named(column.name, name) for name in found.columns}))
    columns = [*_declared(table, keys), *(each for column in others for each in _columns(column))]
    columns.append(Column("prompts", pl.Int64(), "prompts that have such a row", "prompts"))
    return frame.select([column.name for column in columns]), replace(table, columns=tuple(columns))


def is_geometric(column: Column) -> bool:
    """Whether a number is averaged as a logarithm: as the catalogue has it, and what else is a ratio."""
    kind = _KINDS.get(column.name)
    return column.unit == "ratio" if kind is None else kind == "geometric"


def _is_number(column: Column) -> bool:
    return (column.dtype.is_float() or column.dtype == pl.Boolean) and _KINDS.get(column.name) != "place"


def _most_frequent(name: str) -> pl.Expr:
    return pl.col(name).drop_nulls().mode().min()


def _named(name: str, statistic: str) -> str:
    return name if statistic == "mean" else f"{name}_{statistic}"


def _declared(table: Table, names: Sequence[str]) -> list[Column]:
    known = {column.name: column for column in table.columns}
    return [known[name] for name in names]


def _columns(column: Column) -> list[Column]:
    if not _is_number(column):
        return [replace(column, meaning=f"{column.meaning}; the most frequent")]
    unit = "share of prompts" if column.dtype == pl.Boolean else column.unit
    mean = Column(column.name, pl.Float64(), f"{column.meaning}; mean over prompts", unit)
    spread = (
        Column(f"{column.name}_std", pl.Float64(), f"standard deviation of `{column.name}` over prompts"),
        Column(f"{column.name}_low", pl.Float64(), f"lower end of the 95% interval of `{column.name}`", unit),
        Column(f"{column.name}_high", pl.Float64(), "upper end of it", unit),
        Column(f"{column.name}_n", pl.Int64(), f"prompts with a finite `{column.name}`", "prompts"),
    )
    return [mean, *spread]

"""What a table of a run holds: every column said once, with its type, its unit and its meaning.

Schemas, the page about the run directory and the labels of figures are made from these rows.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: that of the definitions page.
        dtype: a polars type. A float that is undefined is NaN, a position or a count that is undefined is null.
        meaning: one sentence without a full stop.
        unit: in words; empty for what has none.
    """

    name: str
    dtype: Any  # neither pl.DataType nor pl.Schema is a hint that the tests' runtime type checker accepts
    meaning: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        row: what one row is.
        columns: in order.
        order: the columns that the rows of a part are sorted by.
        absent: float columns whose gaps stay null, since absent is not undefined there.
        brief: the columns, or the values of ``across``, that a printed table shows where there is no room for all; all
            of them by default.
        across: the column whose values a printed table has side by side, as one column each.
    """

    row: str
    columns: tuple[Column, ...]
    order: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    brief: tuple[str, ...] = ()
    across: str = ""

    @property
    def schema(self) -> dict[str, Any]:
        """Names with their polars types, in order."""
        return {column.name: column.dtype for column in self.columns}


@dataclass(frozen=True)
class Tables:
    """The tables that one experiment adds to a run.

    Attributes:
        parts: written shard by shard, a row for each prompt and condition.
        wholes: made from the parts when all is measured, or written at once where there are no parts.
        plans: those of the wholes that say what is to be measured: written before the first part, and left by new ones.
        main: the one that is meant where the experiment alone is named; by default the last.
    """

    parts: Mapping[str, Table] = field(default_factory=dict[str, Table])
    wholes: Mapping[str, Table] = field(default_factory=dict[str, Table])
    plans: tuple[str, ...] = ()
    main: str = ""

    def __getitem__(self, name: str) -> Table:
        """Give one table; ValueError where there is no such one."""
        known = {**self.parts, **self.wholes}
        if name not in known:
            raise ValueError(f"expected one of {', '.join(known)} as table, got {name!r}")
        return known[name]


_PLAIN = ("Binary", "Boolean", "Date", "Datetime", "Float32", "Float64", "Int8", "Int16", "Int32", "Int64", "String")
_LIST = re.compile(r"List\((.+)\)\Z")
_LONGEST = 40


def dtype_of(name: str) -> Any:
    """Give the type of a name, such as ``Float64`` or ``List(Int64)``; ValueError where no such type is stored."""
    if (inner := _LIST.match(name)) and len(name) <= _LONGEST:
        return pl.List(dtype_of(inner[1]))
    if name not in _PLAIN:
        got = repr(name)[:_LONGEST]
        raise ValueError(f"expected one of {', '.join(_PLAIN)} or a List of one as type of a column, got {got}")
    return getattr(pl, name)()


def conform(name: str, frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Give the frame with the table's columns, types and row order; gaps in floats that are not absent are NaN.

    ValueError where a column is missing, unexpected, or holds what its type cannot; ``name`` is for that.
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

"""What a table of a run holds: every column said once, with its type, its unit and its meaning.

Schemas, the page about the run directory and the labels of figures are made from these rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
    """

    row: str
    columns: tuple[Column, ...]
    order: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

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
    """

    parts: Mapping[str, Table] = field(default_factory=dict[str, Table])
    wholes: Mapping[str, Table] = field(default_factory=dict[str, Table])
    plans: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Table:
        """Give one table.

        Raises:
            ValueError: there is no such table.
        """
        known = {**self.parts, **self.wholes}
        if name not in known:
            raise ValueError(f"expected one of {', '.join(known)} as table, got {name!r}")
        return known[name]

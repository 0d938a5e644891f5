"""The columns of the tables that experiments add to a run, ``RUN/<experiment>/``.

Every experiment has tables in parts, one row for each prompt and condition, and tables made from them when all is
measured. The last part table named is the one whose file makes a part count.
"""

from dataclasses import dataclass
from typing import Any

import polars as pl

from thalweg.store._schemas import conform_to

__all__ = ["EXPERIMENTS", "ExperimentTables", "conform_experiment", "experiment_schema"]


@dataclass(frozen=True)
class ExperimentTables:
    """Tables of one experiment: name -> columns with their polars types.

    Attributes:
        parts: written shard by shard.
        wholes: written at the end, from the parts.
        order: the columns that the rows of a table are sorted by.
    """

    parts: dict[str, dict[str, Any]]
    wholes: dict[str, dict[str, Any]]
    order: dict[str, tuple[str, ...]]


def _columns(names: str, dtype: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), dtype)


EXPERIMENTS: dict[str, ExperimentTables] = {}
"""By name of the directory in the run."""


def experiment_schema(experiment: str, table: str) -> dict[str, Any]:
    """Give the columns of one table of an experiment, in order.

    Raises:
        ValueError: there is no such experiment or table.
    """
    if experiment not in EXPERIMENTS:
        raise ValueError(f"expected one of {', '.join(EXPERIMENTS)} as experiment, got {experiment!r}")
    tables = EXPERIMENTS[experiment]
    known = {**tables.parts, **tables.wholes}
    if table not in known:
        raise ValueError(f"expected one of {', '.join(known)} as table of {experiment}, got {table!r}")
    return known[table]


def conform_experiment(experiment: str, table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Give the frame with the table's columns, types and row order; gaps in floats are NaN.

    Raises:
        ValueError: a column is missing, unexpected, or holds what its type cannot.
    """
    wanted = experiment_schema(experiment, table)
    order = EXPERIMENTS[experiment].order.get(table, ())
    return conform_to(f"{experiment}/{table}", frame, wanted, order=order)

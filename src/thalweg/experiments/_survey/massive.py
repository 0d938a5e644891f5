"""Which entries and rows are massive, drawn together over prompts and states."""

from typing import Any

import polars as pl

from thalweg.experiments._pairs import Pair, heading
from thalweg.shown import Section, Table, amount, listing, percent, spans
from thalweg.store import Run

MASSIVE_COLUMNS = ("kind", "position", "token", "dimension", "states", "median value", "median row norm", "prompts")
_LISTED = 20


def massive_section(run: Run, pair: Pair) -> Section:
    """Give the most common massive entries and rows of one model on one data set."""
    rows = massive_rows(run, pair)
    if not rows.height:
        return Section("", sentences=[f"{heading(run, pair)}: none in any prompt and state"])
    rest = max(0, rows.height - _LISTED)
    note = f"{rest:,} rarer ones are not shown. " if rest else ""
    cells = [_cells(row) for row in rows.head(_LISTED).iter_rows(named=True)]
    note += "At most 16 are stored per prompt and state, the largest first."
    return Section("", tables=[Table(heading(run, pair), MASSIVE_COLUMNS, cells, note)])


def massive_rows(run: Run, pair: Pair) -> pl.DataFrame:
    """Give the massive entries and rows, drawn together over prompts and states.

    Args:
        run: the run; ``massive`` is enough.
        pair: the model and the data set.

    Returns:
        One row per kind, position and dimension: ``kind position tokens dim states value row_norm share``, most common
        first; ``tokens`` are the texts met there, most common first, ``value`` and ``row_norm`` medians, ``share`` of
        prompts.
    """
    prompts = run.prompts.filter(pair.rows).select(pl.len()).collect().item()
    table = (
        run.massive.filter(pair.rows)
        .group_by("kind", "position", "dim")
        .agg(
            pl.col("token").value_counts(sort=True).struct.field("token").head(3).alias("tokens"),
            pl.col("state").unique().sort().alias("states"),
            pl.col("value", "row_norm").median(),
            (pl.col("prompt").n_unique() / max(prompts, 1)).alias("share"),
        )
        .collect()
    )
    size = pl.col("value").abs().fill_null(pl.col("row_norm"))
    return table.sort(pl.col("share"), "kind", size, "position", "dim", descending=[True, False, True, False, False])


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["kind"],
        str(row["position"]),
        _tokens(row["tokens"]),
        amount(None) if row["dim"] is None else str(row["dim"]),
        spans(row["states"]),
        amount(row["value"]),
        amount(row["row_norm"]),
        percent(row["share"]),
    ]


def _tokens(tokens: list[str]) -> str:
    shown = listing([repr(token) for token in tokens[:2]])
    return f"{shown} and others" if len(tokens) > 2 else shown

"""Preparation: what attention and MLP of each block add to the sink token's row, as tidy tables and as a sentence."""

import math
from collections.abc import Sequence
from typing import Any

import polars as pl

from thalweg.figures._pairs import Pair
from thalweg.store import Findings, Run

ATTRIBUTION_COLUMNS = ("block", "part", "norm", "along", "share", "writes", "dimensions")
EMBEDDING = -1  # its place on an axis of blocks


def writer(run: Run, pair: Pair) -> tuple[Findings, dict[str, Any]] | None:
    """Give the latest attribution of a model on a data set and its row of ``writers``; None where there is none."""
    for experiment in reversed(run.experiments("attribution")):
        rows = experiment.table("writers").filter(pair.rows).collect()
        if rows.height:
            return experiment, rows.row(0, named=True)
    return None


def contribution_bars(experiment: Findings, pair: Pair) -> pl.DataFrame:
    """Give the averages of the parts that add to the sink token's row.

    Args:
        experiment: an attribution whose averages are written.
        pair: the model and the data set.

    Returns:
        One row per part and metric: the columns ``at part metric mean lower upper writes dims``; ``at`` is the block,
        -1 for the embedding. The spread is one standard deviation to each side.
    """
    rows = experiment.table("attribution").filter(pair.rows).collect()
    std = pl.col("std").fill_nan(0.0)
    return rows.select(
        pl.col("block").fill_null(EMBEDDING).alias("at"),
        "part",
        "metric",
        "mean",
        (pl.col("mean") - std).alias("lower"),
        (pl.col("mean") + std).alias("upper"),
        "writes",
        "dims",
    ).sort("at", "part", "metric")


def row_along(bars: pl.DataFrame) -> pl.DataFrame:
    """Give the component of the sink token's row along the direction, by state: the sum of all that was added before.

    Args:
        bars: what `contribution_bars` returned.

    Returns:
        Columns ``state`` and ``mean``.
    """
    along = bars.filter(pl.col("metric") == "along").group_by("at").agg(pl.col("mean").sum()).sort("at")
    return along.select((pl.col("at") + 1).alias("state"), pl.col("mean").cum_sum())


def attribution_table(experiment: Findings) -> list[tuple[str, list[list[Any]]]]:
    """Give the averages as tables for a person, one for each model and data set.

    Args:
        experiment: an attribution whose averages are written.

    Returns:
        Title and rows; columns as in ``ATTRIBUTION_COLUMNS``.
    """
    means = experiment.table("attribution").collect()
    writers = experiment.table("writers").collect()
    return [(_title(row), _rows(_own(means, row))) for row in writers.iter_rows(named=True)]


def attribution_answers(experiment: Findings) -> list[str]:
    """Say in a sentence what writes the massive row, one for each model and data set."""
    return [answer(experiment, row) for row in experiment.table("writers").collect().iter_rows(named=True)]


def answer(experiment: Findings, row: dict[str, Any]) -> str:
    """Say it for one row of ``writers``."""
    return _answer(row, _own(experiment.table("attribution").collect(), row))


def _title(row: dict[str, Any]) -> str:
    name = f"{row['model']} on {row['data']}"
    if row["reference_state"] is None:
        return name
    what = "massive" if row["has_massive_activations"] else "largest"
    return f"{name}: what is added to the sink token's row, along its direction at its {what} state " + (
        f"({row['reference_state']})"
    )


def _own(means: pl.DataFrame, row: dict[str, Any]) -> pl.DataFrame:
    return means.filter(model=row["model"], revision=row["revision"], data=row["data"])


def _rows(means: pl.DataFrame) -> list[list[Any]]:
    values = {(block, part, metric): mean for block, part, metric, mean in _columns(means, "metric", "mean")}
    return [
        [
            block,
            part,
            *(values[block, part, metric] for metric in ("norm", "along", "share")),
            "yes" if writes else "",
            ", ".join(map(str, dims)),
        ]
        for block, part, writes, dims in _columns(means.filter(metric="norm"), "writes", "dims")
    ]


def _columns(means: pl.DataFrame, *names: str) -> list[tuple[Any, ...]]:
    return list(means.select("block", "part", *names).iter_rows())


def _answer(row: dict[str, Any], means: pl.DataFrame) -> str:
    if row["reason"] is not None:
        nothing = "" if row["has_massive_activations"] else ": nothing is written"
        return f"{row['reason']}{nothing}"
    wrote = means.filter(metric="share_before").filter("writes").sort("block")
    blocks, shares = wrote["block"].to_list(), wrote["mean"].to_list()
    dims = list(dict.fromkeys(dim for own in wrote["dims"] for dim in own))
    where = f"into dimension{'s' * (len(dims) > 1)} {', '.join(map(str, dims))}" if dims else "into many dimensions"
    if len(blocks) == 1:
        return f"block {blocks[0]}'s MLP writes {_percent(row['writing_share'])} of the massive norm, {where}"
    each = _listing([_percent(share) for share in shares])
    share = _percent(row["writing_share"])
    return f"the MLPs of blocks {_listing(blocks)} write {share} of the massive norm ({each}), {where}"


def _listing(items: Sequence[object]) -> str:
    return f"{', '.join(map(str, items[:-1]))} and {items[-1]}"


def _percent(share: float) -> str:
    """What is not quite all does not read as if it were."""
    return "over 99.9%" if 0.9995 <= share < 1 else "-" if math.isnan(share) else f"{share:.1%}"

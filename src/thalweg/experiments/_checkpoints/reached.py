"""What checkpoints of a training, or models of several sizes, reach: as tables, and in a sentence when it emerged."""

from typing import Any

import polars as pl

from thalweg.shown import Table

TRAINING_METRICS = {
    "max_norm_ratio": "norm_ratio",
    "max_sink_rate": "sink_rate",
    "min_entropy_normalized": "entropy_normalized",
}
"""The three curves over training, each with the metric through depth whose extreme it is."""

TRAINING_TITLES = {
    "max_norm_ratio": "Largest norm ratio",
    "max_sink_rate": "Largest sink rate",
    "min_entropy_normalized": "Least normalized entropy",
}
"""What to call them."""

_REACHED = (
    "max norm ratio",
    "at state",
    "max sink rate",
    "at block",
    "min normalized entropy",
    "at state",
    "state 1's entropy",
)
CHECKPOINT_COLUMNS = ("step", *_REACHED)
SIZE_COLUMNS = ("model", "parameters", *_REACHED)


def checkpoint_table(curves: pl.DataFrame, model: str, data: str) -> Table:
    """Give what each checkpoint of a model reaches on one data set, in the order of training."""
    rows = curves.filter(model=model, data=data).sort("order", maintain_order=True)
    cells = [[name if step is None else step, *reached] for (name, step), reached in _reached(rows, "revision", "step")]
    return Table(f"{model} on {data}", CHECKPOINT_COLUMNS, cells, folded="Every checkpoint")


def size_table(compared: pl.DataFrame, data: str) -> Table:
    """Give what each of the compared models reaches, the smallest first."""
    cells = [[model, count, *reached] for (model, count), reached in _reached(compared, "model", "parameters")]
    return Table(f"models on {data}", SIZE_COLUMNS, cells)


def emergence_sentence(row: dict[str, Any]) -> str:
    """Say when a phenomenon emerges, by one row of ``emergence``."""
    reason = f"; {row['reason']}" if row["reason"] else ""
    if row["order"] is None:
        return f"no {row['phenomenon']} ({row['definition']}){reason}"
    where = row["revision"] if row["step"] is None else f"step {row['step']}"
    return f"{row['phenomenon']} from {where} on ({row['definition']}){reason}"


def _reached(curves: pl.DataFrame, *key: str) -> list[tuple[tuple[Any, ...], list[Any]]]:
    groups = curves.group_by("model", "revision", maintain_order=True)
    return [(rows.select(key).row(0), _values(rows)) for _, rows in groups]


def _values(rows: pl.DataFrame) -> list[Any]:
    places = {metric: (value, index) for metric, value, index in rows.select("metric", "value", "index").iter_rows()}
    return [*(cell for metric in TRAINING_METRICS for cell in places[metric]), places["first_entropy_normalized"][0]]

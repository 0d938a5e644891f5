"""Preparation: what checkpoints of a training, or models of several sizes, reach, as tidy tables and as sentences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from thalweg.store import Findings, Run

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
BESIDE_LOG = 0.5


@dataclass(frozen=True)
class TrainingAxis:
    """Where the checkpoints of one model on one data set stand.

    Attributes:
        model: the model's name.
        data: the data set's name.
        rows: one row a checkpoint in the order of training: ``revision order step at label``; ``at`` is log10 of the
            step, with step 0 and what has no step set half a decade aside, or the order where steps are not known.
        title: of the axis.
        column_title: of an axis on which every checkpoint has a column of the same width.
    """

    model: str
    data: str
    rows: pl.DataFrame
    title: str
    column_title: str

    @property
    def span(self) -> tuple[float, float]:
        """The first and the last position."""
        at = self.rows["at"].to_list()
        return min(at), max(at)

    def ticks(self, room: int = 8) -> tuple[list[float], list[str]]:
        """Positions and labels of as many checkpoints as can be read, the last one always."""
        return _apart(self.rows["at"].to_list(), self.rows["label"].to_list(), room)

    def columns(self, room: int = 8) -> tuple[list[float], list[str]]:
        """The same for a map that gives every checkpoint a column of the same width."""
        return _apart(self.rows["order"].cast(pl.Float64).to_list(), self.rows["label"].to_list(), room)


def trainings(run: Run) -> list[TrainingAxis]:
    """Give the models of a run that have several checkpoints, on each data set; none before the profile is written."""
    curves = _curves(run)
    if curves is None:
        return []
    groups = curves.group_by("model", "data", maintain_order=True)
    return [_axis(str(model), str(data), own) for (model, data), own in groups if own["revision"].n_unique() > 1]


def compared_sizes(run: Run, data: str) -> pl.DataFrame:
    """Give the curves of the models that a run compares by size, smallest first; empty where it compares none.

    Args:
        run: the run.
        data: the data set.

    Returns:
        Rows of ``curves``, of models with one checkpoint each.
    """
    curves = _curves(run)
    if curves is None:
        return pl.DataFrame(schema=["model", "revision", "data", "parameters", "metric", "index", "value"])
    return _sizes(curves.filter(data=data))


def size_ticks(compared: pl.DataFrame, room: int = 6) -> tuple[list[float], list[str]]:
    """Give as many numbers of parameters as can be read on a logarithmic axis, and what to call them."""
    counts = sorted(set(compared["parameters"].drop_nulls()))
    places, names = _apart([math.log10(count) for count in counts], list(map(short_count, counts)), room)
    return [10**place for place in places], names


def short_count(number: int) -> str:
    """Write a number of parameters as it is spoken: 45.4k, 410M, 6.9B."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)


def checkpoint_table(experiment: Findings) -> list[tuple[str, tuple[str, ...], list[list[Any]]]]:
    """Give what is reached at each checkpoint, or by each size, as tables for a person.

    Args:
        experiment: ``run.experiments("checkpoints")[-1]``.

    Returns:
        Title, columns and rows of each.
    """
    curves = experiment.table("curves").collect()
    tables = list[tuple[str, tuple[str, ...], list[list[Any]]]]()
    for (data,), on_data in curves.group_by("data", maintain_order=True):
        sizes = _sizes(on_data)
        if sizes.height:
            rows = [[model, number, *reached] for (model, number), reached in _reached(sizes, "model", "parameters")]
            tables.append((f"models on {data}", SIZE_COLUMNS, rows))
        for (model,), own in on_data.group_by("model", maintain_order=True):
            if not sizes.filter(model=model).height:
                rows = [
                    [name if step is None else step, *reached]
                    for (name, step), reached in _reached(own.sort("order", maintain_order=True), "revision", "step")
                ]
                tables.append((f"{model} on {data}", CHECKPOINT_COLUMNS, rows))
    return tables


def checkpoint_answers(experiment: Findings) -> list[str]:
    """Say in a sentence when each phenomenon emerges, for each model and data set with several checkpoints."""
    rows = experiment.table("emergence").collect()
    several = rows.select("model", "data").n_unique() > 1
    return [
        (f"{row['model']} on {row['data']}: " if several else "") + emergence_sentence(row)
        for row in rows.iter_rows(named=True)
    ]


def emergence_sentence(row: dict[str, Any]) -> str:
    """Say it for one row of ``emergence``."""
    reason = f"; {row['reason']}" if row["reason"] else ""
    if row["order"] is None:
        return f"no {row['phenomenon']} ({row['definition']}){reason}"
    where = row["revision"] if row["step"] is None else f"step {row['step']}"
    return f"{row['phenomenon']} from {where} on ({row['definition']}){reason}"


def _curves(run: Run) -> pl.DataFrame | None:
    """None where they are not there, or older than what was measured."""
    found = run.experiments("checkpoints")
    return None if not found or "profile" in run.missing else found[-1].table("curves").collect()


def _sizes(curves: pl.DataFrame) -> pl.DataFrame:
    """Models with one checkpoint each, if there are several."""
    single = curves.filter((pl.col("revision").n_unique().over("model") == 1) & pl.col("parameters").is_not_null())
    compared = single["model"].n_unique() > 1
    return single.sort("parameters", maintain_order=True) if compared else single.clear()


def _reached(curves: pl.DataFrame, *key: str) -> list[tuple[tuple[Any, ...], list[Any]]]:
    groups = curves.group_by("model", "revision", maintain_order=True)
    return [(own.select(key).row(0), _values(own)) for _, own in groups]


def _values(own: pl.DataFrame) -> list[Any]:
    found = {metric: (value, index) for metric, value, index in own.select("metric", "value", "index").iter_rows()}
    return [*(cell for metric in TRAINING_METRICS for cell in found[metric]), found["first_entropy_normalized"][0]]


def _axis(model: str, data: str, curves: pl.DataFrame) -> TrainingAxis:
    rows = curves.select("revision", "order", "step").unique().sort("order")
    steps = rows["step"].to_list()
    known = [step is not None for step in steps]
    # "main" may come last without a step; any other name without one leaves nothing but the order
    in_steps = any(known) and all(known[:-1])
    at = _positions(steps) if in_steps else [float(order) for order in rows["order"]]
    labels = [name if step is None else _short(step) for name, step in rows.select("revision", "step").iter_rows()]
    rows = rows.with_columns(pl.Series("at", at, pl.Float64), pl.Series("label", labels, pl.String))
    in_order = "checkpoint [in order]"
    titles = ("optimizer step [steps, log scale]", "optimizer step [steps]") if in_steps else (in_order, in_order)
    return TrainingAxis(model, data, rows, *titles)


def _positions(steps: Sequence[int | None]) -> list[float]:
    logs = [math.log10(step) for step in steps if step] or [0.0]
    aside = {0: min(logs) - BESIDE_LOG, None: max(logs) + BESIDE_LOG}
    return [math.log10(step) if step else aside[step] for step in steps]


def _short(step: int) -> str:
    return f"{step // 1000}k" if step >= 1000 and step % 1000 == 0 else f"{step}"


def _apart(places: Sequence[float], names: Sequence[str], room: int) -> tuple[list[float], list[str]]:
    """From the last one backwards what is not too close to what is shown already, and the first one in any case."""
    if not places:
        return [], []
    first, *others = zip(places, names, strict=True)
    gap = (max(places) - min(places)) / room
    shown = list[tuple[float, str]]()
    for at, name in reversed(others):
        if not shown or shown[-1][0] - at >= gap:
            shown.append((at, name))
    if len(shown) > 1 and shown[-1][0] - first[0] < gap / 2:
        shown.pop()
    shown.append(first)
    return [at for at, _ in reversed(shown)], [name for _, name in reversed(shown)]

"""Where checkpoints of a training, or models of several sizes, stand along an axis, their colours, what they reach."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg.experiments._views import Pair, pairs
from thalweg.shown import Table, Ticks
from thalweg.store import Run

BESIDE_LOG = 0.5
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
    "largest before",
)
CHECKPOINT_COLUMNS = ("step", *_REACHED)
SIZE_COLUMNS = ("model", "parameters", *_REACHED)
# Viridis, whose palest end is left out.
_STOPS = (
    "9bd93c 77d153 5ac864 3fbc73 2ab07f 20a486 1f978b 228b8d 277e8e "
    "2c718e 32648e 39568c 3f4788 453781 482677 481467 440154"
)
_RAMP = np.array([[int(stop[at : at + 2], 16) for at in (0, 2, 4)] for stop in _STOPS.split()])


def shades(places: Sequence[float] | np.ndarray) -> list[str]:
    """Give the colours of places between 0, the lightest, and 1, the darkest."""
    channels = [np.interp(places, np.linspace(0, 1, len(_RAMP)), channel) for channel in _RAMP.T]
    return ["#" + "".join(f"{round(value):02x}" for value in color) for color in zip(*channels, strict=True)]


@dataclass(frozen=True)
class TrainingAxis:
    """Where the checkpoints of one model on one data set stand.

    ``rows`` has one a checkpoint in the order of training: ``revision order step at label``; ``at`` is log10 of the
    step, with step 0 and what has no step set half a decade aside, or the order where steps are not known. On the axis
    of ``column_title`` every checkpoint has a column of the same width.
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

    def ticks(self, room: int) -> Ticks:
        """Positions and labels of as many checkpoints as can be read, the last one always."""
        return _apart(self.rows["at"].to_list(), self.rows["label"].to_list(), room)

    def columns(self, room: int) -> Ticks:
        """The same for a map that gives every checkpoint a column of the same width."""
        return _apart(self.rows["order"].cast(pl.Float64).to_list(), self.rows["label"].to_list(), room)

    def colors(self) -> list[str]:
        """Give every checkpoint its colour, darker with the logarithm of the step."""
        low, high = self.span
        return shades([(at - low) / (high - low) if high > low else 1.0 for at in self.rows["at"]])

    def pairs(self, run: Run) -> list[Pair]:
        """Give the checkpoints as pairs of the run, in the order of training."""
        by_revision = {pair.revision: pair for pair in pairs(run, self.data) if pair.model == self.model}
        return [by_revision[revision] for revision in self.rows["revision"]]


def trainings(curves: pl.DataFrame) -> list[TrainingAxis]:
    """Give the models that have several checkpoints, on each data set, by the table ``curves``."""
    groups = curves.group_by("model", "data", maintain_order=True)
    return [_axis(str(model), str(data), rows) for (model, data), rows in groups if rows["revision"].n_unique() > 1]


def compared_sizes(curves: pl.DataFrame, data: str) -> pl.DataFrame:
    """Give the rows of models with one checkpoint each, smallest first, on one data set; none of fewer than two."""
    single = curves.filter(
        (pl.col("data") == data)
        & (pl.col("revision").n_unique().over("model", "data") == 1)
        & pl.col("parameters").is_not_null()
    )
    several = single["model"].n_unique() > 1
    return single.sort("parameters", maintain_order=True) if several else single.clear()


def size_ticks(compared: pl.DataFrame, room: int = 6) -> Ticks:
    """Give as many numbers of parameters as can be read on a logarithmic axis, and what to call them."""
    counts = sorted(set(compared["parameters"].drop_nulls()))
    ticks = _apart([math.log10(count) for count in counts], list(map(short_count, counts)), room)
    return Ticks([10**place for place in ticks.places], ticks.names)


def short_count(number: int) -> str:
    """Write a number of parameters as it is spoken: 45.4k, 410M, 6.9B."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)


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


def _apart(places: Sequence[float], names: Sequence[str], room: int) -> Ticks:
    """From the last one backwards what is not too close to what is shown already, and the first one in any case."""
    if not places:
        return Ticks((), ())
    first, *others = zip(places, names, strict=True)
    gap = (max(places) - min(places)) / room
    shown = list[tuple[float, str]]()
    for at, name in reversed(others):
        if not shown or shown[-1][0] - at >= gap:
            shown.append((at, name))
    if len(shown) > 1 and shown[-1][0] - first[0] < gap / 2:
        shown.pop()
    shown.append(first)
    return Ticks([at for at, _ in reversed(shown)], [name for _, name in reversed(shown)])


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
    return [*(cell for metric in TRAINING_METRICS for cell in places[metric]), places["earlier_entropy_normalized"][0]]

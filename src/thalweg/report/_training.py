"""Over training and over sizes: when the phenomena emerge, as sentences, charts and tables."""

import math
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import polars as pl

from thalweg.figures import (
    GREY,
    PALETTE,
    TRAINING_METRICS,
    TRAINING_TITLES,
    TrainingAxis,
    checkpoint_table,
    compared_sizes,
    emergence_sentence,
    from_zero_to_one,
    size_ticks,
    title,
    training_grid,
    trainings,
    unit,
)
from thalweg.report._charts import Chart, _add, _chart, _figure, _number
from thalweg.report._tables import Table
from thalweg.report._words import amount
from thalweg.store import Findings, Run


@dataclass(frozen=True)
class TrainingPage:
    """What the page says about the checkpoints of one model on one data set."""

    model: str
    data: str
    answers: list[str]
    curves: list[Chart]
    maps: list[Chart]
    table: Table


@dataclass(frozen=True)
class SizesPage:
    """What the page says about models of several sizes on one data set."""

    data: str
    curves: list[Chart]
    table: Table


def training_pages(run: Run) -> list[TrainingPage]:
    """Give a page for every model with several checkpoints; none before the profile is written."""
    return [_training_page(run, axis) for axis in trainings(run)]


def sizes_pages(run: Run) -> list[SizesPage]:
    """Give a page for every data set on which models of several sizes are compared."""
    pages = list[SizesPage]()
    for data in (facts.name for facts in run.header.data):
        compared = compared_sizes(run, data)
        if compared.height:
            charts = [_over_sizes(compared, metric, place) for place, metric in enumerate(TRAINING_METRICS)]
            pages.append(SizesPage(data, charts, _table(_experiment(run), f"models on {data}")))
    return pages


def _experiment(run: Run) -> Findings:
    return run.experiments("checkpoints")[-1]


def _training_page(run: Run, axis: TrainingAxis) -> TrainingPage:
    experiment = _experiment(run)
    values = experiment.table("curves").filter(model=axis.model, data=axis.data).collect()
    emerged = experiment.table("emergence").filter(model=axis.model, data=axis.data).collect()
    return TrainingPage(
        axis.model,
        axis.data,
        [emergence_sentence(row) for row in emerged.iter_rows(named=True)],
        [_over_steps(values, emerged, axis, metric, place) for place, metric in enumerate(TRAINING_METRICS)],
        [_map(run, axis, metric) for metric in TRAINING_METRICS.values()],
        _table(experiment, f"{axis.model} on {axis.data}"),
    )


def _table(experiment: Findings, name: str) -> Table:
    _, columns, rows = next(table for table in checkpoint_table(experiment) if table[0] == name)
    return Table(columns, tuple(tuple(map(_cell, row)) for row in rows))


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else amount(value)


def _over_steps(values: pl.DataFrame, emerged: pl.DataFrame, axis: TrainingAxis, metric: str, place: int) -> Chart:
    source, log = TRAINING_METRICS[metric], metric == "max_norm_ratio"
    drawn = _figure(axis.title, unit(source), log=log)
    _add(drawn, _line(values, axis, metric), "at", color=PALETTE[place], name="measured", log=log, band=False)
    found = emerged.filter(pl.col("metric") == ("entropy_ratio" if source == "entropy_normalized" else metric))
    for row in found.iter_rows(named=True):
        if row["metric"] == "entropy_ratio":
            half = _line(values, axis, "first_entropy_normalized", row["threshold"])
            _add(drawn, half, "at", color=GREY, name="half of state 1's", dash="dash", band=False)
        else:
            level = axis.rows.select("at", pl.lit(row["threshold"]).alias("mean"))
            _add(drawn, level, "at", color=GREY, name="threshold", dash="dash", log=log, band=False)
        if row["order"] is not None:
            here = axis.rows.filter(pl.col("order") == row["order"])["at"][0]
            drawn.add_vline(x=here, line={"dash": "dot", "width": 1.5, "color": GREY})
    places, names = axis.ticks(6)
    drawn.update_xaxes(tickvals=places, ticktext=names)
    if from_zero_to_one(source):
        drawn.update_yaxes(range=[-0.03, 1.03])
    return _chart(TRAINING_TITLES[metric], drawn)


def _line(values: pl.DataFrame, axis: TrainingAxis, metric: str, factor: float = 1.0) -> pl.DataFrame:
    own = values.filter(pl.col("metric") == metric).select("revision", (pl.col("value") * factor).alias("mean"))
    return axis.rows.join(own, on="revision", how="left", maintain_order="left")


def _map(run: Run, axis: TrainingAxis, metric: str) -> Chart:
    log, site = metric == "norm_ratio", "block" if metric == "sink_rate" else "state"
    drawn = _figure(axis.column_title, site)
    grid = [[_number(value, log=log) for value in row] for row in training_grid(run, axis, metric).tolist()]
    shown = [[None if value is None else math.log10(value) if log else value for value in row] for row in grid]
    scale: dict[str, Any] = {"title": {"text": unit(metric)}, "thickness": 12, "outlinewidth": 0}
    known = [value for row in shown for value in row if value is not None]
    low, high = (min(0.0, *known, 0.0), max(1.0, *known, 1.0)) if log else (0.0, 1.0)
    if log:
        decades = range(math.ceil(low), math.floor(high) + 1)
        scale |= {"tickvals": list(decades), "ticktext": [f"{10.0**decade:g}" for decade in decades]}
    drawn.add_heatmap(
        z=shown,
        zmin=low,
        zmax=high,
        customdata=grid,
        colorscale="Cividis",
        hovertemplate=f"{site} %{{y}}: %{{customdata:.3~g}}<extra></extra>",
        colorbar=scale,
    )
    places, names = axis.columns(4)  # more would be turned, and run into the title
    drawn.update_xaxes(tickvals=places, ticktext=names)
    return _chart(title(metric), drawn)


def _over_sizes(compared: pl.DataFrame, metric: str, place: int) -> Chart:
    source, log = TRAINING_METRICS[metric], metric == "max_norm_ratio"
    drawn: go.Figure = _figure("parameters", unit(source), log=log)
    rows = compared.filter(pl.col("metric") == metric).select("parameters", pl.col("value").alias("mean"))
    _add(drawn, rows, "parameters", color=PALETTE[place], name="measured", log=log, band=False)
    places, names = size_ticks(compared)
    drawn.update_xaxes(type="log", tickvals=places, ticktext=names)
    if from_zero_to_one(source):
        drawn.update_yaxes(range=[-0.03, 1.03])
    return _chart(TRAINING_TITLES[metric], drawn)

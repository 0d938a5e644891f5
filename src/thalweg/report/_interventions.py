"""The model as it is against the model changed: without the massive row's writers, and with the row clamped."""

import math
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import polars as pl

from thalweg.figures import (
    ABLATION_COLUMNS,
    ABLATION_METRICS,
    CLIP_COLUMNS,
    CLIP_TITLES,
    CLIP_UNITS,
    GREY,
    PALETTE,
    Pair,
    ablation_answers,
    ablation_curves,
    ablation_table,
    ablations_of,
    clip_answers,
    clip_curves,
    clip_marks,
    clip_table,
    condition_looks,
    from_zero_to_one,
    labels,
    pairs,
    title,
    unit,
)
from thalweg.report._charts import _MATPLOTLIB_DASHES, Chart, _add, _chart, _figure, _literal, _shade
from thalweg.report._tables import Table
from thalweg.store import Findings, Run

MARK = PALETTE[1]


@dataclass(frozen=True)
class ComparedPage:
    """What the page says about one model on one data set, as it is and changed.

    Attributes:
        title: model and data.
        settings: what was asked, as ``name: value``.
        answers: sentences.
        charts: by depth, or against gamma.
        table: every condition.
    """

    title: str
    settings: str
    answers: list[str]
    charts: list[Chart]
    table: Table


def ablation_pages(run: Run) -> list[ComparedPage]:
    """Give a page for every ablation of every model and data set; none before the averages are written."""
    return [
        _ablation_page(run, pair, experiment) for pair in pairs(run) for experiment in reversed(ablations_of(run, pair))
    ]


def clip_pages(run: Run) -> list[ComparedPage]:
    """Give a page for every sweep of gamma of every model and data set; none before the averages are written."""
    found = [(pair, ablations_of(run, pair, "clip", "curves")) for pair in pairs(run)]
    return [_clip_page(run, pair, experiment) for pair, own in found for experiment in reversed(own)]


def _ablation_page(run: Run, pair: Pair, experiment: Findings) -> ComparedPage:
    rows = ablation_curves(experiment, pair, (*ABLATION_METRICS, "rest_norm"))
    ends = experiment.table("effects").filter(pair.rows).select("compress_first", "compress_last").head(1).collect()
    first, last = ends.row(0)
    span = None if first is None or last is None else (first, last)
    place = _place(experiment, pair, "effects")
    _, cells = ablation_table(experiment)[place]
    return ComparedPage(
        _title(run, pair),
        _settings(experiment),
        ablation_answers(experiment)[place],
        [_through_depth(rows, metric, span) for metric in ABLATION_METRICS],
        Table(ABLATION_COLUMNS, tuple(tuple(map(str, row)) for row in cells)),
    )


def _clip_page(run: Run, pair: Pair, experiment: Findings) -> ComparedPage:
    rows, marks = clip_curves(experiment, pair), clip_marks(experiment, pair)
    place = _place(experiment, pair, "curves")
    _, cells = clip_table(experiment)[place]
    quantities = rows["quantity"].unique(maintain_order=True)
    return ComparedPage(
        _title(run, pair),
        _settings(experiment),
        [clip_answers(experiment)[place]],
        [_against_gamma(rows.filter(quantity=name), name, marks) for name in quantities],
        Table(CLIP_COLUMNS, tuple(tuple(map(str, row)) for row in cells)),
    )


def _place(experiment: Findings, pair: Pair, table: str) -> int:
    """Where the pair is among what the experiment holds."""
    keys = experiment.table(table).select("model", "revision", "data").unique(maintain_order=True).collect()
    return list(keys.iter_rows()).index((pair.model, pair.revision, pair.data))


def _title(run: Run, pair: Pair) -> str:
    return f"{labels(run.header)[pair.model, pair.revision]} on {pair.data}"


def _settings(experiment: Findings) -> str:
    asked = experiment.header.settings
    return ", ".join(f"{name.replace('_', ' ')}: {_setting(value)}" for name, value in asked.items())


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(f"{one:.4g}" if isinstance(one, float) else str(one) for one in value)
    return str(value)


def _through_depth(rows: pl.DataFrame, metric: str, span: tuple[int, int] | None) -> Chart:
    log, looks = metric == "sink_norm", condition_looks(rows)
    drawn = _figure("block" if metric == "sink_rate" else "state", unit(metric), log=log)
    _shade(drawn, span)
    conditions = rows.select("series", "role", "condition", "seed").unique(maintain_order=True)
    for series, role, condition, seed in conditions.iter_rows():
        own = rows.filter(pl.col("condition") == condition, pl.col("seed").eq_missing(pl.lit(seed, pl.Int32)))
        look = looks[series]
        dash, strong = _MATPLOTLIB_DASHES[look.linestyle], role in ("intact", "ablated")
        if log and strong:
            rest = own.filter(metric="rest_norm")
            name = f"{series}, others"
            _add(drawn, rest, "index", color=GREY, name=name, group=series, log=True, band=False, dash=dash)
        measured = own.filter(metric=metric)
        _add(drawn, measured, "index", color=look.color, name=series, group=series, log=log, band=strong, dash=dash)
    if from_zero_to_one(metric):
        drawn.update_yaxes(range=[-0.03, 1.03])
    _name_once(drawn)
    return _chart(f"{title(metric)} (others in grey)" if log else title(metric), drawn, legend=True)


def _name_once(drawn: go.Figure) -> None:
    """One line of the legend for all draws of a control, and none for the other tokens, which the title names."""
    named = set[str]()
    for trace in drawn.data:
        lines: Any = trace
        if lines.showlegend is not False:
            lines.showlegend = lines.name == lines.legendgroup and lines.name not in named
            named |= {lines.name}


def _against_gamma(rows: pl.DataFrame, quantity: str, marks: dict[str, float]) -> Chart:
    drawn: go.Figure = _figure("gamma (activation units)", CLIP_UNITS.get(quantity) or unit(quantity))
    level = rows.select("gamma", pl.col("intact").alias("mean"))
    _add(drawn, level, "gamma", color=GREY, name="not clipped", dash="dash", band=False)
    _add(drawn, rows, "gamma", color=PALETTE[0], name="clipped")
    for name, value in marks.items():
        drawn.add_vline(x=value, line={"dash": "dot", "width": 1.5, "color": MARK})
        said = {"text": _literal(name), "textangle": -90, "font": {"size": 10, "color": MARK}, "showarrow": False}
        # on a log axis plotly wants the logarithm here, though not for the line
        drawn.add_annotation(x=math.log10(value), y=1, yref="paper", xanchor="right", yanchor="top", **said)
    drawn.update_xaxes(type="log", exponentformat="power", dtick=1)
    if from_zero_to_one(quantity):
        drawn.update_yaxes(range=[-0.03, 1.03])
    return _chart(CLIP_TITLES.get(quantity) or title(quantity), drawn, legend=True)

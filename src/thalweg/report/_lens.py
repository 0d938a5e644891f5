"""What every state predicts, as a sentence, charts and tables."""

from dataclasses import dataclass

import polars as pl

from thalweg.figures import (
    LENS_COLUMNS,
    LENS_LOG,
    LENS_PANELS,
    LENS_TITLES,
    LENS_UNITS,
    PALETTE,
    Pair,
    labels,
    lens_answer,
    lens_name,
    lens_series,
    lens_table,
    lenses_of,
    pairs,
    surveyed_span,
)
from thalweg.report._charts import Chart, _add, _chart, _figure, _shade
from thalweg.report._tables import Table
from thalweg.store import Findings, Run


@dataclass(frozen=True)
class LensPage:
    """What the page says about one model on one data set.

    Attributes:
        title: model and data.
        answers: a sentence a lens.
        charts: by state, all lenses in each.
        tables: a title and a table a lens.
    """

    title: str
    answers: list[str]
    charts: list[Chart]
    tables: list[tuple[str, Table]]


def lens_pages(run: Run) -> list[LensPage]:
    """Give a page for every model and data set that was read through a lens; none before the averages are written."""
    return [_page(run, pair, found) for pair in pairs(run) if (found := lenses_of(run, pair))]


def _page(run: Run, pair: Pair, found: list[Findings]) -> LensPage:
    rows, span = lens_series(run, pair), surveyed_span(run, pair.model, pair.revision)
    return LensPage(
        f"{labels(run.header)[pair.model, pair.revision]} on {pair.data}",
        [_said(one, pair) for one in found],
        [_drawn(rows.filter(metric=metric), metric, span) for metric in LENS_PANELS],
        [_table(one, pair) for one in found],
    )


def _said(experiment: Findings, pair: Pair) -> str:
    name = lens_name(experiment)
    return f"{name[:1].upper()}{name[1:]}: {lens_answer(experiment.table('curves').filter(pair.rows).collect())}"


def _table(experiment: Findings, pair: Pair) -> tuple[str, Table]:
    keys = experiment.table("curves").select("model", "revision", "data").unique(maintain_order=True).collect()
    place = list(keys.iter_rows()).index((pair.model, pair.revision, pair.data))
    title, cells = lens_table(experiment)[place]
    return title, Table(LENS_COLUMNS, tuple(tuple(map(str, row)) for row in cells))


def _drawn(rows: pl.DataFrame, metric: str, span: tuple[int, int] | None) -> Chart:
    log = metric in LENS_LOG
    drawn = _figure("state", LENS_UNITS[metric], log=log)
    _shade(drawn, span)
    for place, name in enumerate(rows["series"].unique(maintain_order=True)):
        _add(drawn, rows.filter(series=name), "state", color=PALETTE[place % len(PALETTE)], name=name, log=log)
    if metric == "agreement":
        drawn.update_yaxes(range=[-0.03, 1.03])
    return _chart(LENS_TITLES[metric], drawn, legend=True)

"""How good an embedding every state is, as sentences, charts and a table."""

import polars as pl

from thalweg.figures import (
    FEW_TASKS,
    PALETTE,
    labels,
    mteb_answer,
    mteb_curves,
    mteb_facts,
    mteb_model,
    mteb_table,
    mteb_task_curves,
    mtebs_of,
    surveyed_span,
)
from thalweg.report._charts import Chart, _add, _chart, _figure, _shade
from thalweg.report._interventions import ComparedPage
from thalweg.report._tables import Table
from thalweg.report._words import amount
from thalweg.store import Findings, Run

INK = "#111111"
NAMED = 12


def mteb_pages(run: Run) -> list[ComparedPage]:
    """Give a page for all scores on MTEB that the run holds, the latest first."""
    return [_page(run, one) for one in reversed(mtebs_of(run))]


def _page(run: Run, experiment: Findings) -> ComparedPage:
    model, revision = mteb_model(experiment)
    columns, rows = mteb_table(experiment)
    span = surveyed_span(run, model, revision)
    return ComparedPage(
        labels(run.header)[model, revision],
        mteb_facts(experiment),
        [mteb_answer(run, experiment)],
        [_means(mteb_curves(experiment), span), _tasks(mteb_task_curves(experiment), span)],
        Table(columns, tuple(tuple(map(_cell, row)) for row in rows)),
    )


def _means(rows: pl.DataFrame, span: tuple[int, int] | None) -> Chart:
    drawn = _figure("state", "mean main score (no unit)")
    _shade(drawn, span)
    for number, name in enumerate(dict.fromkeys(rows["series"])):
        color = PALETTE[(number - 1) % len(PALETTE)] if number else INK
        label = name if number else "all tasks"
        own = rows.filter(series=name)
        _add(drawn, own, "index", color=color, name=label, band=not number and own["n"][0] >= FEW_TASKS)
    return _chart("Mean main score by state", drawn, legend=True)


def _tasks(rows: pl.DataFrame, span: tuple[int, int] | None) -> Chart:
    drawn = _figure("state", "main score (no unit)")
    _shade(drawn, span)
    names = list(dict.fromkeys(rows["series"]))
    for number, name in enumerate(names):
        own = rows.filter(series=name)
        _add(drawn, own, "index", color=PALETTE[number % len(PALETTE)], name=name, band=False)
    return _chart("Main score of each task", drawn, legend=len(names) <= NAMED)


def _cell(value: object) -> str:
    return str(value) if isinstance(value, int | str) else amount(value) if isinstance(value, float) else "-"

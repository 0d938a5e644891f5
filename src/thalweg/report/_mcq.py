"""How often every state chooses right, as sentences, charts and tables."""

from dataclasses import dataclass

import polars as pl

from thalweg.figures import (
    GREY,
    PALETTE,
    labels,
    mcq_answers,
    mcq_curves,
    mcq_facts,
    mcq_model,
    mcq_tables,
    mcqs_of,
    surveyed_span,
)
from thalweg.report._charts import Chart, _add, _chart, _figure, _shade
from thalweg.report._tables import Table
from thalweg.store import Findings, Run


@dataclass(frozen=True)
class McqPage:
    """What the page says about one model on some tasks.

    Attributes:
        title: the model.
        facts: what was asked of which lens.
        answers: a sentence a task.
        charts: a chart a task.
        tables: a title and a table a task.
    """

    title: str
    facts: str
    answers: list[str]
    charts: list[Chart]
    tables: list[tuple[str, Table]]


def mcq_pages(run: Run) -> list[McqPage]:
    """Give a page for everything that was scored, the latest first."""
    return [_page(run, one) for one in reversed(mcqs_of(run))]


def _page(run: Run, experiment: Findings) -> McqPage:
    rows, span = mcq_curves(experiment), surveyed_span(run, *mcq_model(experiment))
    return McqPage(
        labels(run.header)[mcq_model(experiment)],
        mcq_facts(experiment),
        mcq_answers(run, experiment),
        [_by_state(str(task), own, span) for (task,), own in rows.group_by("task", maintain_order=True)],
        [
            (title, Table(columns, tuple(tuple(map(str, row)) for row in cells)))
            for title, columns, cells in mcq_tables(experiment)
        ],
    )


def _by_state(task: str, rows: pl.DataFrame, span: tuple[int, int] | None) -> Chart:
    drawn = _figure("state", "accuracy (share of questions)")
    _shade(drawn, span)
    for number, (metric, own) in enumerate(rows.group_by("metric", maintain_order=True)):
        _add(drawn, own, "index", color=PALETTE[number % len(PALETTE)], name=str(metric[0]))
    known = rows.filter(pl.col("chance").is_not_nan())
    if known.height:
        ends = [rows["index"].min(), rows["index"].max()]
        flat = pl.DataFrame({"index": ends, "mean": [known["chance"][0]] * len(ends)})
        _add(drawn, flat, "index", color=GREY, name="chance", dash="dash", band=False)
    return _chart(task, drawn, legend=True)

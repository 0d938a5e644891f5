"""What linear classifiers read out of every state, as sentences, charts and tables."""

from collections.abc import Sequence

import polars as pl

from thalweg.figures import (
    GREY,
    PALETTE,
    PROBE_COLUMNS,
    SPLITS,
    labels,
    probe_answer,
    probe_curves,
    probe_facts,
    probe_levels,
    probe_table,
    probes_of,
    surveyed_span,
)
from thalweg.report._charts import Chart, _add, _chart, _figure, _shade
from thalweg.report._interventions import ComparedPage
from thalweg.report._tables import Table
from thalweg.report._words import amount
from thalweg.store import Findings, Run

DASHES = {"chance": "dash", "most frequent class": "dot"}


def probe_pages(run: Run) -> list[ComparedPage]:
    """Give a page for every probe that is trained, the latest first."""
    return [_page(run, one) for one in reversed(probes_of(run))]


def _page(run: Run, experiment: Findings) -> ComparedPage:
    about = experiment.table("accuracy").select("model", "revision", "data").head(1).collect().row(0)
    model, revision, data = map(str, about)
    cells = tuple(tuple(map(_cell, row)) for row in probe_table(experiment))
    return ComparedPage(
        f"{labels(run.header)[model, revision]} on {data}",
        probe_facts(experiment),
        [probe_answer(run, experiment)],
        [_by_state(probe_curves(experiment), probe_levels(experiment), surveyed_span(run, model, revision))],
        Table(PROBE_COLUMNS, cells),
    )


def _by_state(rows: pl.DataFrame, levels: dict[str, float], span: tuple[int, int] | None) -> Chart:
    drawn = _figure("state", "accuracy (share of answers)")
    _shade(drawn, span)
    for number, split in enumerate(SPLITS):
        own = rows.filter(split=split)
        if own.height:
            _add(drawn, own, "index", color=PALETTE[number], name=split)
    ends = _ends(rows["index"].to_list())
    for name, level in levels.items():
        flat = pl.DataFrame({"index": ends, "mean": [level] * len(ends)})
        _add(drawn, flat, "index", color=GREY, name=name, dash=DASHES[name], band=False)
    return _chart("Accuracy by state", drawn, legend=True)


def _ends(states: Sequence[int]) -> list[int]:
    return [min(states), max(states)]


def _cell(value: object) -> str:
    return str(value) if isinstance(value, int | str) else amount(value) if isinstance(value, float) else "-"

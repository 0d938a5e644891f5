"""Top against bottom prompts: which heads change, as sentences, charts and tables."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.figures import (
    CONTRAST_COLUMNS,
    ContrastMap,
    Pair,
    changed_heads,
    contrast_answer,
    contrast_maps,
    contrast_of,
    contrast_prompts,
    contrast_scope,
    from_zero_to_one,
    labels,
    latest_pairs,
    title,
    unit,
)
from thalweg.report._charts import Chart, _chart, _figure, _number
from thalweg.report._tables import Table
from thalweg.report._words import amount
from thalweg.store import Findings, Run

HEADS, PROMPTS = 20, 10


@dataclass(frozen=True)
class ContrastPage:
    """What the page says about the top and bottom prompts of one model on one data set."""

    label: str
    data: str
    by: str
    answer: str
    scope: str
    charts: list[Chart]
    heads: Table
    prompts: Table


def contrast_pages(run: Run) -> list[ContrastPage]:
    """Give a page for every model and data set whose prompts were compared."""
    return [_page(run, pair, *found) for pair in latest_pairs(run) if (found := contrast_of(run, pair)) is not None]


def _page(run: Run, pair: Pair, experiment: Findings, row: dict[str, Any]) -> ContrastPage:
    return ContrastPage(
        label=labels(run.header)[pair.model, pair.revision],
        data=pair.data,
        by=title(row["by"]).lower(),
        answer=contrast_answer(experiment, row),
        scope=contrast_scope(row),
        charts=[_map(one) for one in contrast_maps(experiment, pair, row["by"])],
        heads=_heads(experiment, row),
        prompts=_prompts(experiment, row),
    )


def _map(one: ContrastMap) -> Chart:
    drawn = _figure("block", "head")
    known = np.abs(one.grid[np.isfinite(one.grid)])
    largest = float(known.max(initial=0.0)) or 1.0
    high = 1.0 if from_zero_to_one(one.metric) and not one.of_change else largest
    drawn.add_heatmap(
        z=[[_number(value) for value in line] for line in one.grid.tolist()],
        zmin=-largest if one.of_change else 0.0,
        zmax=high,
        colorscale="RdBu" if one.of_change else "Cividis",
        reversescale=one.of_change,
        hovertemplate="block %{x}, head %{y}<br>%{z:.3~g}<extra></extra>",
        colorbar={"title": {"text": unit(one.metric)}, "thickness": 12, "outlinewidth": 0},
    )
    heads, blocks = np.nonzero(one.changes)
    if len(heads):
        drawn.add_scatter(
            x=blocks.tolist(),
            y=heads.tolist(),
            mode="markers",
            marker={"size": 4, "color": "#111111"},
            hovertemplate="changes<extra></extra>",
        )
    drawn.update_layout(hovermode="closest", height=max(240, min(620, 120 + 14 * len(one.grid))))
    return _chart(one.title, drawn)


def _heads(experiment: Findings, row: dict[str, Any]) -> Table:
    changed = changed_heads(experiment, row)
    cells = tuple(tuple(map(_cell, line)) for line in changed.head(HEADS).iter_rows())
    rest = changed.height - len(cells)
    return Table(CONTRAST_COLUMNS[: changed.width], cells, f"{rest:,} more heads change." if rest else "")


def _prompts(experiment: Findings, row: dict[str, Any]) -> Table:
    ends = contrast_prompts(experiment, row)
    shown = ends.filter(ends["rank"] < PROMPTS)
    rows = tuple(
        (one["side"], str(one["rank"] + 1), str(one["prompt"]), str(one["tokens"]), amount(one["score"]))
        for one in shown.iter_rows(named=True)
    )
    rest = ends.height - shown.height
    return Table(("side", "rank", "row of the data", "tokens", "mean score"), rows, f"{rest:,} more." if rest else "")


def _cell(value: Any) -> str:
    return str(value) if isinstance(value, int) else amount(value)

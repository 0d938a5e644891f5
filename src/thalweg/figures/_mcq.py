"""Accuracy on multiple choice by state, a panel a task: the paper's Figures 29 and 30."""

from textwrap import fill

import polars as pl
from matplotlib.figure import Figure

from thalweg.figures._choices import mcq_curves, mcq_facts, mcq_model
from thalweg.figures._drawing import GREY, draw_band, finish, line_look, panels, shade, styled
from thalweg.figures._labels import plain
from thalweg.figures._pairs import labels, surveyed_span
from thalweg.store import Findings, Run

COLUMNS = 4


@styled
def mcq(run: Run, experiment: Findings) -> Figure:
    """Draw how often every state chooses right.

    Args:
        run: the run that holds the scores, and perhaps a survey of the same model.
        experiment: multiple choice that is scored.

    Returns:
        A panel a task: each accuracy with the 95% interval of lm-eval's standard error, dashed chance, the compress
        phase shaded.
    """
    rows, (model, revision) = mcq_curves(experiment), mcq_model(experiment)
    tasks = rows["task"].unique(maintain_order=True).to_list()
    metrics = rows["metric"].unique(maintain_order=True).to_list()
    figure, axes = panels(len(tasks), columns=COLUMNS, width=3.6 if len(tasks) > 1 else 6.4, height=3.2)
    for panel, task in zip(axes, tasks, strict=True):
        own = rows.filter(task=task)
        shade(panel, surveyed_span(run, model, revision), label="compress phase")
        for number, metric in enumerate(metrics):
            line = own.filter(metric=metric)
            if line.height:
                draw_band(panel, line, "index", line_look(number, plain(metric)))
        for level in own.filter(pl.col("chance").is_not_nan())["chance"].head(1):
            panel.axhline(level, color=GREY, linestyle="--", linewidth=1.2, label="chance")
        finish(panel, x="state", y="accuracy [share of questions]", title=plain(task))
    shown = {label: handle for panel in axes for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=min(len(shown), 6) or 1)
    heading = f"{labels(run.header)[model, revision]}: {mcq_facts(experiment)}"
    figure.suptitle(fill(plain(heading), 45 + 40 * min(len(tasks), COLUMNS)), fontsize="small")
    return figure

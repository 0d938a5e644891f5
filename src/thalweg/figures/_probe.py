"""Accuracy of linear classifiers by state: the paper's Figures 8 (right) and 31."""

from collections.abc import Sequence
from textwrap import fill

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thalweg.figures._drawing import GREY, draw_band, finish, line_look, panels, shade, styled
from thalweg.figures._labels import plain
from thalweg.figures._pairs import labels, surveyed_span
from thalweg.figures._probed import SPLITS, probe_answer, probe_curves, probe_levels
from thalweg.store import Findings, Run

DASHES = {"chance": "--", "most frequent class": ":"}


@styled
def probe(run: Run, experiment: Findings) -> Figure:
    """Draw train, validation and test accuracy by state.

    Args:
        run: the run that holds the probes, and perhaps a survey of the same model.
        experiment: the probes.

    Returns:
        One panel: accuracy with Wilson's 95% interval, dashed chance, dotted the most frequent class of training, the
        compress phase shaded.
    """
    model, revision, data = _about(experiment)
    rows = probe_curves(experiment)
    figure, (panel,) = panels(1, width=6.4, height=3.6)
    shade(panel, surveyed_span(run, model, revision), label="compress phase")
    for number, split in enumerate(SPLITS):
        own = rows.filter(split=split)
        if own.height:
            draw_band(panel, own, "index", line_look(number, split))
    _levels(panel, experiment)
    finish(panel, x="state", y="accuracy [share of answers]", title=plain(f"{_named(run, experiment)} on {data}"))
    figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    figure.suptitle(fill(plain(probe_answer(run, experiment)), 100), fontsize="small")
    return figure


@styled
def probe_models(run: Run, group: Sequence[Findings]) -> Figure:
    """Draw the test accuracy of several models against the share of depth.

    Args:
        run: the run that holds the probes.
        group: probes that differ in the model alone.
    """
    figure, (panel,) = panels(1, width=6.4, height=3.6)
    for number, experiment in enumerate(group):
        test = probe_curves(experiment).filter(pl.col("split") == "test")
        draw_band(panel, test, "depth", line_look(number, plain(_named(run, experiment))))
    _levels(panel, group[0])
    heading = plain(f"Test accuracy on {_about(group[0])[2]}")
    finish(panel, x="share of depth [state / blocks]", y="accuracy [share of answers]", title=heading)
    figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _levels(panel: Axes, experiment: Findings) -> None:
    for name, level in probe_levels(experiment).items():
        panel.axhline(level, color=GREY, linestyle=DASHES[name], linewidth=1.2, label=name)


def _about(experiment: Findings) -> tuple[str, str, str]:
    row = experiment.table("accuracy").select("model", "revision", "data").head(1).collect().row(0)
    return str(row[0]), str(row[1]), str(row[2])


def _named(run: Run, experiment: Findings) -> str:
    model, revision, _ = _about(experiment)
    return labels(run.header)[model, revision]

"""Scores on MTEB by state: the paper's Figure 32."""

from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thalweg.figures._drawing import Look, draw_band, finish, line_look, panels, shade, styled
from thalweg.figures._labels import plain
from thalweg.figures._pairs import labels, surveyed_span
from thalweg.figures._task_scores import ALL, FEW_TASKS, mteb_answer, mteb_curves, mteb_model, mteb_task_curves
from thalweg.store import Findings, Run

NAMED = 8
"""Tasks that a legend can name; more are told apart by their type alone."""


@styled
def mteb(run: Run, experiment: Findings) -> Figure:
    """Draw mean main scores by state, over all tasks and over those of each type, and the single tasks beside them.

    Args:
        run: the run that holds the scores, and perhaps a survey of the same model.
        experiment: scores on MTEB.

    Returns:
        Two panels with the compress phase shaded; the band is the 95% interval over tasks, where they are not few.
    """
    model, revision = mteb_model(experiment)
    figure, (means, single) = panels(2, width=4.6, height=3.6)
    for panel in (means, single):
        shade(panel, surveyed_span(run, model, revision), label="compress phase" if panel is means else None)
    rows = mteb_curves(experiment)
    kinds = list(dict.fromkeys(mteb_task_curves(experiment)["type"]))
    for name in dict.fromkeys(rows["series"]):
        look = Look("#111111", label="all tasks") if name == ALL else line_look(kinds.index(name), plain(name))
        own = rows.filter(series=name)
        draw_band(means, own, "index", look, band=name == ALL and own["n"][0] >= FEW_TASKS)
    _tasks(single, experiment, kinds)
    finish(means, x="state", y="mean main score [no unit]", title=plain(labels(run.header)[model, revision]))
    finish(single, x="state", y="main score [no unit]", title="Single tasks")
    figure.legend(*means.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(fill(plain(mteb_answer(run, experiment)), 110), fontsize="small")
    return figure


def _tasks(panel: Axes, experiment: Findings, kinds: list[str]) -> None:
    rows = mteb_task_curves(experiment)
    names = list(dict.fromkeys(rows["series"]))
    named = len(names) <= NAMED
    for number, name in enumerate(names):
        own = rows.filter(series=name)
        look = (
            line_look(number, plain(name)) if named else Look(line_look(kinds.index(own["type"][0])).color, width=0.8)
        )
        draw_band(panel, own, "index", look, band=False)
    if named:
        panel.legend(loc="best", fontsize="x-small")

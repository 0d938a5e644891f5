"""The sink token's row clamped to [-gamma, gamma]: the paper's Figure 20."""

from textwrap import fill

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thalweg.figures._clipped import QUANTITIES, clip_answers, clip_curves, clip_marks
from thalweg.figures._drawing import GREY, draw_band, finish, line_look, panels, styled
from thalweg.figures._labels import from_zero_to_one, plain, title, unit
from thalweg.figures._pairs import Pair, labels
from thalweg.store import Findings, Run

CLIP_TITLES = {"loss": "Next-token loss"}
CLIP_UNITS = {"loss": "nats"}
MARKS = (":", "-.")


@styled
def clip(run: Run, pair: Pair, experiment: Findings) -> Figure:
    """Draw normalized entropy, sink rate and next-token loss against gamma.

    Args:
        run: the run that holds the sweep.
        pair: the model and the data set.
        experiment: the sweep.

    Returns:
        Three panels on a log axis of gamma: mean and standard deviation, dashed the model as it is, dotted the largest
        ordinary and massive coordinates of the sink's row.
    """
    rows, marks = clip_curves(experiment, pair), clip_marks(experiment, pair)
    figure, axes = panels(len(QUANTITIES), height=3.1)
    for panel, quantity in zip(axes, QUANTITIES, strict=True):
        _draw(panel, rows.filter(quantity=quantity), quantity, marks)
    handles = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    said = f"{labels(run.header)[pair.model, pair.revision]} on {pair.data}: {_answer(experiment, pair)}"
    figure.suptitle(fill(plain(said), 120))
    return figure


def _draw(panel: Axes, rows: pl.DataFrame, quantity: str, marks: dict[str, float]) -> None:
    draw_band(panel, rows, "gamma", line_look(0, "clipped"))
    for level in rows["intact"].head(1):
        panel.axhline(level, color=GREY, linestyle="--", linewidth=1.2, label="not clipped")
    for (name, value), dash in zip(marks.items(), MARKS, strict=False):
        panel.axvline(value, color="#D55E00", linestyle=dash, linewidth=1.2, label=name)
    heading, measure = CLIP_TITLES.get(quantity) or title(quantity), CLIP_UNITS.get(quantity) or unit(quantity)
    finish(
        panel,
        x="gamma [activation units]",
        y=f"[{measure}]",
        title=heading,
        unit_range=from_zero_to_one(quantity),
    )
    panel.set_xscale("log")


def _answer(experiment: Findings, pair: Pair) -> str:
    curves = experiment.table("curves").select("model", "revision", "data").unique(maintain_order=True).collect()
    return clip_answers(experiment)[list(curves.iter_rows()).index((pair.model, pair.revision, pair.data))]

"""Which heads depend on the prompt: the paper's Figures 5, 26 and 27."""

from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from thalweg.errors import RunError
from thalweg.figures._contrasted import ContrastMap, contrast_answer, contrast_maps, contrast_of, contrast_scope
from thalweg.figures._drawing import panels, styled
from thalweg.figures._labels import from_zero_to_one, plain, unit
from thalweg.figures._pairs import Pair, labels
from thalweg.store import Run

CHANGE_COLORS = "RdBu_r"
"""White for no change; its two ends are told apart with every kind of colour blindness."""

CHANGES = "the head changes, by a ranking made without it"


@styled
def contrast(run: Run, pair: Pair) -> Figure:
    """Draw what differs between the prompts where heads sink most and those where they sink least.

    Args:
        run: a run that holds a contrast.
        pair: the model and the data set.

    Returns:
        Maps of blocks and heads: the sink score of the top prompts, and top minus bottom of sink score and mixing.
        A dot marks a head that changes by a ranking made without it.

    Raises:
        RunError: the run holds no contrast of them.
    """
    found = contrast_of(run, pair)
    if found is None:
        raise RunError(f"{run.path} holds no contrast of {pair.model} on {pair.data}: run `thalweg contrast`.")
    experiment, row = found
    maps = contrast_maps(experiment, pair, row["by"])
    heads, blocks = maps[0].grid.shape
    width, height = max(3.4, min(5.5, 1.8 + 0.11 * blocks)), max(2.9, min(6.5, 1.6 + 0.1 * heads))
    figure, axes = panels(len(maps), columns=len(maps), width=width, height=height)
    for panel, one in zip(axes, maps, strict=True):
        _draw(panel, one)
    said = f"{labels(run.header)[pair.model, pair.revision]} on {pair.data}: {contrast_answer(experiment, row)}"
    figure.suptitle(fill(plain(f"{said}. {contrast_scope(row)}"), int(12 * width * len(maps))))
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center")
    return figure


def _draw(panel: Axes, one: ContrastMap) -> None:
    largest = float(np.nanmax(np.abs(one.grid), initial=0.0)) or 1.0
    low = -largest if one.of_change else 0.0
    high = 1.0 if from_zero_to_one(one.metric) and not one.of_change else largest
    panel.patch.set(hatch="///", facecolor="#EEEEEE", edgecolor="#BBBBBB")
    colors = CHANGE_COLORS if one.of_change else None
    image = panel.imshow(
        one.grid, origin="lower", aspect="auto", interpolation="nearest", vmin=low, vmax=high, cmap=colors
    )
    where = np.argwhere(one.changes)
    size = max(1.0, min(3.0, 60 / max(one.grid.shape)))
    panel.plot(where[:, 1], where[:, 0], marker="o", linestyle="", color="#111111", markersize=size, label=CHANGES)
    panel.set(xlabel="block", ylabel="head", title=one.title)
    panel.grid(visible=False)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    figure = panel.get_figure()
    figure.colorbar(image, ax=panel, label=f"[{unit(one.metric)}]")  # pyright: ignore[reportOptionalMemberAccess]

"""Which heads sink: a map of blocks and heads, the paper's Figure 5, left."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from thalweg.figures._drawing import panels, styled
from thalweg.figures._labels import plain, title, unit
from thalweg.figures._pairs import Pair, labels
from thalweg.figures._sink_scores import sink_scores
from thalweg.store import Run


def sink_grid(scores: pl.DataFrame, blocks: int) -> np.ndarray:
    """Give the mean sink scores as a grid, heads down and blocks across; what has no value is NaN."""
    heads = int(scores["head"].max() or 0) + 1  # pyright: ignore[reportArgumentType]
    grid = np.full((heads, max(blocks, 1)), np.nan)
    grid[scores["head"].to_numpy(), scores["block"].to_numpy()] = scores["sink_score"].to_numpy()
    return grid


@styled
def sink_map(run: Run, pair: Pair) -> Figure:
    """Draw the mean sink score of every head.

    Args:
        run: the run; its ``heads`` and ``prompts`` are enough.
        pair: the model and the data set.

    Returns:
        One map; heads without a value, as in blocks without softmax attention, are hatched.
    """
    grid = sink_grid(sink_scores(run, pair), pair.blocks)
    heads, blocks = grid.shape
    figure, (axes,) = panels(
        1, width=max(4.0, min(9.0, 2.0 + 0.22 * blocks)), height=max(2.6, min(7.0, 1.2 + 0.16 * heads))
    )
    axes.set_facecolor("#EEEEEE")
    axes.patch.set(hatch="///", edgecolor="#BBBBBB")
    image = axes.imshow(grid, origin="lower", aspect="auto", interpolation="nearest", vmin=0, vmax=1)
    name = labels(run.header)[pair.model, pair.revision]
    axes.set(xlabel="block", ylabel="head", title=f"Mean sink score by head: {plain(name)}")
    axes.grid(visible=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(image, ax=axes, label=f"{title('sink_score')} [{unit('sink_score')}]")
    return figure

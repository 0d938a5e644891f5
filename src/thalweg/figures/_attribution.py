"""Which component writes the massive row: the paper's Figure 19."""

from textwrap import fill

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thalweg.errors import RunError
from thalweg.figures._contributions import EMBEDDING, answer, contribution_bars, row_along, writer
from thalweg.figures._drawing import GREY, Look, draw_band, finish, line_look, panels, shade, styled
from thalweg.figures._labels import plain, unit
from thalweg.figures._pairs import Pair, labels
from thalweg.store import Run

PARTS = {"attention": "attention", "mlp": "MLP"}
WIDTH = 0.38


@styled
def attribution(run: Run, pair: Pair) -> Figure:
    """Draw what each block's attention and MLP add to the sink token's row.

    Args:
        run: a run that holds an attribution.
        pair: the model and the data set.

    Returns:
        Two panels by block, the compress phase shaded: the component along the row's direction where it stands out
        most, with the row's own component in grey between the blocks; the norms of what is added.

    Raises:
        RunError: the run holds no attribution of them.
    """
    found = writer(run, pair)
    if found is None:
        raise RunError(f"{run.path} holds no attribution of {pair.model} on {pair.data}: run `thalweg attribute`.")
    experiment, row = found
    bars = contribution_bars(experiment, pair)
    figure, (along, norm) = panels(2, width=4.8, height=3.2)
    edges = row["compress_first"], row["compress_last"]
    for panel in (along, norm):
        shade(panel, None if None in edges else edges, label="compress phase")
    _draw_along(along, bars, row["reference_state"])
    _draw_norms(norm, bars)
    said = f"{labels(run.header)[pair.model, pair.revision]} on {pair.data}: {answer(experiment, row)}"
    figure.suptitle(fill(plain(said), 110))
    figure.legend(*along.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _draw_along(panel: Axes, bars: pl.DataFrame, state: int | None) -> None:
    rows = bars.filter(pl.col("metric") == "along")
    path = row_along(bars)
    # a state stands between two blocks, and steps where a block is
    where = {"drawstyle": "steps-mid", "zorder": 1}
    panel.plot(path["state"] - 0.5, path["mean"], color=GREY, linewidth=1.2, label="the row itself", **where)
    start = rows.filter(pl.col("part") == "embedding")
    panel.bar(start["at"], start["mean"], WIDTH, color=GREY)
    for number, (part, label) in enumerate(PARTS.items()):
        own = rows.filter(pl.col("part") == part)
        spread = own["upper"] - own["mean"]
        at = own["at"].to_numpy() + (number - 0.5) * WIDTH
        panel.bar(at, own["mean"], WIDTH, yerr=spread, color=line_look(number).color, ecolor="#444444", label=label)
    title = "Added along the row's direction" + ("" if state is None else f" at state {state}")
    finish(panel, x="block", y=f"component [{unit('sink_norm')}]", title=title)
    _name_embedding(panel, bars)


def _draw_norms(panel: Axes, bars: pl.DataFrame) -> None:
    rows = bars.filter(pl.col("metric") == "norm")
    start = rows.filter(pl.col("part") == "embedding")
    panel.plot(start["at"], start["mean"], "o", color=GREY)
    for number, part in enumerate(PARTS):
        own = rows.filter(pl.col("part") == part)
        draw_band(panel, own, "at", Look(line_look(number).color), log=True)
    finish(panel, x="block", y=f"norm [{unit('sink_norm')}]", title="Norm of what is added", log=True)
    _name_embedding(panel, bars)


def _name_embedding(panel: Axes, bars: pl.DataFrame) -> None:
    """The place left of block 0 is the embedding's; no block comes after the last."""
    places = bars["at"].to_list() or [EMBEDDING]
    blocks = [int(tick) for tick in panel.get_xticks() if tick == int(tick) and 0 <= tick <= max(places)]
    panel.set_xticks([EMBEDDING, *blocks], ["emb", *map(str, blocks)])
    panel.set_xlim(EMBEDDING - 0.6, max(places) + 0.6)

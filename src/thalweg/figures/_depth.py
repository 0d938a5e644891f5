"""Curves through depth, several models in one figure: the paper's Figures 1, 7 and 23."""

from collections.abc import Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thalweg.figures._curves import curves, share_of_depth
from thalweg.figures._drawing import GREY, Look, draw_band, finish, line_look, panels, shade, styled
from thalweg.figures._labels import from_zero_to_one, plain, title, unit
from thalweg.figures._pairs import Pair, compress_span, latest_pairs
from thalweg.store import Run


@styled
def depth_profile(run: Run, data: str) -> Figure:
    """Draw normalized entropy, sink rate and the sink token's norm through depth (Fig. 1).

    Args:
        run: a run whose profile is written.
        data: the data set; every model of the run is drawn, of its checkpoints the last.

    Returns:
        Three panels: mean and standard deviation, the other tokens' mean norm in grey, the phase shaded if the run
        has a single model.
    """
    return _figure(run, data, ("entropy_normalized", "sink_rate", "sink_norm"))


@styled
def mixing(run: Run, data: str) -> Figure:
    """Draw the ColSum rate and how widely attention mixes, by block (Fig. 23).

    Args:
        run: a run whose profile is written.
        data: the data set.

    Returns:
        Three panels: ColSum rate, mixing in nats, mixing normalized by what is visible.
    """
    return _figure(run, data, ("colsum_rate", "mixing", "mixing_normalized"))


@styled
def norms(run: Run, data: str) -> Figure:
    """Draw the sink token's norm against the mean norm of the rest, a panel a model (Fig. 7).

    Args:
        run: a run whose profile is written.
        data: the data set.

    Returns:
        Log axes with the compress phase shaded, and the state where the rest begins to rise again marked.
    """
    every = latest_pairs(run, data)
    figure, axes = panels(len(every), width=4.2, height=3.0)
    for panel, pair in zip(axes, every, strict=True):
        rows = curves(run, [pair], ["sink_norm", "rest_norm"])
        shade(panel, compress_span(run, pair), label="compress")
        sink, rest = (rows.filter(pl.col("metric") == name) for name in ("sink_norm", "rest_norm"))
        draw_band(panel, sink, "index", line_look(0, "sink token"), log=True)
        draw_band(panel, rest, "index", Look(GREY, label="mean of the others"), log=True)
        finish(panel, x="state", y=f"norm [{unit('sink_norm')}]", title=_name(rows), log=True)
        _mark_rise(panel, run, pair)
        panel.legend(loc="best")
    if len(run.header.data) > 1:
        figure.suptitle(plain(data))
    return figure


def _figure(run: Run, data: str, metrics: Sequence[str]) -> Figure:
    every = latest_pairs(run, data)
    rows = curves(run, every, [*metrics, "rest_norm"])
    figure, axes = panels(len(metrics))
    for panel, metric in zip(axes, metrics, strict=True):
        _panel(panel, run, every, rows, metric)
    handles = axes[0].get_legend_handles_labels()
    if len(run.header.data) > 1:
        figure.suptitle(plain(data))
    figure.legend(*handles, loc="outside lower center", ncols=min(len(handles[1]), 4))
    return figure


def _panel(panel: Axes, run: Run, every: list[Pair], rows: pl.DataFrame, metric: str) -> None:
    log, shared = metric == "sink_norm", share_of_depth(every)
    x = "depth" if shared else "index"
    if len(every) == 1:
        shade(panel, compress_span(run, every[0]), label="compress phase")
    for number, pair in enumerate(every):
        own = rows.filter(pair.rows)
        look = line_look(number, _name(own))
        if log:
            rest = own.filter(pl.col("metric") == "rest_norm")
            draw_band(panel, rest, x, Look(GREY, look.linestyle), log=True, band=False)
        draw_band(panel, own.filter(pl.col("metric") == metric), x, look, log=log)
    site = "state" if log or metric == "entropy_normalized" else "block"
    label = f"share of depth [{site} / blocks]" if shared else site
    heading = f"{title(metric)} (others in grey)" if log else title(metric)
    finish(panel, x=label, y=f"[{unit(metric)}]", title=heading, log=log, unit_range=from_zero_to_one(metric))


def _mark_rise(panel: Axes, run: Run, pair: Pair) -> None:
    if "phases" in run.missing:
        return
    state = run.phases.filter(pair.rows).select("rest_norm_rise_state").collect().to_series().to_list()
    if state and state[0] is not None:
        panel.axvline(state[0], color=GREY, linestyle=":", linewidth=1.2, label="others rise")


def _name(rows: pl.DataFrame) -> str:
    return plain(rows["series"][0]) if rows.height else "no value"

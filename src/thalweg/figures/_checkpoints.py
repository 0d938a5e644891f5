"""Over training and over sizes: the paper's Figures 2, 12 and 14, and maps of states and steps."""

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from thalweg.figures._curves import curves
from thalweg.figures._drawing import GREY, PALETTE, Look, draw_band, finish, panels, styled
from thalweg.figures._labels import from_zero_to_one, plain, title, unit
from thalweg.figures._pairs import Pair, pairs
from thalweg.figures._training import TRAINING_METRICS, TRAINING_TITLES, TrainingAxis, compared_sizes, size_ticks
from thalweg.store import Run

DEPTH = ("entropy_normalized", "sink_rate", "sink_norm")


@styled
def training_profile(run: Run, axis: TrainingAxis) -> Figure:
    """Draw normalized entropy, sink rate and the sink token's norm through depth, a line a checkpoint (Figs. 2, 14).

    Args:
        run: a run whose profile is written.
        axis: the model, the data set and its checkpoints.

    Returns:
        Three panels; the later the checkpoint, the darker the line.
    """
    figure, axes = panels(len(DEPTH))
    colors = step_colors(axis)
    every = {pair.revision: pair for pair in pairs(run, axis.data) if pair.model == axis.model}
    rows = curves(run, [every[name] for name in axis.rows["revision"]], [*DEPTH, "rest_norm"])
    for panel, metric in zip(axes, DEPTH, strict=True):
        log = metric == "sink_norm"
        for name, color in zip(axis.rows["revision"], colors, strict=True):
            own = rows.filter((pl.col("revision") == name) & (pl.col("metric") == metric))
            draw_band(panel, own, "index", Look(color), log=log, band=False)
        if log:
            last = rows.filter((pl.col("revision") == axis.rows["revision"][-1]) & (pl.col("metric") == "rest_norm"))
            look = Look(GREY, "--", "other tokens, last checkpoint")
            draw_band(panel, last, "index", look, log=True, band=False)
            panel.legend(loc="best")
        site, heading = "block" if metric == "sink_rate" else "state", title(metric)
        finish(panel, x=site, y=f"[{unit(metric)}]", title=heading, log=log, unit_range=from_zero_to_one(metric))
    places, names = axis.ticks(12)
    scale = Normalize(*axis.span)
    bar = figure.colorbar(ScalarMappable(scale, _shades()), ax=axes, label=axis.title, pad=0.01)
    bar.set_ticks(places, labels=list(map(plain, names)))
    figure.suptitle(plain(f"{axis.model} on {axis.data}, by checkpoint"))
    return figure


@styled
def emergence(run: Run, axis: TrainingAxis) -> Figure:
    """Draw how far each phenomenon has come at each checkpoint, and where it emerges.

    Args:
        run: a run with the checkpoints' tables.
        axis: the model, the data set and its checkpoints.

    Returns:
        Three panels over steps: largest norm ratio, largest sink rate, least normalized entropy; dashed the threshold
        of the definition, dotted the checkpoint from which it holds to the last one.
    """
    experiment = run.experiments("checkpoints")[-1]
    values = experiment.table("curves").filter(model=axis.model, data=axis.data).collect()
    emerged = experiment.table("emergence").filter(model=axis.model, data=axis.data).collect()
    figure, axes = panels(len(TRAINING_METRICS))
    for number, (panel, metric) in enumerate(zip(axes, TRAINING_METRICS, strict=True)):
        source, log = TRAINING_METRICS[metric], metric == "max_norm_ratio"
        own = _over_steps(values, axis, metric)
        draw_band(panel, own, "at", Look(PALETTE[number], label="measured"), log=log, band=False)
        found = emerged.filter(pl.col("metric") == ("entropy_ratio" if source == "entropy_normalized" else metric))
        _draw_threshold(panel, values, axis, found)
        finish(
            panel,
            x=axis.title,
            y=f"[{unit(source)}]",
            title=TRAINING_TITLES[metric],
            log=log,
            unit_range=from_zero_to_one(source),
        )
        _mark_emergence(panel, axis, found)
        _name_steps(panel, axis)
        panel.legend(loc="best")
    figure.suptitle(plain(f"{axis.model} on {axis.data}, over training"))
    return figure


@styled
def training_maps(run: Run, axis: TrainingAxis) -> Figure:
    """Draw normalized entropy, sink rate and norm ratio as maps of depth against checkpoints.

    Args:
        run: a run whose profile is written.
        axis: the model, the data set and its checkpoints.

    Returns:
        Three maps, a column a checkpoint; what has no value is hatched.
    """
    figure, axes = panels(len(TRAINING_METRICS), width=3.9, height=3.2)
    for panel, metric in zip(axes, reversed(TRAINING_METRICS.values()), strict=True):
        grid = training_grid(run, axis, metric)
        log = metric == "norm_ratio"
        shown = np.where(grid > 0, grid, np.nan) if log else grid
        scale = _log_scale(shown) if log else Normalize(0, 1)
        panel.patch.set(hatch="///", facecolor="#EEEEEE", edgecolor="#BBBBBB")
        image = panel.imshow(shown, origin="lower", aspect="auto", interpolation="nearest", norm=scale)
        site = "block" if metric == "sink_rate" else "state"
        panel.set(xlabel=axis.column_title, ylabel=site, title=title(metric))
        panel.grid(visible=False)
        panel.set_xticks(*_rotated(axis))
        panel.yaxis.set_major_locator(MaxNLocator(integer=True))
        figure.colorbar(image, ax=panel, label=f"[{unit(metric)}]")
    figure.suptitle(plain(f"{axis.model} on {axis.data}, by checkpoint"))
    return figure


@styled
def sizes_profile(run: Run, data: str) -> Figure:
    """Draw models of several sizes by share of depth (Fig. 12), and what they reach over their number of parameters.

    Args:
        run: a run that compares models.
        data: the data set.

    Returns:
        Three panels through depth, the larger the model the darker the line, and three over parameters.
    """
    compared = compared_sizes(run, data)
    names = compared["model"].unique(maintain_order=True).to_list()
    shades = [to_hex(_shades()(place)) for place in np.linspace(0, 1, len(names))]
    every = {pair.model: pair for pair in pairs(run, data)}
    figure, axes = panels(2 * len(DEPTH))
    rows = curves(run, [every[name] for name in names], DEPTH)
    for panel, metric in zip(axes, DEPTH, strict=False):
        log = metric == "sink_norm"
        for name, color in zip(names, shades, strict=True):
            own = rows.filter((pl.col("model") == name) & (pl.col("metric") == metric))
            draw_band(panel, own, "depth", Look(color, label=_named(own)), log=log, band=False)
        site = "block" if metric == "sink_rate" else "state"
        label = f"share of depth [{site} / blocks]"
        finish(panel, x=label, y=f"[{unit(metric)}]", title=title(metric), log=log, unit_range=from_zero_to_one(metric))
    for number, (panel, metric) in enumerate(zip(axes[3:], reversed(TRAINING_METRICS), strict=True)):
        own = compared.filter(pl.col("metric") == metric)
        source, log = TRAINING_METRICS[metric], metric == "max_norm_ratio"
        line = own.select("parameters", pl.col("value").alias("mean"))
        draw_band(panel, line, "parameters", Look(PALETTE[number]), log=log, band=False)
        finish(
            panel,
            x="parameters [count]",
            y=f"[{unit(source)}]",
            title=TRAINING_TITLES[metric],
            log=log,
            unit_range=from_zero_to_one(source),
        )
        panel.set_xscale("log")
        panel.set_xticks(*size_ticks(own), minor=False)
        panel.xaxis.set_minor_locator(NullLocator())
    figure.suptitle(plain(f"models of several sizes on {data}"))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(names), 4))
    return figure


def step_colors(axis: TrainingAxis) -> list[str]:
    """Give every checkpoint its colour, darker with the logarithm of the step."""
    at = axis.rows["at"].to_numpy()
    spread = at.max() - at.min()
    return [to_hex(_shades()(float(place))) for place in ((at - at.min()) / spread if spread else np.ones(len(at)))]


def training_grid(run: Run, axis: TrainingAxis, metric: str) -> np.ndarray:
    """Give a metric's means as a grid, depth down and checkpoints across; what has no value is NaN."""
    every: dict[str, Pair] = {pair.revision: pair for pair in pairs(run, axis.data) if pair.model == axis.model}
    columns = list[np.ndarray]()
    for revision in axis.rows["revision"]:
        means = curves(run, [every[revision]], [metric])["mean"].to_numpy()
        rows = every[revision].blocks + (metric != "sink_rate")
        columns.append(means if len(means) else np.full(rows, np.nan))
    return np.stack(columns, axis=1)


def _over_steps(values: pl.DataFrame, axis: TrainingAxis, metric: str) -> pl.DataFrame:
    own = values.filter(pl.col("metric") == metric).select("revision", pl.col("value").alias("mean"))
    return axis.rows.join(own, on="revision", how="left", maintain_order="left")


def _draw_threshold(panel: Axes, values: pl.DataFrame, axis: TrainingAxis, found: pl.DataFrame) -> None:
    if not found.height:
        return
    threshold = found["threshold"][0]
    if found["metric"][0] != "entropy_ratio":
        panel.axhline(threshold, color=GREY, linestyle="--", linewidth=1.2, label=f"threshold {threshold:g}")
        return
    half = _over_steps(values, axis, "first_entropy_normalized").with_columns(pl.col("mean") * threshold)
    draw_band(panel, half, "at", Look(GREY, "--", "half of state 1's"), band=False)


def _mark_emergence(panel: Axes, axis: TrainingAxis, found: pl.DataFrame) -> None:
    if found.height and found["order"][0] is not None:
        here = axis.rows.filter(pl.col("order") == found["order"][0]).row(0, named=True)
        label = f"from {'' if here['step'] is None else 'step '}{plain(here['label'])} on"
        panel.axvline(here["at"], color="#222222", linestyle=":", linewidth=1.4, label=label)


def _name_steps(panel: Axes, axis: TrainingAxis) -> None:
    places, names = axis.ticks()
    panel.set_xticks(places, list(map(plain, names)))


def _rotated(axis: TrainingAxis) -> tuple[list[float], list[str]]:
    places, names = axis.columns()
    return places, list(map(plain, names))


def _log_scale(grid: np.ndarray) -> Normalize:
    finite = grid[np.isfinite(grid)]
    if not finite.size:
        return Normalize(0, 1)
    return LogNorm(min(1.0, float(finite.min())), max(10.0, float(finite.max())))


def _shades() -> Colormap:
    """Light to dark, told apart with every kind of colour blindness; its palest end is left out."""
    return ListedColormap(mpl.colormaps["viridis_r"](np.linspace(0.15, 1.0, 256)))


def _named(rows: pl.DataFrame) -> str:
    return plain(rows["series"][0]) if rows.height else "no value"

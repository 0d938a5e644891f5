"""Preparation: entropy, sinks and loss against gamma, as tidy tables and in words."""

import math
from typing import Any

import polars as pl

from thalweg.figures._ablated import ARROW, change_of_loss, number, span_of
from thalweg.figures._pairs import Pair
from thalweg.store import Findings

CLIP_COLUMNS = ("gamma", "compression", "entropy", "sink rate", "norm ratio", "next-token loss")
KEY = ["model", "revision", "data"]
QUANTITIES = {"entropy_normalized": "entropy_normalized", "sink_rate": "sinks", "loss": "loss"}
"""What is drawn, and what the compress phase calls it."""


def clip_curves(experiment: Findings, pair: Pair) -> pl.DataFrame:
    """Give entropy, sink rate and next-token loss against gamma.

    Args:
        experiment: a sweep whose averages are written.
        pair: the model and the data set.

    Returns:
        One row per quantity ("entropy_normalized", "sink_rate", "loss") and finite gamma, ascending: the columns
        ``quantity gamma mean lower upper intact``; entropy and sink rate are means over the compress phase, or over the
        whole depth where there is none. The spread is one standard deviation to each side.
    """
    rows = experiment.table("curves").filter(pair.rows).filter(pl.col("gamma").is_finite()).collect()
    std = pl.col("clipped_std").fill_nan(0.0)
    frames = [
        _of(rows, quantity).select(
            pl.lit(quantity).alias("quantity"),
            "gamma",
            pl.col("clipped").alias("mean"),
            (pl.col("clipped") - std).alias("lower"),
            (pl.col("clipped") + std).alias("upper"),
            "intact",
        )
        for quantity in QUANTITIES
    ]
    return pl.concat(frames).sort(pl.col("quantity").cast(pl.Enum(list(QUANTITIES))), "gamma")


def clip_marks(experiment: Findings, pair: Pair) -> dict[str, float]:
    """Give the largest ordinary and the largest massive coordinate of the sink's row, those that are known."""
    rows = experiment.table("sweeps").filter(pair.rows).collect().to_dicts()
    named = {"largest ordinary coordinate": "ordinary", "largest massive coordinate": "peak"}
    found = {name: row[column] for row in rows[:1] for name, column in named.items()}
    return {name: value for name, value in found.items() if math.isfinite(value) and value > 0}


def clip_table(experiment: Findings) -> list[tuple[str, list[list[Any]]]]:
    """Give the averages as tables for a person, one for each model and data set.

    Args:
        experiment: a sweep whose averages are written.

    Returns:
        Title and rows, the model as it is at the end; columns as in ``CLIP_COLUMNS``.
    """
    curves = experiment.table("curves").collect()
    tables = list[tuple[str, list[list[Any]]]]()
    for own in _models_and_data(curves):
        rows = _own(curves, own)
        gammas = sorted(rows["gamma"].unique())
        where = _where(own["compress_first"], own["compress_last"])
        title = f"{own['model']} on {own['data']}: {_what(experiment, own)} clamped to gamma; {where}"
        tables.append((title, [_row(rows.filter(gamma=gamma), gamma) for gamma in gammas]))
    return tables


def clip_answers(experiment: Findings) -> list[str]:
    """Say in a sentence what clipping does, one for each model and data set.

    Args:
        experiment: a sweep whose averages are written.
    """
    curves = experiment.table("curves").collect()
    return [_answer(_own(curves, own), own) for own in _models_and_data(curves)]


def _answer(rows: pl.DataFrame, own: dict[str, Any]) -> str:
    finite = rows.filter(pl.col("gamma").is_finite())
    if not finite.height:
        return "Nothing is measured yet"
    least = finite["gamma"].min()
    entropy, sinks, loss = (_of(finite.filter(gamma=least), name).row(0, named=True) for name in QUANTITIES)
    changed = f"{number(entropy['intact'])} {ARROW} {number(entropy['clipped'])}"
    sank = f"{number(sinks['intact'])} {ARROW} {number(sinks['clipped'])}"
    cost = change_of_loss(loss["difference"], loss["low"], loss["high"])
    said = f"Clamped to {least:.4g}, normalized entropy goes {changed}, the sink rate {sank}, the loss by {cost} nats"
    if own["compress_first"] is None:
        return f"{said}; there is no compress phase"
    compression = finite.filter(site="compress", metric="compression")
    half = compression.filter(pl.col("clipped") <= pl.col("intact") / 2)["gamma"]
    if not len(half):
        return f"{said}; more than half of the compression stays at every gamma"
    return f"{said}; at {half.max():.4g} at most half of the compression is left"


def _of(rows: pl.DataFrame, quantity: str) -> pl.DataFrame:
    """The rows of one quantity, where it is to be looked at."""
    if quantity == "loss":
        return rows.filter(site="prompt", metric="loss")
    if rows.height and rows["compress_first"][0] is not None:
        return rows.filter(site="compress", metric=QUANTITIES[quantity])
    return rows.filter(site="depth", metric=quantity)


def _row(rows: pl.DataFrame, gamma: float) -> list[Any]:
    entropy, sinks, loss = (_of(rows, name).row(0, named=True) for name in QUANTITIES)
    site = "depth" if rows["compress_first"][0] is None else "compress"
    compression, ratio = (rows.filter(site=site, metric=name) for name in ("compression", "norm_ratio"))
    intact = math.isinf(gamma)
    changed = number(loss["intact"]) if intact else change_of_loss(loss["difference"], loss["low"], loss["high"])
    return [
        "not clipped" if intact else f"{gamma:.4g}",
        number(compression["clipped"][0]) if compression.height else "-",
        number(entropy["clipped"]),
        number(sinks["clipped"]),
        number(ratio["clipped"][0]) if ratio.height else "-",
        changed,
    ]


def _what(experiment: Findings, own: dict[str, Any]) -> str:
    """Which coordinates, and where."""
    settings = experiment.header.settings
    row = "the sink token's row"
    if settings.get("massive_only"):
        dims = _own(experiment.table("sweeps").collect(), own)["dims"]
        named = ", ".join(map(str, dims[0])) if len(dims) else "-"
        row = f"massive coordinates ({named}) of {row}"
    return f"{row} at states {settings['states']}" if "states" in settings else row


def _where(first: int | None, last: int | None) -> str:
    if first is None or last is None:
        return "means over all blocks and the states after them (no compress phase)"
    return f"means over the compress phase, {span_of(first, last)}"


def _models_and_data(curves: pl.DataFrame) -> list[dict[str, Any]]:
    return curves.select(*KEY, "compress_first", "compress_last").unique(KEY, maintain_order=True).to_dicts()


def _own(table: pl.DataFrame, row: dict[str, Any]) -> pl.DataFrame:
    return table.filter(*[pl.col(name) == row[name] for name in KEY])

"""Preparation: what a curve through depth consists of, as a tidy table.

Spread is one standard deviation to each side, as in the paper; for ratios, which are averaged as logarithms, it is one
multiplicative standard deviation. A state or block without a value is there with NaN, so that it is drawn as a gap.
"""

from collections.abc import Sequence

import polars as pl

from thalweg.experiments._pairs import Pair, labels
from thalweg.store import Run

COLUMNS = ("series", "model", "revision", "data", "metric", "site", "index", "depth", "mean", "lower", "upper", "n")


def curves(run: Run, which: Sequence[Pair], metrics: Sequence[str]) -> pl.DataFrame:
    """Give the profile of some metrics as curves.

    Args:
        run: a run whose profile is written.
        which: the models and data sets to draw.
        metrics: names of columns of ``layers`` or of rates by block.

    Returns:
        One row per pair, metric and state or block, none left out: the columns ``series model revision data metric
        site index depth mean lower upper n``. ``depth`` is the index over the number of blocks, so that a block stands
        where the state it reads stands.
    """
    names = labels(run.header)
    profile = run.profile.filter(pl.col("metric").is_in(list(metrics))).collect()
    frames = [_pair_curves(profile, pair, names[pair.model, pair.revision]) for pair in which]
    return pl.concat(frames) if frames else pl.DataFrame(schema=dict.fromkeys(COLUMNS, pl.Float64))


def along(rows: pl.DataFrame, at: str) -> pl.DataFrame:
    """Give curves as the rows of a line, along one of their columns.

    Args:
        rows: with ``mean lower upper``.
        at: ``index``, ``depth`` or what else the axis shows.
    """
    return rows.select(pl.col(at).alias("at"), "mean", "lower", "upper")


def share_of_depth(which: Sequence[Pair]) -> bool:
    """Say whether models differ in depth, so that they can be compared by share of it only."""
    return len({pair.blocks for pair in which}) > 1


def _pair_curves(profile: pl.DataFrame, pair: Pair, series: str) -> pl.DataFrame:
    rows = profile.filter(pair.rows)
    rows = rows.join(_grid(rows, pair), on=["metric", "site", "index"], how="right")
    mean, std = pl.col("mean").fill_null(float("nan")), pl.col("std").fill_nan(0.0).fill_null(0.0)
    low = pl.when("geometric").then(mean * (-std).exp()).otherwise(mean - std)
    high = pl.when("geometric").then(mean * std.exp()).otherwise(mean + std)
    return rows.select(
        pl.lit(series).alias("series"),
        pl.lit(pair.model).alias("model"),
        pl.lit(pair.revision).alias("revision"),
        pl.lit(pair.data).alias("data"),
        "metric",
        "site",
        "index",
        (pl.col("index") / max(pair.blocks, 1)).alias("depth"),
        mean.alias("mean"),
        low.fill_null(float("nan")).alias("lower"),
        high.fill_null(float("nan")).alias("upper"),
        pl.col("n").fill_null(0),
    )


def _grid(rows: pl.DataFrame, pair: Pair) -> pl.DataFrame:
    places = rows.select("metric", "site").unique(maintain_order=True)
    count = pl.when(pl.col("site") == "state").then(pair.blocks + 1).otherwise(pair.blocks)
    return places.with_columns(pl.int_ranges(0, count, dtype=pl.Int32).alias("index")).explode("index")

"""Preparation: the mean sink score of every head."""

import polars as pl

from thalweg.figures._pairs import Pair
from thalweg.store import Run


def sink_scores(run: Run, pair: Pair) -> pl.DataFrame:
    """Give every head's scores, averaged over the prompts that are long enough to tell a sink from arithmetic.

    A prompt is long enough where a uniform head scores below tau.

    Args:
        run: the run; its ``heads`` and ``prompts`` are enough, finished or not.
        pair: the model and the data set.

    Returns:
        One row per block and head: ``block head sink_score top_score top_position n``, ``top_position`` being the most
        frequent one (the lowest of several). Heads without a value carry NaN, blocks without softmax attention are
        left out.
    """
    long_enough = run.prompts.filter(pair.rows & (pl.col("sink_uniform") < run.header.thresholds.tau)).select("prompt")
    heads = run.heads.filter(pair.rows)
    scores = (
        heads.join(long_enough, on="prompt", how="semi")
        .group_by("block", "head")
        .agg(
            pl.col("sink_score", "top_score").cast(pl.Float64).fill_nan(None).mean(),
            pl.col("top_position").mode().min(),
            pl.col("sink_score").fill_nan(None).count().alias("n"),
        )
    )
    every = heads.select("block", "head").unique()
    table = every.join(scores, on=["block", "head"], how="left").sort("block", "head")
    return table.with_columns(
        pl.col("sink_score", "top_score").fill_null(float("nan")), pl.col("n").fill_null(0)
    ).collect()

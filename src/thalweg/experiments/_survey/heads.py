"""Which heads sink: their scores, the map of them (the paper's Figure 5, left), and the strongest in words."""

import polars as pl

from thalweg.experiments._pairs import Pair, file_name, heading
from thalweg.experiments._views import head_grid
from thalweg.shown import Heat, Panel, Section, unit
from thalweg.store import Run

_LISTED = 20


def head_section(run: Run, pair: Pair) -> Section | None:
    """Give the map of the mean sink scores, None for a model without attention rows."""
    scores = sink_scores(run, pair)
    if not scores.height:
        return None
    grid = head_grid(scores, "sink_score", pair.blocks)
    heads, blocks = grid.shape
    heat = Heat(grid, unit("sink_score"), 0.0, 1.0)
    return Section(
        heading(run, pair),
        name=f"sink_map_{file_name(run, pair)}",
        panels=[Panel("Mean sink score by block and head", "block", "head", heat=heat)],
        size=(max(4.0, min(9.0, 2.0 + 0.22 * blocks)), max(2.6, min(7.0, 1.2 + 0.16 * heads))),
    )


def strongest_heads(run: Run, pair: Pair) -> str:
    """Name the heads that sink most, by block; nothing where none does."""
    heads = sinking_heads(run, pair).sort("sink_score", descending=True)
    listed = heads.head(_LISTED).sort("block", "head").group_by("block", maintain_order=True)
    blocks = [
        f"block {block}: "
        + ", ".join(f"head {head} ({score:.2f})" for head, score in rows.select("head", "sink_score").iter_rows())
        for (block,), rows in listed
    ]
    rest = f" and {heads.height - _LISTED} more" if heads.height > _LISTED else ""
    return f"The strongest: {'; '.join(blocks)}{rest}" if blocks else ""


def sinking_heads(run: Run, pair: Pair) -> pl.DataFrame:
    """Give the rows of `sink_scores` of the heads whose mean sink score reaches tau."""
    return sink_scores(run, pair).filter(reaches_tau("sink_score", run))


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


def reaches_tau(score: str, run: Run) -> pl.Expr:
    """The condition that a score is known and reaches tau."""
    # In polars NaN is above every number.
    return pl.col(score).is_finite() & (pl.col(score) >= run.header.thresholds.tau)


def shortest_prompt(tau: float) -> int:
    """Give the fewest tokens with which a uniform head scores below tau."""
    tokens, harmonic = 1, 1.0
    while harmonic / tokens >= tau and tokens < 1_000_000:
        tokens += 1
        harmonic += 1 / tokens
    return tokens

"""Which heads sink?"""

from dataclasses import dataclass

import polars as pl

from thalweg.figures import Pair, sink_scores
from thalweg.report._massive import Answer
from thalweg.report._words import counted, listing, percent, spans
from thalweg.store import Run

_LISTED = 20


@dataclass(frozen=True)
class SinkingHeads:
    """The heads whose mean sink score reaches tau.

    Attributes:
        total: how many there are.
        of: how many heads the model has attention rows for.
        blocks: in which blocks.
        by_block: the strongest of them, a line a block: block, heads with their score.
        rest: how many are not listed.
    """

    total: int
    of: int
    blocks: tuple[int, ...]
    by_block: tuple[tuple[int, tuple[tuple[int, str], ...]], ...]
    rest: int


def sinking_heads(run: Run, pair: Pair) -> SinkingHeads:
    """List the heads that sink, the strongest by block."""
    scores = sink_scores(run, pair)
    sinking = scores.filter(_reaches("sink_score", run))
    listed = sinking.sort("sink_score", descending=True).head(_LISTED).sort("block", "head")
    by_block = tuple(
        (block, tuple((head, f"{score:.2f}") for head, score in rows.select("head", "sink_score").iter_rows()))
        for (block,), rows in listed.group_by("block", maintain_order=True)
    )
    return SinkingHeads(
        total=sinking.height,
        of=scores.height,
        blocks=tuple(sinking["block"].unique().sort()),
        by_block=by_block,
        rest=sinking.height - listed.height,
    )


def sink_answer(run: Run, pair: Pair) -> Answer:
    """Answer which heads sink, and in how many prompts."""
    tau, shortest = run.header.thresholds.tau, shortest_prompt(run.header.thresholds.tau)
    heads, rates = sinking_heads(run, pair), _rates(run, pair)
    notes = _elsewhere(run, pair)
    if rates is None and not heads.total:
        return Answer("unknown", f"Not known yet: the run has status {run.status} and no profile.", notes)
    if rates is not None and not rates.height:
        reason = f"no prompt of {shortest} tokens or more, and in a shorter one a uniform head passes {tau}"
        return Answer("unknown", f"Not known: {reason}.", notes)
    peak = "" if rates is None else _peak(rates)
    if heads.total:
        where = f"block{'s' if len(heads.blocks) > 1 else ''} {spans(heads.blocks)}"
        text = f"Yes: {heads.total} of {counted(heads.of, 'head')}, in {where} (mean sink score {tau} or more)."
        return Answer("yes", text, (*filter(None, [peak]), *notes))
    if rates is not None and rates["mean"].max() == 0:
        text = f"No sink: no block's mean sink rate over prompts of {shortest} tokens or more is above 0."
        return Answer("no", text, notes)
    return Answer("partly", f"In some prompts only: no head's mean sink score reaches {tau}.", (peak, *notes))


def shortest_prompt(tau: float) -> int:
    """Give the fewest tokens with which a uniform head scores below tau."""
    tokens, harmonic = 1, 1.0
    while harmonic / tokens >= tau and tokens < 1_000_000:
        tokens += 1
        harmonic += 1 / tokens
    return tokens


def _rates(run: Run, pair: Pair) -> pl.DataFrame | None:
    if "profile" in run.missing:
        return None
    rows = run.profile.filter(pair.rows & (pl.col("metric") == "sink_rate") & pl.col("mean").is_finite())
    return rows.select("index", "mean").sort("index").collect()


def _peak(rates: pl.DataFrame) -> str:
    block, rate = rates.sort("mean", "index", descending=[True, False]).row(0)
    return f"The sink rate is highest in block {block}: {percent(rate)} of its heads."


def _reaches(score: str, run: Run) -> pl.Expr:
    # In polars NaN is above every number.
    return pl.col(score).is_finite() & (pl.col(score) >= run.header.thresholds.tau)


def _elsewhere(run: Run, pair: Pair) -> tuple[str, ...]:
    away = pl.col("top_position") != run.header.thresholds.sink_position
    found = sink_scores(run, pair).filter(away & _reaches("top_score", run))
    if not found.height:
        return ()
    positions = found["top_position"].value_counts(sort=True)["top_position"].head(3).to_list()
    where = f"position {listing(sorted(positions))}"
    return (f"{counted(found.height, 'head')} collect attention elsewhere, most often at {where}.",)

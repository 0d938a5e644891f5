"""Does this model have massive activations, and which heads sink?

The answers first, then the heads (the paper's Figure 5, left) and the massive activations that they are drawn from.
"""

from typing import Any

import polars as pl

from thalweg.experiments._survey.phases import not_known
from thalweg.experiments._views import Pair, file_name, head_grid, heading, map_tracks, phases_row
from thalweg.shown import Answer, Heat, Panel, Section, Table, amount, counted, listing, percent, spans, unit
from thalweg.store import Run

MASSIVE = "Massive activations?"
SINKS = "Which heads sink?"
MASSIVE_COLUMNS = ("kind", "position", "token", "dimension", "states", "median value", "median row norm", "prompts")
_DIMENSIONS_LISTED = 5
_LISTED = 20
_ALIKE = 3
"""Positions that each have a line of their own."""


def massive_answer(run: Run, pair: Pair) -> Answer:
    """Answer whether there are massive activations, with position, dimensions and value."""
    phases = phases_row(run, pair)
    if phases is None:
        return not_known(MASSIVE, run)
    sun = f"Sun et al.'s test finds a massive entry in {percent(phases['sun_prompt_share'])} of the prompts."
    if not phases["has_massive_activations"]:
        text = f"No massive activation: {_no_state(run, phases)}."
        return Answer(MASSIVE, "no", text, (_closest(run, pair), sun), rests="phases, layers")
    text = f"Yes: {_states(phases, pair)}, {_entries(run, pair)}."
    return Answer(MASSIVE, "yes", text, (sun,), rests=f"phases, massive: {counted(phases['prompts'], 'prompt')}")


def sink_answer(run: Run, pair: Pair) -> Answer:
    """Answer which heads sink, and in how many prompts."""
    tau, shortest = run.header.thresholds.tau, shortest_prompt(run.header.thresholds.tau)
    sinking, rates, notes = sinking_heads(run, pair), _rates(run, pair), _elsewhere(run, pair)
    if rates is None and not sinking.height:
        return not_known(SINKS, run, "no profile", notes)
    rests = f"heads, profile: prompts of {shortest} tokens or more"
    if rates is not None and not rates.height:
        reason = f"no prompt of {shortest} tokens or more, and in a shorter one a uniform head passes {tau}"
        return Answer(SINKS, "unknown", f"Not known: {reason}.", notes, rests)
    peak = () if rates is None else (_peak(rates),)
    if sinking.height:
        return Answer(SINKS, "yes", f"Yes: {_where_they_sink(run, pair, sinking)}.", (*peak, *notes), rests)
    if rates is not None and rates["mean"].max() == 0:
        text = f"No sink: no block's mean sink rate over prompts of {shortest} tokens or more is above 0."
        return Answer(SINKS, "no", text, notes, rests)
    text = f"In some prompts only: no head's mean sink score reaches {tau}."
    return Answer(SINKS, "partly", text, (*peak, *notes), rests)


def _states(phases: dict[str, Any], pair: Pair) -> str:
    first, last = phases["compress_first"], phases["compress_last"]
    which = f"state {first}" if first == last else f"states {first} to {last}"
    begin, end = (percent(phases[f"compress_{edge}_depth"]) for edge in ("first", "last"))
    return f"{which} of {pair.blocks} ({begin if first == last else f'{begin} to {end}'} of depth)"


def _entries(run: Run, pair: Pair) -> str:
    common = massive_rows(run, pair).filter(pl.col("share") >= 0.5)
    entries = common.filter(kind="entry")
    if not entries.height:
        rows = common.filter(kind="row")
        where = f"position {listing(sorted(set(rows['position'])))}" if rows.height else "no position common to half"
        return f"{where}, no single entry that passes Sun et al.'s test in half of the prompts"
    largest = entries.row(0, named=True)
    others = sorted(set(entries["position"]) - {largest["position"]})
    beside = f" (also position {listing(others)})" if others else ""
    dimensions = _dimensions(entries.filter(position=largest["position"])["dim"])
    return f"position {largest['position']}{beside}, {dimensions}, value {amount(largest['value'])}"


def _dimensions(dims: pl.Series) -> str:
    named, rest = sorted(dims.head(_DIMENSIONS_LISTED)), len(dims) - _DIMENSIONS_LISTED
    words = f"{', '.join(map(str, named))} and {rest} more" if rest > 0 else listing(named)
    return f"dimension{'s' if len(named) > 1 else ''} {words}"


def _no_state(run: Run, phases: dict[str, Any]) -> str:
    share = phases["massive_share_threshold"]
    prompts = "half of the prompts" if share == 0.5 else f"{percent(share)} of the prompts"
    ratio = amount(run.header.thresholds.massive_ratio).removesuffix(".0")
    return f"in no state does a row's norm reach {ratio} x the median row norm for {prompts}"


def _closest(run: Run, pair: Pair) -> str:
    ratio = pl.col("row_ratio").fill_nan(None).median()
    rows = run.layers.filter(pair.rows).group_by("state").agg(ratio).drop_nulls().sort("row_ratio", "state").collect()
    if not rows.height:
        return "No prompt has two rows to compare."
    state, value = rows.row(-1)
    return (
        f"The closest is state {state}, where the largest row is {amount(value)} x the median row in the median prompt."
    )


def _where_they_sink(run: Run, pair: Pair, sinking: pl.DataFrame) -> str:
    blocks, every = sinking["block"].unique().sort(), sink_scores(run, pair).height
    where = f"block{'s' if len(blocks) > 1 else ''} {spans(blocks)}"
    tau = run.header.thresholds.tau
    return f"{sinking.height} of {counted(every, 'head')}, in {where} (mean sink score {tau} or more)"


def _rates(run: Run, pair: Pair) -> pl.DataFrame | None:
    """The known sink rates by block, None before the profile is written."""
    if "profile" in run.missing:
        return None
    rows = run.profile.filter(pair.rows & (pl.col("metric") == "sink_rate") & pl.col("mean").is_finite())
    return rows.select("index", "mean").sort("index").collect()


def _peak(rates: pl.DataFrame) -> str:
    block, rate = rates.sort("mean", "index", descending=[True, False]).row(0)
    return f"The sink rate is highest in block {block}: {percent(rate)} of its heads."


def _elsewhere(run: Run, pair: Pair) -> tuple[str, ...]:
    away = pl.col("top_position") != run.header.thresholds.sink_position
    heads = sink_scores(run, pair).filter(away & reaches_tau("top_score", run))
    if not heads.height:
        return ()
    positions = heads["top_position"].value_counts(sort=True)["top_position"].head(3).to_list()
    where = f"position {listing(sorted(positions))}"
    collect = f"{counted(heads.height, 'head')} collect{'s' * (heads.height == 1)}"
    return (f"{collect} attention elsewhere, most often at {where}.",)


def head_section(run: Run, pair: Pair) -> Section | None:
    """Give the map of the mean sink scores, None for a model without attention rows."""
    scores = sink_scores(run, pair)
    if not scores.height:
        return None
    grid = head_grid(scores, "sink_score", pair.blocks)
    heads, blocks = grid.shape
    heat, name = Heat(grid, unit("sink_score"), 0.0, 1.0), "Mean sink score by block and head"
    bar = map_tracks(run, pair)
    return Section(
        heading(run, pair),
        name=f"sink_map_{file_name(run, pair)}",
        panels=[Panel(name, "block", "head", heat=heat, heads=pair.key, kinds=pair.kinds, tracks=bar)],
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
    """Give every head's scores, averaged over the prompts with which a uniform head scores below tau.

    ``top_position`` is the most frequent one, the lowest of several. Heads without a value carry NaN, blocks without
    softmax attention are left out. ``heads`` and ``prompts`` of a run are enough, finished or not.
    """
    heads = run.heads.filter(pair.rows)
    by_head = heads.join(long_prompts(run, pair), on="prompt", how="semi").group_by("block", "head")
    scores = by_head.agg(
        pl.col("sink_score", "top_score").cast(pl.Float64).fill_nan(None).mean(),
        pl.col("top_position").mode().min(),
        pl.col("sink_score").fill_nan(None).count().alias("n"),
    )
    every = heads.select("block", "head").unique()
    table = every.join(scores, on=["block", "head"], how="left").sort("block", "head").collect()
    return table.with_columns(pl.col("sink_score", "top_score").fill_null(float("nan")), pl.col("n").fill_null(0))


def long_prompts(run: Run, pair: Pair) -> pl.LazyFrame:
    """Give the prompts with which a uniform head scores below tau."""
    return run.prompts.filter(pair.rows & (pl.col("sink_uniform") < run.header.thresholds.tau))


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


def massive_section(run: Run, pair: Pair) -> Section:
    """Give the most common massive entries and rows of one model on one data set, those that are alike in one line."""
    rows = _massive(run, pair, _alike(run.header.thresholds.sink_position))
    if not rows.height:
        return Section("", sentences=[f"{heading(run, pair)}: none in any prompt and state"], rests="massive")
    rest = max(0, rows.height - _LISTED)
    note = f"{rest:,} rarer ones are not shown. " if rest else ""
    cells = [_cells(row) for row in rows.head(_LISTED).iter_rows(named=True)]
    note += "At most 16 are stored per prompt and state, the largest first."
    if rows["positions"].list.len().max() != 1:
        note += f" Where one dimension is massive at more than {_ALIKE} positions, the sink apart, they share a line."
    return Section("", tables=[Table(heading(run, pair), MASSIVE_COLUMNS, cells, note)])


def massive_rows(run: Run, pair: Pair) -> pl.DataFrame:
    """Give the massive entries and rows, drawn together over prompts and states, the most common first.

    ``tokens`` are the texts met there, most common first; ``share`` is that of prompts.
    """
    return _massive(run, pair, pl.col("position")).with_columns(position=pl.col("positions").list.first())


def _alike(sink_position: int) -> pl.Expr:
    """What is told apart: positions, but for those beside the sink at which one dimension or row is often massive."""
    away = pl.col("position") != sink_position
    many = pl.col("position").filter(away).n_unique().over("kind", "dim") > _ALIKE
    return pl.when(away & many).then(None).otherwise("position")


def _massive(run: Run, pair: Pair, place: pl.Expr) -> pl.DataFrame:
    prompts = run.prompts.filter(pair.rows).select(pl.len()).collect().item()
    by_place = run.massive.filter(pair.rows).with_columns(place=place).group_by("kind", "place", "dim")
    table = by_place.agg(
        pl.col("position").unique().sort().alias("positions"),
        pl.col("token").value_counts(sort=True).struct.field("token").head(3).alias("tokens"),
        pl.col("state").unique().sort().alias("states"),
        pl.col("value", "row_norm").median(),
        (pl.col("prompt").n_unique() / max(prompts, 1)).alias("share"),
    ).collect()
    size = pl.col("value").abs().fill_null(pl.col("row_norm"))
    return table.sort("share", "kind", size, "place", "dim", descending=[True, False, True, False, False])


def _cells(row: dict[str, Any]) -> list[str]:
    first, *others = row["positions"]
    return [
        row["kind"],
        f"{len(others) + 1} positions, {first} to {others[-1]}" if others else str(first),
        _tokens(row["tokens"]),
        amount(None) if row["dim"] is None else str(row["dim"]),
        spans(row["states"]),
        amount(row["value"]),
        amount(row["row_norm"]),
        percent(row["share"]),
    ]


def _tokens(tokens: list[str]) -> str:
    shown = listing([repr(token) for token in tokens[:2]])
    return f"{shown} and others" if len(tokens) > 2 else shown

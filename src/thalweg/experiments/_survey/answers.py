"""Does this model have massive activations, where do they begin and end, and which heads sink?"""

from typing import Any

import polars as pl

from thalweg.experiments._pairs import Pair, phases_row
from thalweg.experiments._survey.heads import reaches_tau, shortest_prompt, sink_scores, sinking_heads
from thalweg.experiments._survey.massive import massive_rows
from thalweg.shown import Answer, amount, counted, listing, percent, spans
from thalweg.store import Run

MASSIVE = "Massive activations?"
WHERE = "Where do they begin and end?"
SINKS = "Which heads sink?"
_LISTED = 5


def massive_answer(run: Run, pair: Pair) -> Answer:
    """Answer whether there are massive activations, with position, dimensions and value."""
    phases = phases_row(run, pair)
    if phases is None:
        return _not_known(MASSIVE, run)
    sun = f"Sun et al.'s test finds a massive entry in {percent(phases['sun_prompt_share'])} of the prompts."
    if not phases["has_massive_activations"]:
        return Answer(MASSIVE, "no", f"No massive activation: {_no_state(run, phases)}.", (_closest(run, pair), sun))
    return Answer(MASSIVE, "yes", f"Yes: {_states(phases, pair)}, {_entries(run, pair)}.", (sun,))


def where_answer(run: Run, pair: Pair) -> Answer:
    """Answer which block writes them and which block takes them away."""
    phases = phases_row(run, pair)
    if phases is None:
        return _not_known(WHERE, run)
    if not phases["has_massive_activations"]:
        return Answer(WHERE, "no", "Nowhere: there is no compress phase.")
    first, last = phases["compress_first"], phases["compress_last"]
    begin = f"Written by block {first - 1}, first seen in state {first}" if first else "There from the embedding on"
    end = f"still there in the last state, {last}: no refine phase"
    if phases["has_refine"]:
        end = f"taken away by block {last}, gone in state {last + 1}"
    notes = [f"The same first state in {percent(phases['agreement'])} of the prompts."]
    if phases["dips"] is not None and len(phases["dips"]):
        notes.append(f"In between, not massive in state {listing(list(phases['dips']))}.")
    return Answer(WHERE, "yes", f"{begin}; {end}.", tuple(notes))


def sink_answer(run: Run, pair: Pair) -> Answer:
    """Answer which heads sink, and in how many prompts."""
    tau, shortest = run.header.thresholds.tau, shortest_prompt(run.header.thresholds.tau)
    sinking, rates, notes = sinking_heads(run, pair), _rates(run, pair), _elsewhere(run, pair)
    if rates is None and not sinking.height:
        return _not_known(SINKS, run, "no profile", notes)
    if rates is not None and not rates.height:
        reason = f"no prompt of {shortest} tokens or more, and in a shorter one a uniform head passes {tau}"
        return Answer(SINKS, "unknown", f"Not known: {reason}.", notes)
    peak = () if rates is None else (_peak(rates),)
    if sinking.height:
        return Answer(SINKS, "yes", f"Yes: {_where_they_sink(run, pair, sinking)}.", (*peak, *notes))
    if rates is not None and rates["mean"].max() == 0:
        text = f"No sink: no block's mean sink rate over prompts of {shortest} tokens or more is above 0."
        return Answer(SINKS, "no", text, notes)
    return Answer(SINKS, "partly", f"In some prompts only: no head's mean sink score reaches {tau}.", (*peak, *notes))


def _not_known(
    question: str, run: Run, reason: str = "its phases are not written", notes: tuple[str, ...] = ()
) -> Answer:
    return Answer(question, "unknown", f"Not known yet: the run has status {run.status} and {reason}.", notes)


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
    named, rest = sorted(dims.head(_LISTED)), len(dims) - _LISTED
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
    return (f"{counted(heads.height, 'head')} collect attention elsewhere, most often at {where}.",)

"""Does this model have massive activations, and where do they begin and end?"""

from dataclasses import dataclass
from typing import Any

import polars as pl

from thalweg.figures import Pair
from thalweg.report._words import amount, listing, percent
from thalweg.store import Run

_LISTED = 5


@dataclass(frozen=True)
class Answer:
    """A verdict in a word, and the sentence that says it in numbers.

    Attributes:
        verdict: yes, no, partly or unknown.
        text: the sentence.
        notes: what to know beside it, a sentence each.
    """

    verdict: str
    text: str
    notes: tuple[str, ...] = ()


def massive_answer(run: Run, pair: Pair) -> Answer:
    """Answer whether there are massive activations, with position, dimensions and value."""
    phases = phases_row(run, pair)
    if phases is None:
        return _not_known(run)
    sun = f"Sun et al.'s test finds a massive entry in {percent(phases['sun_prompt_share'])} of the prompts."
    if not phases["has_massive_activations"]:
        return Answer("no", f"No massive activation: {_no_state(run, phases)}.", (_closest(run, pair), sun))
    return Answer("yes", f"Yes: {_states(phases, pair)}, {_entries(run, pair)}.", (sun,))


def where_answer(run: Run, pair: Pair) -> Answer:
    """Answer which block writes them and which block takes them away."""
    phases = phases_row(run, pair)
    if phases is None:
        return _not_known(run)
    if not phases["has_massive_activations"]:
        return Answer("no", "Nowhere: there is no compress phase.")
    first, last = phases["compress_first"], phases["compress_last"]
    begin = (
        "there from the embedding on" if first == 0 else f"written by block {first - 1}, first seen in state {first}"
    )
    end = (
        f"taken away by block {last}, gone in state {last + 1}"
        if phases["has_refine"]
        else f"still there in the last state, {last}: no refine phase"
    )
    notes = [f"The same first state in {percent(phases['agreement'])} of the prompts."]
    if phases["dips"] is not None and len(phases["dips"]):
        notes.append(f"In between, not massive in state {listing(list(phases['dips']))}.")
    return Answer("yes", f"{begin[0].upper()}{begin[1:]}; {end}.", tuple(notes))


def phases_row(run: Run, pair: Pair) -> dict[str, Any] | None:
    """Give the pair's row of ``phases``, None where it has not been written."""
    if "phases" in run.missing:
        return None
    rows = run.phases.filter(pair.rows).collect()
    return rows.row(0, named=True) if rows.height else None


def massive_table(run: Run, pair: Pair) -> pl.DataFrame:
    """Give the massive entries and rows, drawn together over prompts and states.

    Args:
        run: the run; ``massive`` is enough.
        pair: the model and the data set.

    Returns:
        One row per kind, position and dimension: ``kind position tokens dim states value row_norm share``, most common
        first; ``tokens`` are the texts met there, most common first, ``value`` and ``row_norm`` medians, ``share`` of
        prompts.
    """
    prompts = run.prompts.filter(pair.rows).select(pl.len()).collect().item()
    table = (
        run.massive.filter(pair.rows)
        .group_by("kind", "position", "dim")
        .agg(
            pl.col("token").value_counts(sort=True).struct.field("token").head(3).alias("tokens"),
            pl.col("state").unique().sort().alias("states"),
            pl.col("value", "row_norm").median(),
            (pl.col("prompt").n_unique() / max(prompts, 1)).alias("share"),
        )
        .collect()
    )
    size = pl.col("value").abs().fill_null(pl.col("row_norm"))
    return table.sort(pl.col("share"), "kind", size, "position", "dim", descending=[True, False, True, False, False])


def _not_known(run: Run) -> Answer:
    return Answer("unknown", f"Not known yet: the run has status {run.status} and its phases are not written.")


def _states(phases: dict[str, Any], pair: Pair) -> str:
    first, last = phases["compress_first"], phases["compress_last"]
    which = f"state {first}" if first == last else f"states {first} to {last}"
    begin, end = (percent(phases[f"compress_{edge}_depth"]) for edge in ("first", "last"))
    return f"{which} of {pair.blocks} ({begin if first == last else f'{begin} to {end}'} of depth)"


def _entries(run: Run, pair: Pair) -> str:
    common = massive_table(run, pair).filter(pl.col("share") >= 0.5)
    entries = common.filter(pl.col("kind") == "entry")
    if not entries.height:
        rows = common.filter(pl.col("kind") == "row")
        where = f"position {listing(sorted(set(rows['position'])))}" if rows.height else "no position common to half"
        return f"{where}, no single entry that passes Sun et al.'s test in half of the prompts"
    largest = entries.row(0, named=True)
    here = entries.filter(pl.col("position") == largest["position"])
    dims = sorted(here["dim"].head(_LISTED))
    more = f" and {here.height - _LISTED} more" if here.height > _LISTED else ""
    named = f"dimension{'s' if len(dims) > 1 else ''} {', '.join(map(str, dims)) + more if more else listing(dims)}"
    others = sorted(set(entries["position"]) - {largest["position"]})
    beside = f" (also position {listing(others)})" if others else ""
    return f"position {largest['position']}{beside}, {named}, value {amount(largest['value'])}"


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

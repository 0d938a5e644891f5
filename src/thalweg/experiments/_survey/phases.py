"""Where a row stands out and how that ends, whether each phase is as the paper says, and what moves together."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from thalweg.experiments._views import Pair, heading, label_of, measured, phases_are_written, phases_row, segments_of
from thalweg.shown import Answer, Section, Table, amount, counted, interval, listing, number, percent, spans
from thalweg.store import Run

WHERE = "Where does the massive row begin and end?"
PHASES = "Does it mix, compress and refine as the paper says?"
ROW = "Does the massive row make the compression?"
TOGETHER = "Do norm, entropy and sinks move together?"
NAMES = ("mix", "compress", "refine")
AS_SAID, NOT_HERE = "as the paper says", "not here"
IN_PHASES = ("mixing_normalized", "mixing", "sink_rate", "entropy_normalized")
PHASE_COLUMNS = (
    "model",
    "data",
    "phase",
    "states",
    "depth",
    "normalized mixing",
    "mixing (nats)",
    "sink rate",
    "normalized entropy",
    "mark",
)
SEGMENT_COLUMNS = (
    "segment",
    "states",
    "peak",
    "row ratio",
    "massive in",
    "position",
    "seen from",
    "end",
    "the row",
    "the others",
)
CLAIM_COLUMNS = ("phase", "claim", "mean", "95% interval", "bound", "here", "compared with", "prompts", "mark")
COUPLINGS = {
    "coupling_entropy": "norm and entropy",
    "coupling_sink": "norm and sink rate of the block that reads it",
    "coupling_sink_next": "norm and sink rate one block on",
}
PAPER = {"coupling_entropy": (-0.9, 0.18), "coupling_sink": (0.58, 0.25)}
"""Mean and standard deviation over the paper's models (section 3.1)."""
FAINT = 0.3
"""A correlation below this says nothing."""
_CLAIMED = {
    "mixing_normalized": "normalized mixing",
    "sink_rate": "sink rate",
    "sharp_rate": "share of sharp heads",
    "entropy_normalized": "normalized entropy",
}


def where_answer(run: Run, pair: Pair) -> Answer:
    """Answer where compress and the waves lie, from where on they are seen, and how they end."""
    phases, rests = phases_row(run, pair), "segments, phases"
    if phases is None:
        return not_known(WHERE, run)
    if not phases["has_massive_activations"]:
        return Answer(WHERE, "no", "Nowhere: there is no compress phase.", rests=rests)
    told = {row["name"]: row for row in segments_of(run, pair)}
    compress = told.pop("compress")
    notes = [f"{_wave(row, compress)}." for row in told.values()]
    notes += _remarks(phases)
    text = f"Compress, states {_range(compress)}: {_seen(compress, phases)}; {ending_words(compress, pair.blocks)}."
    return Answer(WHERE, "yes", text, tuple(notes), rests=f"{rests}: {_prompts(phases)}")


def phases_answer(run: Run, pair: Pair) -> Answer:
    """Answer which of the paper's claims hold in each phase, with their numbers."""
    phases = phases_row(run, pair)
    if phases is None:
        return not_known(PHASES, run)
    if not phases["has_massive_activations"]:
        return Answer(PHASES, "no", "There are no phases: no state is massive.", rests="phases")
    marks = {name: phases[f"{name}_mark"] for name in NAMES}
    by_mark = dict[str, list[str]]()
    for name, mark in marks.items():
        by_mark.setdefault(mark or "cannot be told", []).append(name)
    said = [f"{listing(names)} {'is' if len(names) == 1 else 'are'} {mark}" for mark, names in by_mark.items()]
    text = "Yes: mix, compress and refine are as the paper says." if set(by_mark) == {AS_SAID} else None
    verdict = "yes" if text else "no" if set(by_mark) == {NOT_HERE} else "partly"
    claims = run.claims.filter(pair.rows).collect().to_dicts()
    notes = [
        f"{name.capitalize()}: {'; '.join(_claim(row) for row in claims if row['phase'] == name)}." for name in NAMES
    ]
    text = text or f"{'; '.join(said)}.".capitalize()
    return Answer(PHASES, verdict, text, tuple(notes), rests=f"claims: {_prompts(phases)}")


def row_answer(run: Run, pair: Pair) -> Answer | None:
    """Answer whether the compression goes with the row, None for a model without a compress phase."""
    row = phases_row(run, pair)
    if row is None or not row["has_massive_activations"]:
        return None
    rests = f"phases: entropy_without_massive of {counted(row['given_back_n'], 'prompt')}"
    share = measured(row["given_back"], row["given_back_low"], row["given_back_high"])
    given = f"{share} of the drop in normalized entropy is given back without it"
    notes = (_explained(row),) if row["row_explains"] else ()
    match row["row_compresses"]:
        case "yes":
            return Answer(ROW, "yes", f"Yes, the row compresses: {given}.", notes, rests=rests)
        case "no":
            text = f"No, the row is not what compresses: the others are as aligned without it; {given}."
            return Answer(ROW, "no", text, notes, rests=rests)
        case "partly":
            return Answer(ROW, "partly", f"In part: {given}.", notes, rests=rests)
        case _:
            text = "Not known: fewer than two of the first 16 prompts have a drop in entropy to give back."
            return Answer(ROW, "unknown", text, notes, rests=rests)


def coupling_answer(run: Run, pair: Pair) -> Answer:
    """Answer whether entropy falls and sinks come as the norm rises, against what the paper reports."""
    if "coupling" in run.missing:
        return not_known(TOGETHER, run)
    rows = run.coupling.filter(pair.rows).collect().to_dicts()
    values = {name: rows[0][name] if rows else math.nan for name in PAPER}
    words = {
        "coupling_entropy": ("entropy falls as the norm rises", "entropy does not fall as the norm rises"),
        "coupling_sink": ("sinks come as the norm rises", "sinks do not come as the norm rises"),
    }
    strength = {name: _strength(value, *PAPER[name]) for name, value in values.items()}
    said = [_coupled(strength[name], values[name], *words[name]) for name in PAPER]
    verdicts = set(strength.values())
    text = "; ".join(said)
    notes = [f"{_course(run, pair)}."] if NOT_HERE in verdicts else []
    notes.append("The paper: -0.9 ± 0.18 with the entropy, 0.58 ± 0.25 with the sink rate of the block that reads it.")
    if rows and rows[0]["reason"]:
        notes.append(f"{rows[0]['reason'].capitalize()}.")
    verdict = "yes" if verdicts == {"as in the paper"} else "no" if verdicts == {NOT_HERE} else "partly"
    verdict = "unknown" if "unknown" in verdicts else verdict
    rests = "coupling: sink_norm, entropy and sink_rate from state to state"
    return Answer(TOGETHER, verdict, f"{text[:1].upper()}{text[1:]}.", tuple(notes), rests=rests)


def not_known(
    question: str, run: Run, reason: str = "its phases are not written", notes: tuple[str, ...] = ()
) -> Answer:
    """Give the answer to what an unfinished run does not say yet."""
    return Answer(question, "unknown", f"Not known yet: the run has status {run.status} and {reason}.", notes)


def ending_words(segment: dict[str, Any], last: int) -> str:
    """Write how a segment ends: ``ended by both: by state 30 the row is x 0.23 and the others x 6.4``."""
    if segment["last"] == last:
        return f"still there in the last state, {last}"
    state, how = segment["end_state"], segment["end"]
    factors = f"the row x {amount(segment['row_factor'])}, the others x {amount(segment['others_factor'])}"
    if how is None:
        return "no end: the row does not fall behind it" if state is not None else "its end is not known"
    words = {
        "removed": f"ended by state {state}, where the row is taken away",
        "caught up": f"ended by state {state}, where the others have caught up",
        "both": f"ended by both, a smaller row and larger others, by state {state}",
    }
    return f"{words[how]} ({factors})"


def phase_tables(run: Run, every: Sequence[Pair]) -> list[Table]:
    """Give the phases of all, and of each its segments and the claims about it."""
    name = (
        "Where each phase lies, and the means inside it. Compress: the states around the peak whose row ratio is at "
        "least the root of the peak's; waves are left out of mix and refine."
    )
    tables = [Table(name, PHASE_COLUMNS, [row for pair in every for row in _phase_rows(run, pair)])]
    for pair in every:
        segments = [_segment_cells(row) for row in segments_of(run, pair)]
        claims = [_claim_cells(row) for row in run.claims.filter(pair.rows).collect().iter_rows(named=True)]
        about = heading(run, pair)
        tables.append(Table(f"{about}: where a row stands out, and how that ends", SEGMENT_COLUMNS, segments))
        tables.append(Table(f"{about}: what the paper says of each phase", CLAIM_COLUMNS, claims, folded="Every claim"))
    return tables


def phases_section(run: Run, every: Sequence[Pair]) -> Section:
    """Give the tables of phases, segments and claims."""
    if not phases_are_written(run):
        return Section("", sentences=["Not written yet"])
    return Section("", tables=[table for table in phase_tables(run, every) if table.rows])


def coupling_section(run: Run, every: Sequence[Pair]) -> Section:
    """Give the correlations, each with its deviation over models or the reason why there is none."""
    if "coupling" in run.missing:
        return Section("", sentences=["Not written yet"])
    shown: dict[Any, str] = {(pair.model, pair.revision): label_of(run, pair) for pair in every}
    rows = [
        [
            shown.get((row["model"], row["revision"]), row["model"]),
            row["data"] or "",
            *(_with_deviation(row, name) for name in COUPLINGS),
            row["reason"] or "",
        ]
        for row in run.coupling.collect().iter_rows(named=True)
        if row["revision"] is None or (row["model"], row["revision"]) in shown
    ]
    name = (
        "Correlation, over depth, of the changes in the sink token's norm with the changes in entropy and in the sink "
        "rate."
    )
    return Section("", tables=[Table(name, ("model", "data", *COUPLINGS.values(), "remark"), rows)])


def _wave(row: dict[str, Any], compress: dict[str, Any]) -> str:
    order = "An earlier" if row["first"] < compress["first"] else "A later"
    until = f" until state {row['until']}" if row["until"] > row["last"] else ""
    where = f"{order} wave, {_states(range(row['first'], row['last'] + 1))}"
    begun = f"seen from state {row['run_first']} on, so written by block {row['run_first'] - 1} or earlier"
    massive = f"massive in {percent(row['massive_prompts'])} of the prompts"
    return f"{where}: {_row(row)}, {massive}, {begun}; {ending_words(row, -1)}; left out of the means{until}"


def _row(row: dict[str, Any]) -> str:
    at = f"at position {row['position']}"
    if row["position_share"] < 1:
        at += f" in {percent(row['position_share'])} of the prompts"
    return f"a row {amount(row['peak_ratio'])} x the median at state {row['peak']}, {at}{_tokens(row['tokens'])}"


def _tokens(tokens: Sequence[str]) -> str:
    if not len(tokens):
        return ""
    shown = [repr(token) for token in tokens[:2]]
    return f" ({listing(shown if len(tokens) <= 2 else [*shown, 'others'])})"


def _seen(row: dict[str, Any], phases: dict[str, Any]) -> str:
    if phases["massive_at_embedding"] and row["first"] == 1:
        return f"{_row(row)}, there from the embedding on"
    first = row["run_first"]
    return f"{_row(row)}, seen from state {first} on, so written by block {first - 1} or earlier"


def _remarks(phases: dict[str, Any]) -> Iterator[str]:
    if phases["massive_at_embedding"]:
        yield "State 0, which no block has written, is massive."
    if phases["shoulders"]:
        yield f"Massive beside it, in the same run: {_states(phases['shoulders'])}."
    if phases["dips"]:
        yield f"Inside, below the line: {_states(phases['dips'])}."
    shares = (percent(phases[f"agreement_{edge}"]) for edge in ("first", "last"))
    yield "The prompts' own compress phases: the same first state in {} of them, the same last in {}.".format(*shares)
    lines = [_line(phases, name) for name in ("low", "high")]
    drawn = f"with the line at the peak's power 0.4: {lines[0]}, at 0.6: {lines[1]}"
    yield f"It depends on where the line is drawn: {drawn}." if phases["line_matters"] else f"{drawn.capitalize()}."
    runs = [_runs(phases[f"runs_at_{ratio}"]) for ratio in (5, 10, 20)]
    yield f"Massive states at ratios of 5, 10 and 20: {'; '.join(runs)}."
    if phases["left_out"]:
        yield f"{counted(phases['left_out'], 'prompt')} too short, or without a row ratio at some state, not counted."


def _states(states: Sequence[int]) -> str:
    return f"state{'s' if len(states) > 1 else ''} {spans(states)}"


def _line(phases: dict[str, Any], name: str) -> str:
    first, last = phases[f"compress_first_{name}"], phases[f"compress_last_{name}"]
    return f"{first} to {last}"


def _runs(ends: Sequence[int]) -> str:
    pairs = zip(ends[::2], ends[1::2], strict=True)
    return listing([str(first) if first == last else f"{first} to {last}" for first, last in pairs])


def _range(row: dict[str, Any]) -> str:
    return str(row["first"]) if row["first"] == row["last"] else f"{row['first']} to {row['last']}"


def _prompts(phases: dict[str, Any]) -> str:
    return counted(phases["prompts"], "prompt")


def _claim(row: dict[str, Any]) -> str:
    """One claim in words, with its means and the interval."""
    if row["mark"] is None or row["n"] == 0:
        return f"{row['claim']}: {row['reason'] or 'no numbers'}"
    what, mean = _CLAIMED[row["metric"]], measured(row["mean"], row["low"], row["high"])
    both = f"{what} {row['here']:.3f} against {row['there']:.3f}"
    bound = f"{row['side']} {amount(row['bound'])}"
    told = {
        "value": f"{what} {mean}, {bound}",
        "difference": f"{both}, difference {mean}",
        "ratio": f"{both}, ratio {mean}, {bound}",
        "recovered": f"{both}, {mean} of the drop, {bound}",
    }[row["form"]]
    mark = f"{row['mark']}{f', {why}' if (why := row['reason']) else ''}"
    return f"{row['claim']}: {mark} ({told})" if row["decides"] else f"a remark, {row['claim']}: {mark} ({told})"


def _claim_cells(row: dict[str, Any]) -> list[Any]:
    bound = f"{row['side']} {number(row['bound'])}"
    mark = row["mark"] or "left out"
    told = f"{mark}: {row['reason']}" if row["reason"] else mark
    ends = interval(row["low"], row["high"])
    numbers = [number(row["mean"]), ends, bound, number(row["here"]), number(row["there"]), row["n"]]
    return [row["phase"], row["claim"] if row["decides"] else f"{row['claim']} (a remark)", *numbers, told]


def _segment_cells(row: dict[str, Any]) -> list[Any]:
    states = _range(row)
    if row["shoulders"]:
        states += f" (shoulders {spans(row['shoulders'])})"
    end = "none" if row["end"] is None else f"{row['end']}, state {row['end_state']}"
    position = f"{row['position']} ({percent(row['position_share'])}){_tokens(row['tokens'])}"
    factors = [GONE if math.isnan(row[name]) else f"x {amount(row[name])}" for name in ("row_factor", "others_factor")]
    ratio, share = amount(row["peak_ratio"]), percent(row["massive_prompts"])
    return [row["name"], states, row["peak"], ratio, share, position, row["run_first"], end, *factors]


GONE = amount(None)


def _explained(row: dict[str, Any]) -> str:
    norm, aligned = percent(row["row_norm_share"]), percent(row["row_aligned_share"])
    match row["row_explains"]:
        case "norm":
            return f"The norm alone would do: it explains {norm} of the largest squared singular value."
        case "alignment":
            return (
                f"With alignment: its norm explains {norm} of the largest squared singular value, {aligned} with the "
                "others' alignment to it."
            )
        case _:
            return f"Neither its norm ({norm}) nor alignment to it ({aligned}) explains the largest singular value."


def _strength(value: float, mean: float, deviation: float) -> str:
    """How a correlation stands against the paper's: as strong as its mean less one deviation, or not."""
    along = value * math.copysign(1, mean)
    if math.isnan(along):
        return "unknown"
    return "as in the paper" if along >= abs(mean) - deviation else "weaker" if along >= FAINT else NOT_HERE


def _coupled(strength: str, value: float, holds: str, fails: str) -> str:
    if strength == "unknown":
        return f"whether {holds} cannot be told"
    if strength == NOT_HERE:
        return f"{fails}, r = {value:.2f}: not here"
    how = "as in the paper" if strength == "as in the paper" else "weaker than in the paper"
    return f"{holds}, r = {value:.2f}, {how}"


def _course(run: Run, pair: Pair) -> str:
    norms = run.profile.filter(pair.rows, site="state", metric="sink_norm").filter(pl.col("index") > 0)
    means = norms.select("index", "mean").sort("index").collect()
    state = int(means["index"][means["mean"].arg_max() or 0])
    if state == pair.blocks:
        return "The sink token's norm rises from block 0 to the end"
    return f"The sink token's norm is largest at state {state}"


def _with_deviation(row: dict[str, Any], name: str) -> str:
    value, deviation = row[name], row[f"{name}_std"]
    known = deviation is not None and deviation == deviation  # NaN is unequal to itself
    return f"{amount(value)} ± {amount(deviation)}" if known else amount(value)


def _phase_rows(run: Run, pair: Pair) -> Iterator[list[str]]:
    row = phases_row(run, pair)
    if row is None:
        return
    label = label_of(run, pair)
    if not row["has_massive_activations"]:
        depth, blanks = "0 % to 100 %", [amount(None)] * len(IN_PHASES)
        yield [label, pair.data, "no compress phase", f"0 to {row['states']}", depth, *blanks, ""]
        return
    states = run.profile.filter(pair.rows, site="state").select("index", "phase").unique().sort("index").collect()
    for phase in NAMES:
        own = states.filter(phase=phase)["index"].to_list()
        ends = dict.fromkeys(percent(state / row["states"]) for state in (*own[:1], *own[-1:]))
        depth = " to ".join(ends)
        means = (amount(row[f"{phase}_{metric}"]) for metric in IN_PHASES)
        yield [label, pair.data, phase, spans(own) if own else "none", depth, *means, row[f"{phase}_mark"] or ""]

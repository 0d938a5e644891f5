"""Which state embeds best, by MTEB or by what a linear probe reads; from which state on an early exit costs little."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from thalweg.advice._answer import NOT_MEASURED, Answer, Exit
from thalweg.averages import not_told_apart, ratio_of_sums
from thalweg.experiments import answers_of
from thalweg.shown import counted, interval, ranges
from thalweg.store import Findings, ModelFacts, Run

EMBEDDINGS = "which state for embeddings"
ACCURACY = "from which state on an early exit keeps the accuracy"
PERPLEXITY = "from which state on an early exit keeps the perplexity"
METRICS = ("acc", "acc_norm")
PAIRED = "McNemar's test, answer by answer,"
NORMAL = 1.96
Row = dict[str, Any]
Rows = list[Row]
PhaseOf = Callable[[int], str | None]
"""Names the phase of a state: :func:`phase_of` of one model."""


def phase_of(state: int, span: tuple[int, int] | None, *, surveyed: bool) -> str | None:
    """Name the phase of a state; None where there is no survey, "no compress phase" where it found none."""
    if span is None:
        return "no compress phase" if surveyed else None
    return "mix" if state < span[0] else "compress" if state <= span[1] else "refine"


def best_embedding(run: Run, model: ModelFacts, phase: PhaseOf) -> Answer | None:
    """Answer by the scores on most tasks of MTEB, else by the probe on most test examples, the latest of equal ones.

    None where there is neither.
    """
    mtebs, probes = (list(reversed(run.experiments(name))) for name in ("mteb", "probe"))
    scored = [(findings, _rows(findings, "means", _of(model), pl.col("type") == "all")) for findings in mtebs]
    scored = [(findings, rows) for findings, rows in scored if any(row["best"] for row in rows)]
    if scored:
        return _by_mteb(*max(scored, key=lambda pair: pair[1][0]["n"]), phase)
    probed = [(findings, _rows(findings, "accuracy", _of(model))) for findings in probes]
    probed = [(findings, rows) for findings, rows in probed if _test(rows) and not unconverged(rows)]
    return _by_probe(*max(probed, key=lambda pair: _test(pair[1])[0]["n"]), model, phase) if probed else None


def unconverged(rows: Rows) -> list[int]:
    """The states at which a probe has not converged: what it reads there says nothing of them."""
    return sorted({row["state"] for row in rows if row["converged"] is False})


def why_not(run: Run, model: ModelFacts) -> str:
    """Why the run does not say which state embeds best."""
    for findings in reversed(run.experiments("probe")):
        if states := unconverged(rows := _rows(findings, "accuracy", _of(model))):
            return f"the probe on {rows[0]['data']} has not converged at {_states(states)}"
    return NOT_MEASURED


def _states(states: Sequence[int]) -> str:
    return f"{'state' if len(states) == 1 else 'states'} {ranges(states)}"


def _by_mteb(findings: Findings, rows: Rows, phase: PhaseOf) -> Answer:
    best, last = next(row for row in rows if row["best"]), rows[-1]
    unknown = any(row["tied"] is None for row in rows)
    tied = None if unknown else tuple(row["state"] for row in rows if row["tied"] and row is not best)
    tasks = counted(best["n"], "task")
    said = f"mean main score {_measured(best, 'mean')} over {tasks} of MTEB{_pooled(findings)}"
    return _answer(best, last, "mean", said, tied, tasks, phase, f"mteb/{findings.header.key}/means")


def _by_probe(findings: Findings, rows: Rows, model: ModelFacts, phase: PhaseOf) -> Answer:
    """The best by validation accuracy where there is any, so that the test accuracy is not the luckiest one."""
    test = _test(rows)
    by = _test(rows, "validation") or test
    known = {row["state"]: row for row in test}
    best = known[max((row for row in by if row["state"] in known), key=lambda row: row["accuracy"])["state"]]
    right = answers_of(findings, split="test", model=model.name, revision=model.revision)
    others = [row["state"] for row in test if row is not best]
    tied = tuple(not_told_apart(right, best["state"], others)) if right.size else None
    said = (
        f"chosen by the {'validation' if by is not test else 'test'} accuracy of a linear probe on "
        f"{best['data']}{_pooled(findings)}, for want of MTEB: "
        f"test accuracy {_measured(best, 'accuracy')} on {best['n']:,} answers"
    )
    return _answer(best, test[-1], "accuracy", said, tied, PAIRED, phase, f"probe/{findings.header.key}/accuracy")


def _answer(
    best: Row, last: Row, column: str, said: str, tied: tuple[int, ...] | None, by: str, phase: PhaseOf, source: str
) -> Answer:
    """The best state with what was said of it, the last one where that is another, and those that are as good."""
    state, lies = best["state"], phase(best["state"])
    where = f"{state / max(last['state'], 1):.0%} of depth" + ("" if lies is None else f", {lies}")
    beside = "" if last is best else f"; the last state {last[column]:.3f}"
    text = f"state {state} of {last['state']} ({where}): {said}{beside}; {_ties(tied, by)}"
    low, high = (end if end is not None and math.isfinite(end) else None for end in (best["low"], best["high"]))
    return Answer(EMBEDDINGS, text, source, state, best[column], low, high, tied, lies)


def _test(rows: Rows, split: str = "test") -> Rows:
    return [row for row in rows if row["split"] == split and math.isfinite(row["accuracy"])]


def _rows(findings: Findings, table: str, *which: pl.Expr) -> Rows:
    return findings.table(table).filter(*which).sort("state").collect().to_dicts()


def _measured(row: Row, column: str) -> str:
    return f"{row[column]:.3f} {interval(row['low'], row['high'])}".rstrip()


def _pooled(findings: Findings) -> str:
    pooling = findings.header.settings["pooling"]
    return "" if pooling == "mean" else f" ({pooling} token)"


def _ties(tied: tuple[int, ...] | None, by: str) -> str:
    if tied is None:
        return f"{by} cannot tell which states are as good"
    if not tied:
        return f"by {by} no other state is as good"
    return f"by {by} not to be told from {_states(tied)}"


def cheap_exits(values: Sequence[float], costs: Sequence[float], phase: PhaseOf, *, falls: bool) -> tuple[Exit, ...]:
    """Give for each cost, in per cent of the last value, the first state from which no state costs more.

    The last state where no earlier one will do; a value that is not finite never does. Accuracies 0.2, 0.5, 0.4, 0.48,
    0.5 at a cost of 5%: 0.475 is reached from state 3 on; state 1 reaches it, but state 2 after it does not.

    Args:
        values: what each state reaches, 0..L; the last is finite.
        costs: in per cent.
        phase: of a state.
        falls: less is better, as for a perplexity.
    """
    exits = list[Exit]()
    for cost in costs:
        state = len(values) - 1
        while state and _cheap(values[state - 1], values[-1], cost, falls=falls):
            state -= 1
        exits.append(Exit(cost, state, values[state], phase(state)))
    return tuple(exits)


def _cheap(value: float, final: float, cost: float, *, falls: bool) -> bool:
    limit = final * (1 + cost / 100) if falls else final * (1 - cost / 100)
    return math.isfinite(value) and (value <= limit if falls else value >= limit)


def exits_by_accuracy(run: Run, model: ModelFacts, costs: Sequence[float], phase: PhaseOf) -> list[Answer]:
    """Answer by multiple choice, the mean over tasks: an answer for each lens and number of shots, the latest of it."""
    answers = dict[tuple[str, str], Answer]()
    for findings in run.experiments("mcq"):
        rows = _tasks(findings.table("scores").filter(_of(model)).collect())
        curve = rows.group_by("state").agg(pl.col("value").mean()).sort("state")["value"].to_list()
        if not curve or not math.isfinite(curve[-1]):
            continue
        exits = _compared(
            cheap_exits(curve, costs, phase, falls=False), _answers(findings, model, rows), len(curve) - 1
        )
        shots, lens = _shots(rows), f"{rows['lens'][0]} lens"
        tasks = ", ".join(rows["task"].unique(maintain_order=True))
        what = f"{rows['metric'][0]} {curve[-1]:.3f} at the last state ({tasks}; {shots}; {lens})"
        by = (
            "; told apart by McNemar's test, answer by answer"
            if any(each.told_apart is not None for each in exits)
            else ""
        )
        said = f"{_told(exits, len(curve) - 1, '.3f')}; {what}{_near_chance(rows)}{by}"
        source = f"mcq/scores.{findings.header.key}"
        answers[lens, shots] = Answer(ACCURACY, said, source, value=curve[-1], exits=exits)
    return list(answers.values())


def exits_by_perplexity(run: Run, model: ModelFacts, costs: Sequence[float], phase: PhaseOf) -> list[Answer]:
    """Answer by a lens on text: one answer for each kind of lens and data set, the latest of it."""
    answers = dict[tuple[str, str], Answer]()
    for findings in run.experiments("lens"):
        curves = findings.table("curves").filter(_of(model), metric="perplexity").sort("state").collect()
        for data in curves["data"].unique(maintain_order=True):
            values = curves.filter(data=data)["value"].to_list()
            if not math.isfinite(values[-1]):
                continue
            exits = cheap_exits(values, costs, phase, falls=True)
            exits, lens = _with_intervals(exits, findings, model, data, len(values) - 1), _lens(findings)
            said = f"{_told(exits, len(values) - 1, '.4g')}; {values[-1]:.4g} at the last state ({data}; {lens})"
            source = f"lens/{findings.header.key}/curves"
            answers[lens, data] = Answer(PERPLEXITY, said, source, value=values[-1], exits=exits)
    return list(answers.values())


def _answers(findings: Findings, model: ModelFacts, rows: pl.DataFrame) -> np.ndarray:
    """The scores of each question of all tasks at every state."""
    which = {"model": model.name, "revision": model.revision, "metric": rows["metric"][0]}
    every = [answers_of(findings, task=task, **which) for task in rows["task"].unique(maintain_order=True)]
    return np.vstack(known) if (known := [right for right in every if right.size]) else np.empty((0, 0))


def _compared(exits: Sequence[Exit], right: np.ndarray, last: int) -> tuple[Exit, ...]:
    """Whether the questions tell each from the last state."""
    if not right.size:
        return tuple(exits)
    alike = not_told_apart(right, last, list(dict.fromkeys(each.state for each in exits if each.state < last)))
    return tuple(each if each.state == last else replace(each, told_apart=each.state not in alike) for each in exits)


def _with_intervals(
    exits: Sequence[Exit], findings: Findings, model: ModelFacts, data: str, last: int
) -> tuple[Exit, ...]:
    """What each costs in perplexity, prompt by prompt: exp of the mean difference in loss, in per cent above 1."""
    rows = findings.table("lens").filter(_of(model), pl.col("scored") > 0, data=data)
    rows = rows.select("prompt", "state", "scored", "loss_sum").collect()
    found = list[Exit]()
    for each in exits:
        both = rows.filter(state=each.state).join(rows.filter(state=last), on="prompt", suffix="_last")
        if each.state == last or both.height < 2:
            found.append(each)
            continue
        more = (both["loss_sum"] - both["loss_sum_last"]).to_numpy()
        cost = ratio_of_sums(more, both["scored"].to_numpy().astype(np.float64))
        low, high = (100 * math.expm1(cost[end]) for end in ("low", "high"))
        found.append(replace(each, low=low, high=high))
    return tuple(found)


def _tasks(scores: pl.DataFrame) -> pl.DataFrame:
    """One metric of single tasks, not of groups of them."""
    single = scores.filter(~pl.col("group"))
    return next((rows for name in METRICS if (rows := single.filter(metric=name)).height), single.head(0))


def _told(exits: Sequence[Exit], last: int, form: str) -> str:
    said = list[str]()
    for cheap in exits:
        where = f"{cheap.state / max(last, 1):.0%} of depth" + ("" if cheap.phase is None else f", {cheap.phase}")
        paired = {None: "", True: ", told from the last state", False: ", not told from the last state"}[
            cheap.told_apart
        ]
        if cheap.low is not None and cheap.high is not None:
            paired = f", {cheap.low:+.1f}% to {cheap.high:+.1f}%"
        on = f"from state {cheap.state} on ({where}: {cheap.value:{form}}{paired})"
        said.append(f"less than {cheap.cost:g}% {'at the last state alone' if cheap.state == last else on}")
    return "; ".join(said)


def _near_chance(rows: pl.DataFrame) -> str:
    """What makes a share of the accuracy mean little: tasks on which the last state is hardly better than guessing."""
    last = rows.filter(pl.col("state") == pl.col("state").max()).to_dicts()
    near = [row["task"] for row in last if row["value"] - NORMAL * row["stderr"] <= row["chance"]]
    return f"; on {', '.join(near)} the last state is no better than chance" if near else ""


def _shots(rows: pl.DataFrame) -> str:
    shots = rows["shots"].drop_nulls().unique().sort()
    return f"{', '.join(map(str, shots))} shots" if shots.len() else "default shots"


def _lens(findings: Findings) -> str:
    asked = findings.header.settings
    return f"{asked['lens']} lens" + ("" if asked.get("final_norm", True) else " without final norm")


def _of(model: ModelFacts) -> pl.Expr:
    return (pl.col("model") == model.name) & (pl.col("revision") == model.revision)

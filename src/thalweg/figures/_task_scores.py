"""Preparation: how good an embedding every state is on MTEB's tasks, as curves, as a table and in words."""

import math
from collections.abc import Sequence
from typing import Any

import polars as pl

from thalweg.figures._pairs import surveyed_span
from thalweg.store import Findings, Run

ALL = "all"
FEW_TASKS = 8
"""Below this many the interval over tasks is wider than any curve: it is told and not drawn."""


def mtebs_of(run: Run) -> list[Findings]:
    """Give the run's scores on MTEB, the latest last."""
    return [one for one in run.experiments("mteb") if one.table("means").head(1).collect().height]


def mteb_model(experiment: Findings) -> tuple[str, str]:
    """Give the model's name and revision."""
    row = experiment.table("means").select("model", "revision").head(1).collect().row(0)
    return str(row[0]), str(row[1])


def mteb_curves(experiment: Findings) -> pl.DataFrame:
    """Give mean main scores by state.

    Args:
        experiment: scores on MTEB.

    Returns:
        One row per series and state: the columns ``series index mean lower upper n``; the series are "all" tasks and
        each type of several, the spread is the 95% interval over tasks.
    """
    rows = experiment.table("means").collect()
    several = rows["type"].n_unique() > 2
    rows = rows if several else rows.filter(type=ALL)
    low, high = pl.col("low").fill_nan(pl.col("mean")), pl.col("high").fill_nan(pl.col("mean"))
    return rows.select(
        pl.col("type").alias("series"),
        pl.col("state").alias("index"),
        "mean",
        low.alias("lower"),
        high.alias("upper"),
        "n",
    )


def mteb_task_curves(experiment: Findings) -> pl.DataFrame:
    """Give the main score of each task by state: the columns ``series type index mean lower upper``."""
    score = pl.col("score")
    return (
        experiment.table("tasks")
        .select(
            pl.col("task").alias("series"),
            "type",
            pl.col("state").alias("index"),
            score.alias("mean"),
            score.alias("lower"),
            score.alias("upper"),
        )
        .collect()
    )


def mteb_table(experiment: Findings) -> tuple[tuple[str, ...], list[list[Any]]]:
    """Give the scores as a table for a person.

    Args:
        experiment: scores on MTEB.

    Returns:
        Names of columns, and a row a state: means over all tasks and, where there are several, over each type, how far
        the state is behind the best one, and whether the tasks tell them apart.
    """
    rows = experiment.table("means").collect()
    kinds = list(dict.fromkeys(rows["type"]))
    kinds = kinds if len(kinds) > 2 else [ALL]
    found = {(row["type"], row["state"]): row for row in rows.to_dicts()}
    states = sorted(set(rows["state"]))
    blocks = max(states[-1], 1)
    columns = ("state", "depth", *("mean" if kind == ALL else kind for kind in kinds), "behind the best", "95%", "tied")
    return columns, [_row(state, blocks, kinds, found) for state in states]


def mteb_facts(experiment: Findings) -> str:
    """Say what was scored, and how, in one line."""
    asked = experiment.header.settings
    scores = experiment.table("tasks").select("task", "metric").unique(maintain_order=True).collect()
    tasks = scores["task"].to_list()
    metrics = ", ".join(sorted(set(scores["metric"])))
    pooled = "mean over tokens" if asked["pooling"] == "mean" else f"{asked['pooling']} token"
    return f"{len(tasks)} {'task' if len(tasks) == 1 else 'tasks'} ({', '.join(tasks)}); {metrics}; {pooled}"


def mteb_answer(run: Run, experiment: Findings) -> str:
    """Say in a sentence which state is the best embedding, what is as good, and in which phase it lies.

    Args:
        run: that may hold a survey of the same model.
        experiment: scores on MTEB.
    """
    rows = experiment.table("means").filter(type=ALL).sort("state").collect().to_dicts()
    best = next((row for row in rows if row["best"]), None)
    if best is None:
        return "No state has a defined score"
    state, last, tasks = best["state"], rows[-1], best["n"]
    said = (
        f"Best at state {state} of {last['state']} ({state / max(last['state'], 1):.0%} of depth): mean main score "
        f"{best['mean']:.3f}{_interval(best['low'], best['high'])} over {tasks} {'task' if tasks == 1 else 'tasks'}"
    )
    if last is not best:
        behind = f"{last['behind']:.3f}{_interval(last['behind_low'], last['behind_high'])} behind"
        said += f"; last state {last['mean']:.3f}, {behind}"
    return said + _ties(rows, state) + _phase(run, experiment, state)


def state_ranges(states: Sequence[int]) -> str:
    """Write states as ranges: ``2-4, 7``."""
    found = list[list[int]]()
    for state in sorted(states):
        if found and state == found[-1][-1] + 1:
            found[-1][1:] = [state]
        else:
            found.append([state])
    return ", ".join("-".join(map(str, ends)) for ends in found)


def _row(state: int, blocks: int, kinds: list[str], found: dict[tuple[str, int], dict[str, Any]]) -> list[Any]:
    own = found[ALL, state]
    means = [found[kind, state]["mean"] if (kind, state) in found else None for kind in kinds]
    tied = "best" if own["best"] else {True: "yes", False: "no", None: "-"}[own["tied"]]
    interval = "-" if own["best"] else _interval(own["behind_low"], own["behind_high"]).strip() or "-"
    return [state, f"{state / blocks:.0%}", *means, own["behind"], interval, tied]


def _ties(rows: list[dict[str, Any]], best: int) -> str:
    tied = [row["state"] for row in rows if row["tied"] and row["state"] != best]
    if any(row["tied"] is None for row in rows):
        return "; one task alone does not tell which states are as good"
    if not tied:
        return "; the tasks tell it from every other state"
    return f"; the tasks do not tell it from {'state' if len(tied) == 1 else 'states'} {state_ranges(tied)}"


def _phase(run: Run, experiment: Findings, state: int) -> str:
    span = surveyed_span(run, *mteb_model(experiment))
    if span is None:
        return ""
    where = "before" if state < span[0] else "after" if state > span[1] else "inside"
    return f"; state {state} lies {where} the compress phase (states {span[0]} to {span[1]})"


def _interval(low: float | None, high: float | None) -> str:
    known = low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
    return f" [{low:.3f}, {high:.3f}]" if known else ""

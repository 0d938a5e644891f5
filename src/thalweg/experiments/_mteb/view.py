"""How good an embedding every state is on MTEB's tasks: the paper's Figure 32."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from thalweg.experiments._views import (
    depth,
    held,
    labels,
    measured,
    model_file_name,
    model_of,
    phase_of,
    shaded,
    stems,
    surveyed_span,
)
from thalweg.shown import INK, Chapter, Line, Panel, Section, Table, counted, interval, line_of, ranges
from thalweg.store import Findings, Run

ALL = "all"

FEW_TASKS = 8
"""Below this many the interval over tasks is wider than any curve: it is told and not drawn."""

NAMED = 8
"""Tasks that a legend can name; more are told apart by their type alone."""

NOTE = (
    "MTEB's own tasks and scoring, every state an embedding. The band, where tasks are not few, is the 95% interval "
    "over them. Tied: the 95% interval of the difference to the best state, task by task, reaches down to 0."
)


def chapters(run: Run) -> Iterator[Chapter]:
    """All scores on MTEB that the run holds, the latest first."""
    every = held(run.experiments("mteb"), "means")
    names = stems({mteb.header.key: f"mteb_{model_file_name(run, *model_of(mteb))}" for mteb in every})
    yield Chapter("Embeddings", "mteb", [_section(run, mteb, names) for mteb in reversed(every)], NOTE)


def _section(run: Run, mteb: Findings, names: dict[str, str]) -> Section:
    means, tasks = (mteb.table(name).collect() for name in ("means", "tasks"))
    title, span = labels(run.header)[model_of(mteb)], surveyed_span(run, *model_of(mteb))
    said = _sentence(means.filter(type=ALL).sort("state").to_dicts(), span)
    return Section(
        title,
        names[mteb.header.key],
        sentences=[said],
        panels=[_means_panel(means, tasks, span), _tasks_panel(tasks, span)],
        tables=[_table(f"{model_of(mteb)[0]}: mean main score by state", means)],
        facts=_facts(mteb, tasks),
        key=mteb.header.key,
        headline=f"{title}: {said}",
        legend="each",
        columns=2,
        size=(4.6, 3.6),
    )


def _kinds(means: pl.DataFrame) -> list[str]:
    """All tasks and each type of them, all alone where there is one type."""
    kinds = means["type"].unique(maintain_order=True).to_list()
    return kinds if len(kinds) > 2 else [ALL]


def _means_panel(means: pl.DataFrame, tasks: pl.DataFrame, span: tuple[int, int] | None) -> Panel:
    types = tasks["type"].unique(maintain_order=True).to_list()
    ends = {end: pl.col(column).fill_nan(pl.col("mean")) for end, column in (("lower", "low"), ("upper", "high"))}
    rows = means.select("type", "mean", "n", at="state", **ends)
    lines = [_mean_line(kind, rows.filter(type=kind), types) for kind in _kinds(means)]
    title, y = "Mean main score by state", "mean main score [no unit]"
    return Panel(title, "state", y, tuple(lines), spans=shaded(span))


def _mean_line(kind: str, rows: pl.DataFrame, types: list[str]) -> Line:
    if kind == ALL:
        return Line("all tasks", rows, INK, band=rows["n"][0] >= FEW_TASKS)
    return line_of(types.index(kind), kind, rows, band=False)


def _tasks_panel(tasks: pl.DataFrame, span: tuple[int, int] | None) -> Panel:
    types, lines = tasks["type"].unique(maintain_order=True).to_list(), list[Line]()
    named = tasks["task"].n_unique() <= NAMED
    for place, ((task,), rows) in enumerate(tasks.group_by("task", maintain_order=True)):
        curve = rows.select(at="state", mean="score", lower="score", upper="score")
        line = line_of(place if named else types.index(rows["type"][0]), str(task), curve, band=False)
        of_many = Line(line.name, curve, line.color, width=0.8, named=False, band=False)  # in the colour of its type
        lines.append(line if named else of_many)
    return Panel("Main score of each task", "state", "main score [no unit]", tuple(lines), spans=shaded(span))


def _table(title: str, means: pl.DataFrame) -> Table:
    """Means over all tasks and each type of several, how far behind the best one, and whether tasks tell them apart."""
    kinds = _kinds(means)
    by_place = {(row["type"], row["state"]): row for row in means.to_dicts()}
    states, none = means["state"].unique().sort().to_list(), {"mean": None}
    by_kind = {state: [by_place.get((kind, state), none)["mean"] for kind in kinds] for state in states}
    rows = [[state, depth(state, states[-1]), *by_kind[state], *_behind(by_place[ALL, state])] for state in states]
    columns = ("state", "depth", *("mean" if kind == ALL else kind for kind in kinds), "behind the best", "95%", "tied")
    folded = "Mean main score of every state, and how far it is behind the best one, task by task"
    return Table(title, columns, rows, folded=folded)


def _behind(row: dict[str, Any]) -> list[Any]:
    if row["best"]:
        return [row["behind"], "-", "best"]
    tied = {True: "yes", False: "no", None: "-"}[row["tied"]]
    return [row["behind"], interval(row["behind_low"], row["behind_high"]) or "-", tied]


def _facts(mteb: Findings, tasks: pl.DataFrame) -> str:
    """What was scored, and how, in one line."""
    pooling, names = mteb.header.settings["pooling"], tasks["task"].unique(maintain_order=True)
    metrics = ", ".join(tasks["metric"].unique().sort())
    pooled = "mean over tokens" if pooling == "mean" else f"{pooling} token"
    return f"{counted(names.len(), 'task')} ({', '.join(names)}); {metrics}; {pooled}"


def _sentence(rows: list[dict[str, Any]], span: tuple[int, int] | None) -> str:
    """Which state is the best embedding, what is as good, and in which phase it lies."""
    best = next((row for row in rows if row["best"]), None)
    if best is None:
        return "No state has a defined score"
    state, last = best["state"], rows[-1]
    said = (
        f"Best at state {state} of {last['state']} ({depth(state, last['state'])} of depth): mean main score "
        f"{measured(best['mean'], best['low'], best['high'])} over {counted(best['n'], 'task')}"
    )
    if last is not best:
        behind = measured(last["behind"], last["behind_low"], last["behind_high"])
        said += f"; last state {last['mean']:.3f}, {behind} behind"
    phase = "" if span is None else f"; state {state} lies {phase_of(state, span)}"
    return f"{said}; {_ties(rows, state)}{phase}"


def _ties(rows: list[dict[str, Any]], best: int) -> str:
    if any(row["tied"] is None for row in rows):
        return "one task alone does not tell which states are as good"
    tied = [row["state"] for row in rows if row["tied"] and row["state"] != best]
    if not tied:
        return "the tasks tell it from every other state"
    return f"the tasks do not tell it from {'state' if len(tied) == 1 else 'states'} {ranges(tied)}"

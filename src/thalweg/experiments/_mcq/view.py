"""How often every state chooses right: the paper's Figures 29 and 30."""

import math
from collections.abc import Iterator
from typing import Any

import polars as pl

from thalweg.experiments._views import (
    answers_of,
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
    told_from,
)
from thalweg.shown import Chapter, Panel, Rule, Section, Table, line_of
from thalweg.store import Findings, Run

QUANTILE = 1.959963984540054
"""Of the normal distribution, at 97.5%."""

MANY = 12
"""More tasks than this are shown by their groups alone, where lm-eval has averages of them."""

NOTE = (
    "Every state chooses by the log-likelihoods that the lens reads in it; tasks, prompts and scores are lm-eval's "
    "own. The band is 1.96 standard errors to each side. The best state is compared with the last one question by "
    "question: McNemar's exact test, adjusted after Holm for all states that could be best. Dashed: chance."
)


def chapters(run: Run) -> Iterator[Chapter]:
    """Everything that was scored, the latest first."""
    every = held(run.experiments("mcq"), "scores")
    names = stems({mcq.header.key: _stem(run, mcq) for mcq in every})
    yield Chapter("Multiple choice", "mcq", [_section(run, mcq, names) for mcq in reversed(every)], NOTE)


def _stem(run: Run, mcq: Findings) -> str:
    return f"mcq_{model_file_name(run, *model_of(mcq))}{'_tuned' if mcq.header.settings['lens'] == 'tuned' else ''}"


def _section(run: Run, mcq: Findings, names: dict[str, str]) -> Section:
    scores = mcq.table("scores").collect()
    curves, span = _curves(scores), surveyed_span(run, *model_of(mcq))
    by_task = [(str(task), rows) for (task,), rows in curves.group_by("task", maintain_order=True)]
    metrics = curves["metric"].unique(maintain_order=True).to_list()
    title, facts = labels(run.header)[model_of(mcq)], _facts(mcq, scores)
    return Section(
        title,
        names[mcq.header.key],
        sentences=[f"{task}: {_sentence(mcq, rows.filter(metric=rows['metric'][0]), span)}" for task, rows in by_task],
        panels=[_panel(task, rows, metrics, span) for task, rows in by_task],
        tables=[_table(model_of(mcq)[0], rows.row(0, named=True), scores.filter(task=task)) for task, rows in by_task],
        facts=facts,
        key=mcq.header.key,
        headline=f"{title}: {facts}",
        columns=4,
        size=(3.6 if len(by_task) > 1 else 6.4, 3.2),
    )


def _curves(scores: pl.DataFrame) -> pl.DataFrame:
    """Accuracies by task, metric and state in lm-eval's order, within 1.96 standard errors to each side and [0, 1]."""
    accuracies = scores.filter(pl.col("metric").str.starts_with("acc"))
    rows = accuracies if accuracies.height else scores  # a task with metrics of its own
    groups = rows.filter("group")
    rows = groups if rows["task"].n_unique() > MANY and groups.height else rows
    spread = QUANTILE * pl.col("stderr").fill_nan(0.0)
    return rows.select(
        "task",
        "metric",
        "chance",
        "n",
        at="state",
        mean="value",
        lower=(pl.col("value") - spread).clip(lower_bound=0.0),
        upper=(pl.col("value") + spread).clip(upper_bound=1.0),
    ).sort(_place(rows, "task"), _place(rows, "metric"), "at", maintain_order=True)


def _place(rows: pl.DataFrame, column: str) -> pl.Expr:
    """Sorts by the order of first appearance."""
    return pl.col(column).cast(pl.Enum(rows[column].unique(maintain_order=True)))


def _panel(task: str, rows: pl.DataFrame, metrics: list[str], span: tuple[int, int] | None) -> Panel:
    lines = [line_of(place, metric, rows.filter(metric=metric)) for place, metric in enumerate(metrics)]
    return Panel(
        task,
        "state",
        "accuracy [share of questions]",
        tuple(line for line in lines if line.rows.height),
        rules=tuple(Rule("chance", level) for level in rows["chance"].drop_nans().head(1)),
        spans=shaded(span),
    )


def _table(model: str, first: dict[str, Any], scores: pl.DataFrame) -> Table:
    """Each metric with its standard error, a row a state."""
    metrics = scores["metric"].unique(maintain_order=True).to_list()
    states = scores["state"].unique().sort().to_list()
    values = {(row["state"], row["metric"]): _with_error(row) for row in scores.to_dicts()}
    level = "" if math.isnan(first["chance"]) else f"; chance {first['chance']:.3f}"
    return Table(
        f"{model} on {first['task']}, {first['n']:,} questions{level}",
        ("state", "depth", *metrics),
        [[state, depth(state, states[-1]), *(values[state, metric] for metric in metrics)] for state in states],
        folded=f"{first['task']}: scores by state, with lm-eval's standard errors",
    )


def _with_error(row: dict[str, Any]) -> str:
    if math.isnan(row["value"]):
        return "-"
    return f"{row['value']:.3f}" + ("" if math.isnan(row["stderr"]) else f" ± {row['stderr']:.3f}")


def _facts(mcq: Findings, scores: pl.DataFrame) -> str:
    """What was asked of which lens, in one line."""
    settings, tasks = mcq.header.settings, scores.unique("task", maintain_order=True)
    shots = ["" if shots is None else f"{shots}-shot, " for shots in tasks["shots"]]
    asked = [f"{row['task']} {how}{row['n']:,} questions" for row, how in zip(tasks.to_dicts(), shots, strict=True)]
    count = int(tasks.filter(~pl.col("group"))["truncated"].sum())
    cut = f"; {count:,} requests cut at the left to {settings['max_length']} tokens" if count else ""
    norm = "" if settings["lens"] == "tuned" or settings["final_norm"] else " without final norm"
    version = mcq.header.versions.get("lm-eval", "of an unknown version")
    return f"{settings['lens']} lens{norm}; {'; '.join(asked)}{cut}; scored by lm-eval {version}"


def _sentence(mcq: Findings, rows: pl.DataFrame, span: tuple[int, int] | None) -> str:
    """Where a state chooses best, and from where on it does better than chance."""
    known, last = rows.filter(pl.col("mean").is_finite()), rows.row(-1, named=True)
    if not known.height:
        return "no state has a defined score"
    best = known.sort("mean", "at", descending=[True, False]).row(0, named=True)
    said = f"{rows['metric'][0]} {_score(last)} at the last state, {last['at']}"
    if best["at"] != last["at"]:
        right = answers_of(mcq, task=rows["task"][0], metric=rows["metric"][0])
        told = told_from(right, best["at"], last["at"], known["at"].to_list(), chosen=True)
        said += f"; best at state {best['at']} ({depth(best['at'], last['at'])} of depth) with {_score(best)}{told}"
    return said if math.isnan(last["chance"]) else f"{said}; {_against_chance(rows, last, span)}"


def _score(row: dict[str, Any]) -> str:
    return measured(row["mean"], row["lower"], row["upper"]) if math.isfinite(row["mean"]) else "undefined"


def _against_chance(rows: pl.DataFrame, last: dict[str, Any], span: tuple[int, int] | None) -> str:
    chance = last["chance"]
    first = max(rows.filter(~(pl.col("lower") > chance))["at"], default=-1) + 1
    if first > last["at"]:
        return f"the last state does not lie above chance ({chance:.3f}) with its whole interval"
    if first == 0:
        return f"above chance ({chance:.3f}) at every state"
    phase = "" if span is None else f", {phase_of(first, span)}"
    return f"above chance ({chance:.3f}) from state {first} on ({depth(first, last['at'])} of depth){phase}"

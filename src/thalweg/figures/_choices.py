"""Preparation: how often every state chooses right, as curves, as tables and in words."""

import math
from typing import Any

import polars as pl

from thalweg.figures._pairs import surveyed_span
from thalweg.store import Findings, Run

QUANTILE = 1.959963984540054
"""Of the normal distribution, at 97.5%."""

MANY = 12
"""More tasks than this are shown by their groups alone, where lm-eval has averages of them."""


def mcqs_of(run: Run) -> list[Findings]:
    """Give what the run holds of multiple choice, the latest last."""
    return [one for one in run.experiments("mcq") if one.table("scores").head(1).collect().height]


def mcq_model(experiment: Findings) -> tuple[str, str]:
    """Give the model's name and revision."""
    return str(experiment.header.settings["model"]), str(experiment.header.settings["revision"])


def mcq_curves(experiment: Findings) -> pl.DataFrame:
    """Give accuracies by state.

    Args:
        experiment: multiple choice that is scored.

    Returns:
        One row per task, metric and state, in lm-eval's order: the columns ``task metric index depth mean lower upper
        chance n shots``. The spread is 1.96 standard errors to each side, lm-eval's own, inside [0, 1]; ``depth`` is
        the state over the number of blocks. Of many tasks their groups alone.
    """
    rows = experiment.table("scores").filter(pl.col("metric").str.starts_with("acc")).collect()
    if not rows.height:  # a task with metrics of its own
        rows = experiment.table("scores").collect()
    groups = rows.filter("group")
    if rows["task"].n_unique() > MANY and groups.height:
        rows = groups
    blocks = max(int(rows["state"].max() or 0), 1)  # pyright: ignore[reportArgumentType] (a number, as its column is)
    spread = QUANTILE * pl.col("stderr").fill_nan(0.0)
    return rows.select(
        "task",
        "metric",
        pl.col("state").alias("index"),
        (pl.col("state") / blocks).alias("depth"),
        pl.col("value").alias("mean"),
        (pl.col("value") - spread).clip(lower_bound=0.0).alias("lower"),
        (pl.col("value") + spread).clip(upper_bound=1.0).alias("upper"),
        "chance",
        "n",
        "shots",
    ).sort(_place(rows, "task"), _place(rows, "metric"), "index", maintain_order=True)


def mcq_facts(experiment: Findings) -> str:
    """Say what was asked of which lens, in one line."""
    rows = experiment.table("scores").collect()
    asked = rows.unique("task", maintain_order=True)
    said = [
        f"{row['task']} {'' if row['shots'] is None else str(row['shots']) + '-shot, '}{row['n']:,} questions"
        for row in asked.to_dicts()
    ]
    cut = int(asked.filter(~pl.col("group"))["truncated"].sum())
    left = f"; {cut:,} requests cut at the left to {experiment.header.settings['max_length']} tokens" if cut else ""
    return f"{_lens_name(experiment)}; {'; '.join(said)}{left}; scored by lm-eval {_version(experiment)}"


def mcq_answers(run: Run, experiment: Findings) -> list[str]:
    """Say in a sentence for each task where a state chooses best, and from where on it does better than chance.

    Args:
        run: that may hold a survey of the same model.
        experiment: multiple choice that is scored.
    """
    curves, span = mcq_curves(experiment), surveyed_span(run, *mcq_model(experiment))
    return [
        f"{task}: {_answer(own.filter(metric=own['metric'][0]), span)}"
        for (task,), own in curves.group_by("task", maintain_order=True)
    ]


def mcq_tables(experiment: Findings) -> list[tuple[str, tuple[str, ...], list[list[Any]]]]:
    """Give the accuracies as tables for a person.

    Args:
        experiment: multiple choice that is scored.

    Returns:
        For each task a title, the columns and a row a state; each metric with its standard error.
    """
    scores = experiment.table("scores").collect()
    tables = list[tuple[str, tuple[str, ...], list[list[Any]]]]()
    for (task,), own in mcq_curves(experiment).group_by("task", maintain_order=True):
        every = scores.filter(task=task)
        metrics = every["metric"].unique(maintain_order=True).to_list()
        states = every["state"].unique().sort().to_list()
        values = {(row["state"], row["metric"]): row for row in every.to_dicts()}
        rows = [
            [state, f"{state / max(states[-1], 1):.0%}", *(_with_error(values[state, name]) for name in metrics)]
            for state in states
        ]
        chance = own["chance"][0]
        level = "" if math.isnan(chance) else f"; chance {chance:.3f}"
        title = f"{experiment.header.settings['model']} on {task}, {own['n'][0]:,} questions{level}"
        tables.append((title, ("state", "depth", *metrics), rows))
    return tables


def _lens_name(experiment: Findings) -> str:
    asked = experiment.header.settings
    if asked["lens"] == "tuned":
        return "tuned lens"
    return "logit lens" if asked["final_norm"] else "logit lens without final norm"


def _answer(rows: pl.DataFrame, span: tuple[int, int] | None) -> str:
    metric, known = rows["metric"][0], rows.filter(pl.col("mean").is_finite())
    if not known.height:
        return "no state has a defined score"
    last = rows.row(-1, named=True)
    best = known.sort("mean", "index", descending=[True, False]).row(0, named=True)
    own = _interval(last) if math.isfinite(last["mean"]) else "undefined"
    said = f"{metric} {own} at the last state, {last['index']}"
    if best["index"] != last["index"]:
        said += f"; best at state {best['index']} ({best['depth']:.0%} of depth) with {_interval(best)}"
    chance = rows["chance"][0]
    if math.isnan(chance):
        return said
    below = rows.filter(~(pl.col("lower") > chance))["index"]
    first = 0 if not below.len() else int(below.max()) + 1  # pyright: ignore[reportArgumentType] (a number)
    if first > last["index"]:
        return f"{said}; the last state does not lie above chance ({chance:.3f}) with its whole interval"
    where = "" if first == 0 else f" from state {first} on ({first / max(last['index'], 1):.0%} of depth)"
    return f"{said}; above chance ({chance:.3f}){where or ' at every state'}{_phase(span, first)}"


def _phase(span: tuple[int, int] | None, state: int) -> str:
    if span is None or state == 0:
        return ""
    where = "before" if state < span[0] else "after" if state > span[1] else "inside"
    return f", {where} the compress phase (states {span[0]} to {span[1]})"


def _interval(row: dict[str, Any]) -> str:
    return f"{row['mean']:.3f} [{row['lower']:.3f}, {row['upper']:.3f}]"


def _with_error(row: dict[str, Any]) -> str:
    if math.isnan(row["value"]):
        return "-"
    return f"{row['value']:.3f}" + ("" if math.isnan(row["stderr"]) else f" ± {row['stderr']:.3f}")


def _place(rows: pl.DataFrame, column: str) -> pl.Expr:
    """Sorts by the order of first appearance."""
    return pl.col(column).cast(pl.Enum(rows[column].unique(maintain_order=True)))


def _version(experiment: Findings) -> str:
    return experiment.header.versions.get("lm-eval", "of an unknown version")

"""From which state on an early exit through a lens costs little: of the accuracy, or of the perplexity."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from thalweg.advice._answer import Answer, Exit
from thalweg.advice._exits import cheap_exits
from thalweg.store import Findings, ModelFacts, Run

ACCURACY = "from which state on an early exit keeps the accuracy"
PERPLEXITY = "from which state on an early exit keeps the perplexity"
METRICS = ("acc", "acc_norm")
NORMAL = 1.96


def exits_by_accuracy(
    run: Run, model: ModelFacts, costs: Sequence[float], span: tuple[int, int] | None, *, surveyed: bool
) -> list[Answer]:
    """Answer by multiple choice, the mean over tasks: an answer for each lens and number of shots, the latest of it."""
    found = dict[tuple[str, str], Answer]()
    for one in run.experiments("mcq"):
        rows = _tasks(one.table("scores").filter(_own(model)).collect())
        if not rows.height:
            continue
        curve = rows.group_by("state").agg(pl.col("value").mean()).sort("state")["value"].to_list()
        if not math.isfinite(curve[-1]):
            continue
        exits = cheap_exits(curve, costs, span, surveyed=surveyed, falls=False)
        shots, lens = _shots(rows), f"{rows['lens'][0]} lens"
        tasks = list(dict.fromkeys(rows["task"]))
        what = f"{rows['metric'][0]} {curve[-1]:.3f} at the last state ({', '.join(tasks)}; {shots}; {lens})"
        said = f"{_told(exits, len(curve) - 1, '.3f')}; {what}{_near_chance(rows)}"
        key = one.header.key
        found[lens, shots] = Answer(ACCURACY, said, f"mcq/scores.{key}", value=curve[-1], exits=exits)
    return list(found.values())


def exits_by_perplexity(
    run: Run, model: ModelFacts, costs: Sequence[float], span: tuple[int, int] | None, *, surveyed: bool
) -> list[Answer]:
    """Answer by a lens on text: one answer for each kind of lens and data set, the latest of it."""
    found = dict[tuple[str, str], Answer]()
    for one in run.experiments("lens"):
        curves = one.table("curves").filter(_own(model), pl.col("metric") == "perplexity").sort("state").collect()
        for data in dict.fromkeys(curves["data"]):
            values = curves.filter(data=data)["value"].to_list()
            if not math.isfinite(values[-1]):
                continue
            exits = cheap_exits(values, costs, span, surveyed=surveyed, falls=True)
            lens = _lens(one)
            said = f"{_told(exits, len(values) - 1, '.4g')}; {values[-1]:.4g} at the last state ({data}; {lens})"
            source = f"lens/{one.header.key}/curves"
            found[lens, data] = Answer(PERPLEXITY, said, source, value=values[-1], exits=exits)
    return list(found.values())


def _tasks(scores: pl.DataFrame) -> pl.DataFrame:
    """One metric of single tasks, not of groups of them."""
    single = scores.filter(~pl.col("group"))
    return next((own for name in METRICS if (own := single.filter(metric=name)).height), single.head(0))


def _told(exits: Sequence[Exit], last: int, form: str) -> str:
    return "; ".join(_exit(one, last, form) for one in exits)


def _exit(one: Exit, last: int, form: str) -> str:
    if one.state == last:
        return f"less than {one.cost:g}% at the last state alone"
    where = f"{one.state / last:.0%} of depth" + ("" if one.phase is None else f", {one.phase}")
    return f"less than {one.cost:g}% from state {one.state} on ({where}: {one.value:{form}})"


def _near_chance(rows: pl.DataFrame) -> str:
    """What makes a share of the accuracy mean little: tasks on which the last state is hardly better than guessing."""
    last: Iterator[dict[str, Any]] = rows.filter(pl.col("state") == pl.col("state").max()).iter_rows(named=True)
    near = [row["task"] for row in last if row["value"] - NORMAL * row["stderr"] <= row["chance"]]
    return f"; on {', '.join(near)} the last state is no better than chance" if near else ""


def _shots(rows: pl.DataFrame) -> str:
    shots = sorted({value for value in rows["shots"] if value is not None})
    return "default shots" if not shots else f"{', '.join(map(str, shots))} shots"


def _lens(experiment: Findings) -> str:
    asked = experiment.header.settings
    return f"{asked['lens']} lens" + ("" if asked.get("final_norm", True) else " without final norm")


def _own(model: ModelFacts) -> pl.Expr:
    return (pl.col("model") == model.name) & (pl.col("revision") == model.revision)

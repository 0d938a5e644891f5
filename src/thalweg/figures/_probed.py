"""Preparation: what linear classifiers read out of every state, as curves, as a table and in words."""

import math
from typing import Any

import polars as pl

from thalweg.figures._pairs import surveyed_span
from thalweg.store import Findings, Run

PROBE_COLUMNS = ("state", "depth", "train", "validation", "test", "test, 95%", "test loss", "converged")
SPLITS = ("train", "validation", "test")
OF_ONE_MODEL = ("model", "revision")


def probes_of(run: Run) -> list[Findings]:
    """Give the run's probes that are trained, the latest last."""
    return [one for one in run.experiments("probe") if one.table("accuracy").head(1).collect().height]


def compared_probes(run: Run) -> list[list[Findings]]:
    """Give groups of two probes or more that differ in nothing but the model."""
    groups = dict[str, list[Findings]]()
    for one in probes_of(run):
        asked = {name: value for name, value in one.header.settings.items() if name not in OF_ONE_MODEL}
        groups.setdefault(repr(sorted(asked.items(), key=lambda item: item[0])), []).append(one)
    return [group for group in groups.values() if len(group) > 1]


def probe_curves(experiment: Findings) -> pl.DataFrame:
    """Give accuracies by state.

    Args:
        experiment: probes that are trained.

    Returns:
        One row per split and state: the columns ``split index depth mean lower upper``; the spread is Wilson's 95%
        interval, ``depth`` the state over the number of blocks.
    """
    rows = experiment.table("accuracy").collect()
    blocks = max(int(rows["state"].max() or 0), 1)  # pyright: ignore[reportArgumentType] (a number, as its column is)
    return rows.select(
        "split",
        pl.col("state").alias("index"),
        (pl.col("state") / blocks).alias("depth"),
        pl.col("accuracy").alias("mean"),
        pl.col("low").alias("lower"),
        pl.col("high").alias("upper"),
    ).sort(pl.col("split").cast(pl.Enum(SPLITS)), "index")


def probe_levels(experiment: Findings) -> dict[str, float]:
    """Give what needs no model: chance on the test split, and the answer that training gives most often."""
    row = experiment.table("splits").filter(split="test").collect().row(0, named=True)
    found = {"chance": row["chance"], "most frequent class": row["majority"]}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def probe_facts(experiment: Findings) -> str:
    """Say what was trained on what, in one line."""
    asked, splits = experiment.header.settings, experiment.table("splits").collect()
    how = "logistic regression" if asked["classifier"] == "logistic" else _recipe(asked)
    sizes = ", ".join(f"{row['split']} {row['examples']:,} from {row['source']}" for row in splits.to_dicts())
    pooled = "mean over tokens" if asked["pooling"] == "mean" else f"{asked['pooling']} token"
    pair = "; one option at a time, the best-scored one is the answer" if asked["pair"] else ""
    return f"{how}; {pooled}; {sizes}{pair}"


def probe_answer(run: Run, experiment: Findings) -> str:
    """Say in a sentence where a linear classifier reads most, and in which phase that is.

    Args:
        run: that may hold a survey of the same model.
        experiment: probes that are trained.
    """
    rows = experiment.table("accuracy").filter(pl.col("accuracy").is_not_nan()).collect()
    test = rows.filter(split="test").sort("state")
    if not test.height:
        return "No state has a defined test accuracy"
    chosen = "validation" if rows.filter(split="validation").height else "test"
    best = rows.filter(split=chosen).sort("accuracy", "state", descending=[True, False])["state"][0]
    row, last = test.filter(state=best), test.row(-1, named=True)
    if not row.height:
        return f"State {best} is best on the validation split and undefined on the test split"
    own, blocks = row.row(0, named=True), max(last["state"], 1)
    said = (
        f"Best at state {best} of {last['state']} ({best / blocks:.0%} of depth) by {chosen} accuracy: "
        f"test {own['accuracy']:.3f} [{own['low']:.3f}, {own['high']:.3f}], "
        f"last state {last['accuracy']:.3f} [{last['low']:.3f}, {last['high']:.3f}]"
    )
    if best != last["state"] and own["low"] <= last["high"] and last["low"] <= own["high"]:
        said += " (the intervals overlap)"
    level = max(probe_levels(experiment).items(), key=lambda item: item[1])
    above = (test["low"] > level[1]).sum()
    said += f"; {above} of {test.height} states lie above {level[0]} ({level[1]:.3f}) with their whole interval"
    return said + _phase(run, experiment, best)


def probe_table(experiment: Findings) -> list[list[Any]]:
    """Give the accuracies as a table for a person.

    Args:
        experiment: probes that are trained.

    Returns:
        A row a state; columns as in ``PROBE_COLUMNS``.
    """
    rows = {(row["split"], row["state"]): row for row in experiment.table("accuracy").collect().to_dicts()}
    states = sorted({state for _, state in rows})
    return [_row(state, {split: rows.get((split, state)) for split in SPLITS}, max(states[-1], 1)) for state in states]


def _row(state: int, own: dict[str, dict[str, Any] | None], blocks: int) -> list[Any]:
    test = own["test"] or {"low": math.nan, "high": math.nan, "loss": math.nan}
    converged = {True: "yes", False: "no", None: "-"}[(own["train"] or {}).get("converged")]
    shown = [row["accuracy"] if row else None for row in own.values()]
    interval = "-" if math.isnan(test["low"]) else f"{test['low']:.3f}-{test['high']:.3f}"
    return [state, f"{state / blocks:.0%}", *shown, interval, test["loss"], converged]


def _phase(run: Run, experiment: Findings, state: int) -> str:
    span = surveyed_span(run, str(experiment.header.settings["model"]), str(experiment.header.settings["revision"]))
    if span is None:
        return ""
    where = "before" if state < span[0] else "after" if state > span[1] else "inside"
    return f"; state {state} lies {where} the compress phase (states {span[0]} to {span[1]})"


def _recipe(asked: dict[str, Any]) -> str:
    epochs = "one epoch" if asked["epochs"] == 1 else f"{asked['epochs']} epochs"
    return f"linear layer, Adam {asked['learning_rate']:g}, {epochs}, batch {asked['batch']}, seed {asked['seed']}"

"""What linear classifiers read out of every state: the paper's Figures 8 (right) and 31."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg.experiments._views import (
    answers_of,
    depth,
    file_names,
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
from thalweg.shown import INK, Chapter, Dash, Panel, Points, Rule, Section, Table, line_of, listing, ranges
from thalweg.store import Findings, Run

COLUMNS = ("state", "depth", "train", "validation", "test", "test, 95%", "test loss", "converged")
SPLITS = ("train", "validation", "test")
DASHES: dict[str, Dash] = {"chance": "--", "most frequent class": ":"}
ACCURACY = "accuracy [share of answers]"
SIZE = (6.4, 3.6)
_NO_SPLIT = {"accuracy": None, "low": math.nan, "high": math.nan, "loss": math.nan, "converged": None}
NOTE = (
    "One linear classifier a state, on frozen features. The band is Wilson's 95% interval. States are compared answer "
    "by answer: McNemar's exact test, adjusted after Holm where one state is compared with many."
)


@dataclass(frozen=True)
class _Probes:
    """The probes of one model on one data set, one a state, with what is needed to speak of them."""

    findings: Findings
    label: str
    span: tuple[int, int] | None
    splits: pl.DataFrame
    accuracy: pl.DataFrame
    right: np.ndarray
    """Whether each answer of the test split is right, answers x states; empty where answers were not kept."""

    @property
    def key(self) -> str:
        return self.findings.header.key

    @property
    def data(self) -> str:
        return str(self.accuracy["data"][0])

    @property
    def levels(self) -> dict[str, float]:
        """What needs no model: chance on the test split, and the answer that training gives most often."""
        test = self.splits.filter(split="test").row(0, named=True)
        levels = {"chance": test["chance"], "most frequent class": test["majority"]}
        return {name: level for name, level in levels.items() if math.isfinite(level)}

    @property
    def unconverged(self) -> list[int]:
        """States whose classifier is none."""
        return sorted(self.accuracy.filter(~pl.col("converged"))["state"].unique())

    @property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(Rule(name, level, dash=DASHES[name]) for name, level in self.levels.items())


def chapters(run: Run) -> Iterator[Chapter]:
    """Every probe that is trained, the latest first, and models against each other."""
    every = [_probes(run, findings) for findings in held(run.experiments("probe"), "accuracy")]
    data = file_names(each.data for each in every)
    model = {each.key: model_file_name(run, *model_of(each.findings)) for each in every}
    names = stems({each.key: f"probe_{model[each.key]}_{data[each.data]}" for each in every})
    sections = [_section(probes, names[probes.key]) for probes in reversed(every)]
    yield Chapter("Probes", "probe", [*sections, *map(_several, _comparable(every))], NOTE)


def _probes(run: Run, findings: Findings) -> _Probes:
    model = model_of(findings)
    splits, accuracy = (findings.table(name).collect() for name in ("splits", "accuracy"))
    right = answers_of(findings, split="test")
    return _Probes(findings, labels(run.header)[model], surveyed_span(run, *model), splits, accuracy, right)


def _comparable(every: Sequence[_Probes]) -> list[list[_Probes]]:
    """Groups of two or more that differ in nothing but the model."""
    groups = dict[str, list[_Probes]]()
    for probes in every:
        settings = probes.findings.header.settings.items()
        asked = sorted((name, repr(value)) for name, value in settings if name not in ("model", "revision"))
        groups.setdefault(repr(asked), []).append(probes)
    return [group for group in groups.values() if len(group) > 1]


def _section(probes: _Probes, name: str) -> Section:
    title, said = f"{probes.label} on {probes.data}", _sentence(probes)
    warning = not_converged(probes.findings, probes.unconverged)
    return Section(
        title,
        name,
        sentences=[*warning, said],
        panels=[_panel(probes)],
        tables=[_table(probes)],
        facts=_facts(probes),
        key=probes.key,
        headline=f"{title}: {said}",
        size=SIZE,
    )


def _several(group: Sequence[_Probes]) -> Section:
    """The test accuracy of several models against the share of depth."""
    first = group[0]
    lines = [line_of(place, probes.label, _test_by_depth(probes)) for place, probes in enumerate(group)]
    title, x = f"Test accuracy on {first.data}", "share of depth [state / blocks]"
    return Section(
        f"{listing([probes.label for probes in group])} on {first.data}",
        f"probe_models_{first.key}",
        panels=[Panel(title, x, ACCURACY, tuple(lines), rules=first.rules)],
        size=SIZE,
    )


def _panel(probes: _Probes) -> Panel:
    lines = [line_of(place, split, _by_state(probes, split)) for place, split in enumerate(SPLITS)]
    none = _by_state(probes, "test").filter(pl.col("at").is_in(probes.unconverged)).select("at", "mean")
    return Panel(
        "Accuracy by state",
        "state",
        ACCURACY,
        tuple(line for line in lines if line.rows.height),
        points=(Points("test, not converged", none, INK),) if none.height else (),
        rules=probes.rules,
        spans=shaded(probes.span),
    )


def _by_state(probes: _Probes, split: str) -> pl.DataFrame:
    rows = probes.accuracy.filter(split=split).sort("state")
    return rows.select(at="state", mean="accuracy", lower="low", upper="high")


def _test_by_depth(probes: _Probes) -> pl.DataFrame:
    return _by_state(probes, "test").with_columns(pl.col("at") / max(*probes.accuracy["state"], 1))


def _table(probes: _Probes) -> Table:
    by_place = {(row["split"], row["state"]): row for row in probes.accuracy.to_dicts()}
    states = probes.accuracy["state"].unique().sort().to_list()
    cells = {state: _cells([by_place.get((split, state), _NO_SPLIT) for split in SPLITS]) for state in states}
    levels = ", ".join(f"{name} {level:.3f}" for name, level in probes.levels.items())
    title = f"{model_of(probes.findings)[0]} on {probes.data}: accuracy by state; {levels}"
    rows = [[state, depth(state, states[-1]), *cells[state]] for state in states]
    return Table(title, COLUMNS, rows, folded="Share of right answers of the classifier trained on each state")


def _cells(by_split: Sequence[dict[str, Any]]) -> list[Any]:
    train, _, test = by_split
    spread = "-" if math.isnan(test["low"]) else f"{test['low']:.3f}-{test['high']:.3f}"
    converged = {True: "yes", False: "NO", None: "-"}[train["converged"]]
    return [*(row["accuracy"] for row in by_split), spread, test["loss"], converged]


def _facts(probes: _Probes) -> str:
    """What was trained on what, in one line."""
    asked = probes.findings.header.settings
    sizes = ", ".join(f"{row['split']} {row['examples']:,} from {row['source']}" for row in probes.splits.to_dicts())
    pooled = "mean over tokens" if asked["pooling"] == "mean" else f"{asked['pooling']} token"
    pair = "; one option at a time, the best-scored one is the answer" if asked["pair"] else ""
    return f"{_recipe(asked)}; {pooled}; {sizes}{pair}"


def _recipe(asked: dict[str, Any]) -> str:
    standardized = ", standardized features" if asked["standardize"] else ""
    if asked["classifier"] == "logistic":
        return f"logistic regression{standardized}"
    epochs = "one epoch" if asked["epochs"] == 1 else f"{asked['epochs']} epochs"
    seen = f"{epochs}, batch {asked['batch']}, seed {asked['seed']}"
    return f"linear layer, Adam {asked['learning_rate']:g}, {seen}{standardized}"


def _sentence(probes: _Probes) -> str:
    """Where a linear classifier reads most, and in which phase that is."""
    known = probes.accuracy.filter(pl.col("accuracy").is_not_nan(), ~pl.col("state").is_in(probes.unconverged))
    test = known.filter(split="test").sort("state")
    if not test.height:
        return f"No state has a {'test accuracy to go by' if probes.unconverged else 'defined test accuracy'}"
    chosen = "validation" if known.filter(split="validation").height else "test"
    best = known.filter(split=chosen).sort("accuracy", "state", descending=[True, False])["state"][0]
    if best not in test["state"]:
        return f"State {best} is best on the validation split and undefined on the test split"
    phase = "" if probes.span is None else f"; state {best} lies {phase_of(best, probes.span)}"
    among = " of those that converged" if probes.unconverged else ""
    return f"{_best(probes, test, best, chosen, among)}; {_above(test, probes.levels)}{phase}"


def _best(probes: _Probes, test: pl.DataFrame, state: int, chosen: str, among: str) -> str:
    best, last = test.row(by_predicate=pl.col("state") == state, named=True), test.row(-1, named=True)
    end = max(probes.accuracy["state"])
    final = f", {'last state' if last['state'] == end else 'state ' + str(last['state'])} {_score(last)}"
    final = "" if state == last["state"] != end else final
    told = told_from(probes.right, state, last["state"], test["state"].to_list(), chosen=chosen == "test")
    return (
        f"Best{among} at state {state} of {end} ({depth(state, end)} of depth) by {chosen} accuracy: "
        f"test {_score(best)}{final}{told}"
    )


def not_converged(probe: Findings, states: Sequence[int]) -> list[str]:
    """Say that a probe has not converged, and what to do."""
    if not states:
        return []
    where, asked = f"{'state' if len(states) == 1 else 'states'} {ranges(states)}", probe.header.settings
    ways = {"--standardize": not asked["standardize"], "--classifier logistic": asked["classifier"] == "linear"}
    todo = " or ".join(way for way, open_yet in ways.items() if open_yet) or "fewer classes or more examples"
    if asked["classifier"] == "linear":
        classes = int(probe.table("splits").select(pl.col("classes").max()).collect().item() or 2)
        tell = f"its test loss lies above ln {classes} = {math.log(classes):.3f} nats, what a uniform guess costs"
    else:
        tell = "scikit-learn's fit ended early"
    return [f"NOT CONVERGED at {where}: {tell}, and its accuracy says nothing of what the state holds. Try {todo}"]


def _score(row: dict[str, Any]) -> str:
    return measured(row["accuracy"], row["low"], row["high"])


def _above(test: pl.DataFrame, levels: dict[str, float]) -> str:
    name, level = max(levels.items(), key=lambda item: item[1])
    above = (test["low"] > level).sum()
    return f"{above} of {test.height} states lie above {name} ({level:.3f}) with their whole interval"

"""Probes: what a linear classifier reads out of every state (the paper, Figs. 8 and 31)."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy.stats import binomtest  # pyright: ignore[reportMissingTypeStubs]
from torch import Tensor
from torch.nn import functional

from thalweg.engines import progress_bar
from thalweg.errors import DataError
from thalweg.experiments._features import TextFeatures
from thalweg.experiments._prepare import Prepared
from thalweg.experiments._probe import TABLES, Recipe
from thalweg.experiments._probe.classifiers import Probes, fit_logistic, train_linear
from thalweg.experiments._probe.data import ProbeData, Split
from thalweg.prompts import Example
from thalweg.store import Features, Findings, FindingsWriter

NAME = "probe"
RIGHT = 1


def probed(prepared: Prepared, data: ProbeData, recipe: Recipe, *, pooling: str) -> Findings:
    """Measure and train what is missing."""
    measured = TextFeatures(prepared.model, prepared.path, pooling=pooling, options=prepared.options)
    logistic = {"classifier": recipe.classifier, "seed": recipe.seed}  # what of a recipe changes a number
    how = logistic if recipe.classifier == "logistic" else vars(recipe)
    text = {"pooling": pooling, "max_length": prepared.options.max_length}
    with prepared.opened(NAME, {**prepared.key, **how, **text, **data.identity}, TABLES) as writer:
        if not writer.reading().table("accuracy").head(1).collect().height:
            _fill(writer, prepared, data, measured, recipe)
        writer.update(status="finished")
    return writer.reading()


def _fill(writer: FindingsWriter, prepared: Prepared, data: ProbeData, measured: TextFeatures, recipe: Recipe) -> None:
    """Measure what is missing, train, and write both tables, the accuracies last."""
    features = measured(data.texts, title=f"features: {Path(prepared.model.name).name} on {data.name}")
    kept = _kept(data, features)
    train = kept[data.splits[0].name]
    probes, converged = _trained(features, *train, data, recipe, shown=prepared.options.progress)
    rows = [
        {"split": name, **row}
        for name, (places, examples) in kept.items()
        for row in _accuracies(probes.scores(features, places), examples, data)
    ]
    columns = [pl.lit(value).alias(name) for name, value in {**prepared.key, "data": data.name}.items()]
    flags = pl.DataFrame({"state": range(len(converged)), "converged": pl.Series(converged, dtype=pl.Boolean())})
    splits = [_split_row(split, kept[split.name][1], train[1], data) for split in data.splits]
    writer.write_table("splits", pl.DataFrame(splits).with_columns(columns))
    writer.write_table("accuracy", pl.DataFrame(rows).join(flags, on="state", how="left").with_columns(columns))


def _kept(data: ProbeData, features: Features) -> dict[str, tuple[np.ndarray, list[Example]]]:
    """By split the rows of the features, and the examples, that have any; a question goes with the first it lacks."""
    kept, first = dict[str, tuple[np.ndarray, list[Example]]](), 0
    for split in data.splits:
        present = features.present[first : first + len(split.examples)]
        lost = {example.row for example, there in zip(split.examples, present, strict=True) if not there}
        places = [place for place, example in enumerate(split.examples) if example.row not in lost]
        if not places:
            raise DataError(f"{split.source}: expected texts with tokens in the {split.name} split; got none.")
        kept[split.name] = (np.array(places) + first, [split.examples[place] for place in places])
        first += len(split.examples)
    return kept


def _trained(
    features: Features, places: np.ndarray, examples: Sequence[Example], data: ProbeData, recipe: Recipe, *, shown: bool
) -> tuple[Probes, list[bool | None]]:
    """The classifiers, and where it is a question, whether each converged."""
    classes, count, states = data.classes(examples), len(data.labels), features.shape[1]
    logistic = recipe.classifier == "logistic"
    total = states if logistic else recipe.epochs * len(places)
    with progress_bar(f"{recipe.classifier} probes", total, shown=shown) as progress:
        if not logistic:
            probes = train_linear(features, places, torch.from_numpy(classes), count, recipe, done=progress.rows)
            return probes, [None] * states
        probes, converged = fit_logistic(
            lambda state: features.state(state)[places], states, classes, count, recipe, done=progress.rows
        )
        return probes, [*converged]


def _accuracies(scores: Tensor, examples: Sequence[Example], data: ProbeData) -> list[dict[str, Any]]:
    """A row a state: how often it is right; NaN where a score is."""
    classes = torch.from_numpy(data.classes(examples))
    right, count = (scores.argmax(-1) == classes).sum(-1), len(classes)
    if data.pair:
        right, count = _right_pairs(scores, examples, classes)
    rows = list[dict[str, Any]]()
    for state, logits in enumerate(scores):
        defined = not logits.isnan().any()
        share = accuracy(int(right[state]), count) if defined else accuracy(0, 0)
        loss = float(functional.cross_entropy(logits.double(), classes)) if defined else torch.nan
        rows.append({"state": state, **vars(share), "loss": loss})
    return rows


def _right_pairs(scores: Tensor, examples: Sequence[Example], classes: Tensor) -> tuple[Tensor, int]:
    """By question: its right option scores most, and no wrong one as much."""
    margin = scores[..., RIGHT] - scores[..., 1 - RIGHT]
    _, question = np.unique([example.row for example in examples], return_inverse=True)
    place, count = torch.from_numpy(question), int(question.max()) + 1
    best = {
        wanted: margin.new_full((len(margin), count), -torch.inf).scatter_reduce(
            1, place[classes == wanted].expand(len(margin), -1), margin[:, classes == wanted], "amax"
        )
        for wanted in (RIGHT, 1 - RIGHT)
    }
    return (best[RIGHT] > best[1 - RIGHT]).sum(-1), count


def _split_row(split: Split, kept: Sequence[Example], train: Sequence[Example], data: ProbeData) -> dict[str, Any]:
    reasons = dict(split.read.skipped)
    if lost := len(split.examples) - len(kept):
        reasons["no tokens"] = lost
    answered = {example.row: example for example in kept}.values() if data.pair else kept  # of pairs one a question
    is_share = len(split.examples) < len(split.read.examples)
    lost_rows = 0 if is_share else sum(split.read.skipped.values())
    most = Counter(example.label for example in train).most_common(1)[0][0]
    return {
        "split": split.name,
        "source": split.source,
        "rows": len({example.row for example in split.examples}) + lost_rows,
        "examples": len(kept),
        "questions": len({example.row for example in kept}) if data.questions else None,
        "skipped": ", ".join(f"{reason}: {count}" for reason, count in reasons.items()),
        "classes": len(data.labels),
        "chance": float(np.mean([1 / (example.options or len(data.labels)) for example in answered])),
        "majority": torch.nan if data.pair else float(np.mean([example.label == most for example in kept])),
    }


@dataclass(frozen=True)
class Accuracy:
    """A share of right answers, NaN without one, with the ends of its interval and how many answers there were."""

    accuracy: float
    low: float
    high: float
    n: int


def accuracy(right: int, n: int, /) -> Accuracy:
    """Share of right answers p = right / n with Wilson's 95% interval, which is right for few answers too.

    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), z = 1.96 (Wilson 1927).

    Example:
        >>> half = accuracy(5, 10)
        >>> (half.accuracy, round(half.low, 4), round(half.high, 4))
        (0.5, 0.2366, 0.7634)
    """
    if not 0 <= right <= n:
        raise ValueError(f"expected 0 <= right <= n, got {right} of {n}")
    if not n:
        return Accuracy(math.nan, math.nan, math.nan, 0)
    low, high = binomtest(right, n).proportion_ci(method="wilson")
    return Accuracy(right / n, float(low), float(high), n)

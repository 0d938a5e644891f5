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
from thalweg.experiments._probe.classifiers import FeatureRows, Probes, Standardized, fit_logistic, train_linear
from thalweg.experiments._probe.data import ProbeData, Split
from thalweg.prompts import Example
from thalweg.store import Features, Findings, FindingsWriter

NAME = "probe"
RIGHT = 1
ANSWERS = {name: dtype for name, dtype in TABLES["answers"].schema.items() if name in ("split", "row", "right")}


def probed(prepared: Prepared, data: ProbeData, recipe: Recipe, *, pooling: str) -> Findings:
    """Measure and train what is missing."""
    measured = TextFeatures(prepared.model, prepared.path, pooling=pooling, options=prepared.options)
    how = dict(vars(recipe))
    if recipe.classifier == "logistic":  # what of a recipe changes a number
        how = {name: how[name] for name in ("classifier", "seed", "standardize")}
    text = {"pooling": pooling, "max_length": prepared.options.max_length}
    with prepared.opened(NAME, {**prepared.key, **how, **text, **data.identity}, TABLES) as writer:
        if writer.missing:
            _fill(writer, prepared, data, measured, recipe)
        writer.update(status="finished")
    return writer.reading()


def _fill(writer: FindingsWriter, prepared: Prepared, data: ProbeData, measured: TextFeatures, recipe: Recipe) -> None:
    """Measure what is missing, train, and write both tables, the accuracies last."""
    features = measured(data.texts, title=f"features: {Path(prepared.model.name).name} on {data.name}")
    kept = _kept(data, features)
    train = kept[data.splits[0].name]
    seen = Standardized.over(features, train[0]) if recipe.standardize else features
    probes, converged = _trained(seen, *train, data, recipe, shown=prepared.options.progress)
    rows, answers = list[dict[str, Any]](), list[pl.DataFrame]()
    for name, (places, examples) in kept.items():
        scores = probes.scores(seen, places)
        right, question = _right(scores, examples, data)
        losses = _losses(scores, torch.from_numpy(data.classes(examples)))
        if name == "test" and recipe.classifier == "linear":
            converged = [None if math.isnan(loss) else loss <= math.log(len(data.labels)) for loss in losses]
        rows += [{"split": name, **row} for row in _accuracies(right, losses)]
        if name != "train":
            undefined = [math.isnan(loss) for loss in losses]
            known = [
                [None if lost else ok for ok, lost in zip(each, undefined, strict=True)] for each in right.T.tolist()
            ]
            answers.append(pl.DataFrame({"split": name, "row": question, "right": known}, schema=ANSWERS))
    columns = [pl.lit(value).alias(name) for name, value in {**prepared.key, "data": data.name}.items()]
    flags = pl.DataFrame({"state": range(len(converged)), "converged": pl.Series(converged, dtype=pl.Boolean())})
    splits = [_split_row(split, kept[split.name][1], train[1], data) for split in data.splits]
    writer.write_table("splits", pl.DataFrame(splits).with_columns(columns))
    writer.write_table("answers", pl.concat(answers).with_columns(columns))
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
    features: FeatureRows,
    places: np.ndarray,
    examples: Sequence[Example],
    data: ProbeData,
    recipe: Recipe,
    *,
    shown: bool,
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
            lambda state: _at(features, state, places), states, classes, count, recipe, done=progress.rows
        )
        return probes, [*converged]


def _at(features: FeatureRows, state: int, places: np.ndarray) -> np.ndarray:
    """Some rows at one state."""
    if isinstance(features, Standardized):
        rows = _at(features.features, state, places)
        return ((rows - features.mean[state]) / features.scale[state]).astype(rows.dtype)
    return features.state(state)[places] if isinstance(features, Features) else features[places, state]


def _losses(scores: Tensor, classes: Tensor) -> list[float]:
    """By state the mean cross entropy; NaN where a score is."""
    return [float(functional.cross_entropy(logits.double(), classes)) for logits in scores]


def _accuracies(right: Tensor, losses: Sequence[float]) -> list[dict[str, Any]]:
    """A row a state: how often it is right; NaN where the loss is."""
    rows = list[dict[str, Any]]()
    for state, loss in enumerate(losses):
        share = accuracy(0, 0) if math.isnan(loss) else accuracy(int(right[state].sum()), right.shape[1])
        rows.append({"state": state, **vars(share), "loss": loss})
    return rows


def _right(scores: Tensor, examples: Sequence[Example], data: ProbeData) -> tuple[Tensor, list[int]]:
    """By state and answer whether it is right, and the rows of the data that the answers are about."""
    classes = torch.from_numpy(data.classes(examples))
    if data.pair:
        return _right_pairs(scores, examples, classes)
    return scores.argmax(-1) == classes, [example.row for example in examples]


def _right_pairs(scores: Tensor, examples: Sequence[Example], classes: Tensor) -> tuple[Tensor, list[int]]:
    """By question: its right option scores most, and no wrong one as much."""
    margin = scores[..., RIGHT] - scores[..., 1 - RIGHT]
    rows, question = np.unique([example.row for example in examples], return_inverse=True)
    place, count = torch.from_numpy(question), len(rows)
    best = {
        wanted: margin.new_full((len(margin), count), -torch.inf).scatter_reduce(
            1, place[classes == wanted].expand(len(margin), -1), margin[:, classes == wanted], "amax"
        )
        for wanted in (RIGHT, 1 - RIGHT)
    }
    return best[RIGHT] > best[1 - RIGHT], rows.tolist()


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

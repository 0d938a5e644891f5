"""MTEB: how good an embedding every state is (the paper, Fig. 32), each text being read by the model once."""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from thalweg.averages import gathered, with_statistics
from thalweg.capture import IdentifiedModel
from thalweg.engines import progress_bar
from thalweg.experiments._features import TextFeatures
from thalweg.experiments._mteb import TABLES
from thalweg.experiments._mteb.harness import States, StateScore, state_scores
from thalweg.experiments._options import SurveyOptions
from thalweg.experiments._over_prompts import loaded
from thalweg.experiments._prepare import Prepared
from thalweg.store import Findings, FindingsWriter, slug

NAME = "mteb"
CACHE = "cache"


def scored(
    prepared: Prepared, tasks: Sequence[Any], languages: Sequence[str], *, pooling: str, keep_features: bool
) -> Findings:
    """Score every state on every task, an object of mteb's."""
    model, options, path = prepared.model, prepared.options, prepared.path
    subject = cache(lambda: loaded(model))

    def measured(directory: Path) -> TextFeatures:
        return TextFeatures(model, directory, pooling=pooling, options=options, subject=subject)

    settings = {
        **prepared.key,  # the run may hold other models
        "tasks": [task.metadata.name for task in tasks],
        "languages": list(languages),
        "pooling": pooling,
        "max_length": options.max_length,
    }
    kept = measured(path)  # an unknown pooling is refused before anything is written
    with prepared.opened(NAME, settings, TABLES) as writer:
        scores = list[StateScore]()
        for task in tasks:
            directory = path if keep_features else path / NAME / slug(task.metadata.name)
            features = kept if keep_features else measured(directory)
            scores += _scores(task, model, features, path / NAME / CACHE, options)
            _write(writer, prepared.key, scores)
            if not keep_features:
                shutil.rmtree(directory, ignore_errors=True)
        writer.update(status="finished")
    return writer.reading()


def _scores(
    task: Any, model: IdentifiedModel, features: TextFeatures, results: Path, options: SurveyOptions
) -> list[StateScore]:
    """All states on one task."""
    title, count = task.metadata.name, model.config.get_text_config(decoder=True).num_hidden_layers + 1

    def embed(texts: Sequence[str], state: int) -> np.ndarray:
        measured = features(texts, title=f"features: {title}")
        rows = measured.state(state)
        rows[~measured.present] = 0.0
        return rows

    states = States(f"{model.name}@{model.revision}", features.store.key, count, embed)
    with ExitStack() as stack:
        # opened when the first state is done: by then the texts are read, with bars of their own
        bar = cache(lambda: stack.enter_context(progress_bar(title, count, shown=options.progress)))
        return state_scores(task, states, results, done=lambda: bar().rows(1))


def _write(writer: FindingsWriter, key: dict[str, str], scores: Sequence[StateScore]) -> None:
    """The tables of all tasks so far, so that a stopped run shows them."""
    frame = pl.DataFrame([{**key, **vars(score)} for score in scores], schema=TABLES["scores"].schema)
    writer.write_table("scores", frame)
    by = ["model", "revision", "task", "type", "metric", "state"]
    means = frame.group_by(by, maintain_order=True).agg(pl.col("score").mean())
    writer.write_table("tasks", means)
    writer.write_table("means", task_means(means.drop("metric")))


EVERY_TYPE = "all"
GROUP = ["model", "revision", "type"]
KEY = [*GROUP, "state"]
PAIRED = {"mean": "behind", "low": "behind_low", "high": "behind_high"}


def task_means(tasks: pl.DataFrame, /) -> pl.DataFrame:
    """Mean score of each state over tasks, and how far it lies behind the best state, task by task.

    Every task counts once, whatever its size; a score that is not finite is left out and ``n`` counts the rest.
    Intervals are over tasks: mean -+ t(n - 1) std / sqrt(n) at 97.5%; without two tasks they are NaN. The best state
    has the largest mean among those with most tasks, the first of equal ones. With b_k its score on task k and s_k
    another state's, ``behind`` = mean of b_k - s_k, with the interval of that mean. Another state is *tied* with it if
    that interval reaches down to 0: the tasks do not tell the two apart. ``tied`` is null where there is no interval
    and the scores differ. The best is tied with itself. Type "all" is over every task.

    Example:
        Two tasks, two states: scores (0.5, 0.7) and (0.6, 0.9) have means 0.55 and 0.8; state 0 is 0.25 behind, and
        the interval 0.25 -+ 12.7 * 0.05 reaches below 0: tied.
    """
    every = tasks.with_columns(pl.lit(EVERY_TYPE).alias("type"))
    scores = pl.concat([every, tasks.select(every.columns)])
    means = _averaged(scores, "score")
    best = _best(means)
    most = scores.select(*GROUP, "task", best_state="state", most="score")
    paired = scores.join(best, on=GROUP).join(most, on=[*GROUP, "task", "best_state"])
    behind = _averaged(paired.with_columns(behind=pl.col("most") - pl.col("score")), "behind")
    columns = [pl.col(statistic).alias(column) for statistic, column in PAIRED.items()]
    table = means.join(behind.select(*KEY, *columns), on=KEY, how="left").join(best, on=GROUP, how="left")
    table = table.with_columns(best=pl.col("state").eq_missing(pl.col("best_state")))
    known = pl.when(pl.col("behind_low").is_finite()).then(pl.col("behind_low") <= 0)
    table = table.with_columns(tied=pl.col("best") | (pl.col("behind") == 0) | known)
    return table.select(*KEY, "mean", "std", "low", "high", "n", *PAIRED.values(), "best", "tied")


def _averaged(scores: pl.DataFrame, value: str) -> pl.DataFrame:
    return with_statistics(scores.group_by(KEY, maintain_order=True).agg(gathered(value)))


def _best(means: pl.DataFrame) -> pl.DataFrame:
    full = means.filter(pl.col("n") == pl.col("n").max().over(GROUP), pl.col("n") > 0)
    first = full.sort([*GROUP, "mean", "state"], descending=[False, False, False, True, False])
    return first.group_by(GROUP, maintain_order=True).first().select(*GROUP, best_state="state")

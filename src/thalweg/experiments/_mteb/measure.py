"""MTEB: how good an embedding every state is (the paper, Fig. 32), each text being read by the model once."""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from thalweg.capture import IdentifiedModel
from thalweg.engines import progress_bar
from thalweg.experiments._features import TextFeatures
from thalweg.experiments._mteb.harness import States, StateScore, state_scores
from thalweg.experiments._mteb.means import task_means
from thalweg.experiments._mteb.tables import TABLES
from thalweg.experiments._options import SurveyOptions
from thalweg.experiments._over_prompts import loaded
from thalweg.experiments._prepare import Prepared
from thalweg.store import Findings, FindingsWriter, slug

NAME = "mteb"
CACHE = "cache"


@dataclass(frozen=True)
class Asked:
    """What is to be scored.

    Attributes:
        tasks: mteb's task objects.
        languages: codes of the subsets to take.
        pooling: how a text's rows become one.
        keep_features: whether a task's embeddings stay on the disk once its last state is scored.
    """

    tasks: tuple[Any, ...]
    languages: tuple[str, ...]
    pooling: str
    keep_features: bool


def scored(prepared: Prepared, asked: Asked) -> Findings:
    """Score every state on every task.

    Args:
        prepared: one model and where the run is.
        asked: what is to be scored.
    """
    model, options, path = prepared.model, prepared.options, prepared.path
    subject = cache(lambda: loaded(model))

    def measured(directory: Path) -> TextFeatures:
        return TextFeatures(model, directory, pooling=asked.pooling, options=options, subject=subject)

    settings = {
        **prepared.key,  # the run may hold other models
        "tasks": [task.metadata.name for task in asked.tasks],
        "languages": list(asked.languages),
        "pooling": asked.pooling,
        "max_length": options.max_length,
    }
    kept = measured(path)  # an unknown pooling is refused before anything is written
    with prepared.opened(NAME, settings, TABLES) as writer:
        scores = list[StateScore]()
        for task in asked.tasks:
            directory = path if asked.keep_features else path / NAME / slug(task.metadata.name)
            features = kept if asked.keep_features else measured(directory)
            scores += _scores(task, model, features, path / NAME / CACHE, options)
            _write(writer, model, scores)
            if not asked.keep_features:
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


def _write(writer: FindingsWriter, model: IdentifiedModel, scores: Sequence[StateScore]) -> None:
    """The tables of all tasks so far, so that a stopped run shows them."""
    key = {"model": model.name, "revision": model.revision}
    frame = pl.DataFrame([{**key, **vars(score)} for score in scores], schema=TABLES["scores"].schema)
    writer.write_table("scores", frame)
    by = ["model", "revision", "task", "type", "metric", "state"]
    means = frame.group_by(by, maintain_order=True).agg(pl.col("score").mean())
    writer.write_table("tasks", means)
    writer.write_table("means", task_means(means.drop("metric")))

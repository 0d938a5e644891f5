"""MTEB: how good an embedding every state is (the paper, Fig. 32), each text being read by the model once."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from thalweg import metrics
from thalweg.capture import IdentifiedModel
from thalweg.engines import progress_bar
from thalweg.experiments._features import TextFeatures
from thalweg.experiments._mteb.harness import States, StateScore, state_scores
from thalweg.experiments._options import SurveyOptions
from thalweg.store import FindingsWriter, experiment_schema

NAME = "mteb"
CACHE = "cache"
ENGLISH = ("eng",)


def _scored(
    task: Any, model: IdentifiedModel, features: TextFeatures, results: Path, options: SurveyOptions
) -> list[StateScore]:
    """All states on one task."""
    title, count = task.metadata.name, model.config.get_text_config(decoder=True).num_hidden_layers + 1

    def embed(texts: Sequence[str], state: int) -> np.ndarray:
        found = features(texts, title=f"features: {title}")
        rows = found.state(state)
        rows[~found.present] = 0.0
        return rows

    states = States(f"{model.name}@{model.revision}", features.store.key, count, embed)
    with ExitStack() as stack:
        # opened when the first state is done: by then the texts are read, with bars of their own
        bar = cache(lambda: stack.enter_context(progress_bar(title, count, shown=options.progress)))
        return state_scores(task, states, results, done=lambda: bar().rows(1))


def _write(writer: FindingsWriter, model: IdentifiedModel, scores: Sequence[StateScore]) -> None:
    """The tables of all tasks so far, so that a stopped run shows them."""
    key = {"model": model.name, "revision": model.revision}
    frame = pl.DataFrame([{**key, **vars(one)} for one in scores], schema=experiment_schema(NAME, "scores"))
    writer.write_table("scores", frame)
    by = ["model", "revision", "task", "type", "metric", "state"]
    means = frame.group_by(by, maintain_order=True).agg(pl.col("score").mean())
    writer.write_table("tasks", means)
    writer.write_table("means", metrics.task_means(means.drop("metric")))

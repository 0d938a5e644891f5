"""MTEB: how good an embedding every state is (the paper, Fig. 32), each text being read by the model once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thalweg.experiments._declared import Experiment
from thalweg.experiments._options import BUNDLED_MODEL, SurveyOptions
from thalweg.store import Findings


def mteb(
    model: str | Path = BUNDLED_MODEL,
    tasks: str | Sequence[Any] = "skean32",
    *,
    languages: Sequence[str] = ("eng",),
    pooling: str = "mean",
    keep_features: bool = True,
    out: str | Path | None = None,
    options: SurveyOptions | None = None,
) -> Findings:
    """Score every state of a model as an embedding on tasks of MTEB.

    A text is read once, in one forward pass that gives its embedding at every state; mteb then evaluates each state as
    a model of its own, and keeps its results in the run, so that what was scored is not scored again. A text without
    tokens is embedded as zeros.

    Args:
        model: hub id or directory.
        tasks: mteb's names, by commas or as a list, or its task objects; "skean32" for the 32 tasks of the paper.
        languages: three-letter codes of the subsets to take, none for all.
        pooling: "mean" over a text's tokens, or its "last" token.
        keep_features: False removes a task's embeddings from the disk once its last state is scored.
        out: the run directory; ``runs/<model>`` by default. A run of the same model is joined.
        options: as for a survey; ``max_length``, ``bos`` and how the model is loaded.

    Returns:
        The experiment, for reading: tables ``scores`` by split and subset, ``tasks``, and ``means`` over tasks.

    Raises:
        UsageError: mteb is not installed, or something cannot be used; the message says what to do.

    Example:
        >>> found = mteb("openai-community/gpt2", "STS12,Banking77Classification")  # doctest: +SKIP
        >>> found.table("means").filter(type="all").collect()["mean"].to_list()  # doctest: +SKIP
    """
    from thalweg.experiments._mteb.harness import mteb_tasks
    from thalweg.experiments._mteb.measure import NAME, Asked, scored
    from thalweg.experiments._prepare import prepare

    asked = Asked(tuple(mteb_tasks(tasks, languages)), tuple(languages), pooling, keep_features)
    prepared = prepare(model, own_data=True, packages=[NAME], out=out, options=options).of_one_model(NAME)
    return scored(prepared, asked)


EXPERIMENT = Experiment(
    name="mteb",
    function=mteb,
    group="Downstream",
    answers=("scores", "tasks", "means"),
    view="thalweg.experiments._mteb.view",
)

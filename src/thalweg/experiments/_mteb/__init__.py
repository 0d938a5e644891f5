"""MTEB: how good an embedding every state is (the paper, Fig. 32), each text being read by the model once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from thalweg.experiments._declared import Experiment
from thalweg.experiments._mteb.tables import TABLES
from thalweg.experiments._options import BUNDLED_MODEL, CODES, TextOptions, switched_off_by
from thalweg.store import Findings


def mteb(
    model: str | Path = BUNDLED_MODEL,
    tasks: str | Sequence[Any] = "skean32",
    *,
    languages: Annotated[Sequence[str], CODES] = ("eng",),
    pooling: Annotated[str, Parameter(choices=("mean", "last"))] = "mean",
    keep_features: Annotated[bool, switched_off_by("--forget")] = True,
    out: str | Path | None = None,
    options: TextOptions | None = None,
) -> Findings:
    """Score every state as an embedding on tasks of MTEB.

    A text is read once, in one forward pass that gives its embedding at every state; mteb then evaluates each state as
    a model of its own, and keeps its results in the run, so that what was scored is not scored again. A text without
    tokens is embedded as zeros. Embeddings take 4 bytes x width x states a text on the disk. Needs the extra mteb. The
    paper: Fig. 32.

    On the command line:

        thalweg mteb EleutherAI/pythia-410m --tasks Banking77Classification,STS12

        thalweg mteb EleutherAI/pythia-410m --tasks skean32 --forget --out runs/pythia-410m

    Args:
        model: hub id or directory; "reference" is the model that comes with thalweg.
        tasks: mteb's names by commas, in Python also as a list or as its task objects; "skean32" for the paper's 32
            English tasks.
        languages: three-letter codes of the subsets to take, on the command line by commas or all; in Python none for
            all.
        pooling: a text's embedding: "mean" over its tokens, or its "last" token.
        keep_features: keep texts' embeddings on the disk; ``--forget`` removes a task's once its last state is scored.
        out: the run directory, ``runs/<model>`` by default; a run of the same model is joined.
        options: how long a text may be, how texts go through the model, and how it is loaded.

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
    tables={"mteb": TABLES},
    function=mteb,
    group="Downstream",
    answers=("scores", "tasks", "means"),
    view="thalweg.experiments._mteb.view",
)

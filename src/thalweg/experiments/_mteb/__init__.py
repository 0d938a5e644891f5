"""MTEB: how good an embedding every state is (the paper, Fig. 32), each text being read by the model once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Unpack

from cyclopts import Parameter

import thalweg.experiments._columns as shared
from thalweg.experiments._called import takes_options
from thalweg.experiments._columns import FLAG, NUMBER, TEXT, WHOLE
from thalweg.experiments._declared import Experiment
from thalweg.experiments._keywords import TextKeywords
from thalweg.experiments._options import BUNDLED_MODEL, CODES, Model, TextOptions, switched_off_by
from thalweg.names import MODEL
from thalweg.store import Column, Findings, Table, Tables


@takes_options
def mteb(
    model: Annotated[Model, MODEL] = BUNDLED_MODEL,
    tasks: str | Sequence[Any] = "skean32",
    *,
    languages: Annotated[Sequence[str], CODES] = ("eng",),
    pooling: Annotated[str, Parameter(choices=("mean", "last"))] = "mean",
    keep_features: Annotated[bool, switched_off_by("--forget")] = True,
    out: str | Path | None = None,
    options: TextOptions | None = None,
    **_: Unpack[TextKeywords],
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
        model: hub id, directory or GGUF file; "reference" is the model that comes with thalweg. A run
            stands for its model. In Python also a loaded transformers model, with its
            ``tokenizer``.
        tasks: mteb's names by commas, in Python also as a list or as its task objects; "skean32" for the paper's 32
            English tasks.
        languages: three-letter codes of the subsets to take, on the command line by commas or all; in Python none for
            all.
        pooling: a text's embedding: "mean" over its tokens, or its "last" token.
        keep_features: keep texts' embeddings on the disk; ``--forget`` removes a task's once its last state is scored.
        out: the run directory, ``runs/<model>`` by default; a run of the same model is joined, and what is not
            asked of how the model is loaded is the run's.
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
    from thalweg.experiments._mteb.measure import NAME, scored
    from thalweg.experiments._prepare import prepare

    known = mteb_tasks(tasks, languages)
    prepared = prepare(model, data_of="none", packages=[NAME], out=out, options=options).of_one_model(NAME)
    return scored(prepared, known, languages, pooling=pooling, keep_features=keep_features)


TASK = Column("task", TEXT, "mteb's name of the task")
TYPE = Column("type", TEXT, "mteb's word for its kind, such as STS; in `means` `all` for every task")
METRIC = Column("metric", TEXT, "the task's main score")
SCORE = Column("score", NUMBER, "main score; NaN where it is undefined; in `tasks` the mean over splits and subsets")
SCORES = (
    *shared.MODEL_KEY,
    TASK,
    TYPE,
    METRIC,
    shared.STATE,
    Column("split", TEXT, "of the task's data"),
    Column("subset", TEXT, "of the task's data, such as a language"),
    SCORE,
    Column("data_revision", TEXT, "of the task's data on the hub"),
    Column("reason", TEXT, "why there is no score; null where there is one"),
)
MEANS = (
    *shared.MODEL_KEY,
    TYPE,
    shared.STATE,
    Column("mean", NUMBER, "of the scores over tasks, each counting once; a score that is undefined is left out"),
    Column("std", NUMBER, "standard deviation over tasks (ddof 1)"),
    Column("low", NUMBER, "lower end of the 95% t interval over tasks; NaN for one task"),
    shared.HIGH,
    Column("n", WHOLE, "tasks that entered", "tasks"),
    Column("behind", NUMBER, "mean over tasks of the best state's score minus this state's"),
    Column("behind_low", NUMBER, "lower end of its 95% t interval, task by task; NaN for one task"),
    Column("behind_high", NUMBER, "upper end of it"),
    Column("best", FLAG, "whether the state has the largest mean among those with most tasks"),
    Column("tied", FLAG, "whether `behind_low` is at most 0: the tasks do not tell it from the best; null if unknown"),
)
TABLES = Tables(
    wholes={
        "scores": Table("one task, state, split and subset", SCORES),
        "tasks": Table("one task and state", (*shared.MODEL_KEY, TASK, TYPE, METRIC, shared.STATE, SCORE)),
        "means": Table("one type of task and state", MEANS),
    }
)


EXPERIMENT = Experiment(
    name="mteb",
    tables={"mteb": TABLES},
    function=mteb,
    group="Downstream",
    answers=("scores", "tasks", "means"),
    view="thalweg.experiments._mteb.view",
)

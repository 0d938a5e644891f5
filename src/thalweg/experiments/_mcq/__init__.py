"""Multiple choice: how often every state chooses right, scored by lm-eval (the paper, Figs. 29 and 30)."""

from pathlib import Path
from typing import Annotated, Unpack

import polars as pl
from cyclopts import Parameter

import thalweg.experiments._columns as shared
from thalweg.errors import UsageError
from thalweg.experiments._called import takes_options
from thalweg.experiments._columns import FLAG, NUMBER, SMALL, TEXT, WHOLE
from thalweg.experiments._declared import Experiment
from thalweg.experiments._keywords import PassKeywords
from thalweg.experiments._options import (
    BUNDLED_MODEL,
    LENS,
    TASKS,
    Model,
    Names,
    PassOptions,
    survey_options,
    switched_off_by,
)
from thalweg.names import MODEL
from thalweg.store import Column, Findings, Table, Tables


@takes_options
def mcq(
    model: Annotated[Model, MODEL] = BUNDLED_MODEL,
    tasks: Annotated[Names, TASKS] = "arc_easy",
    *,
    num_fewshot: int | None = None,
    limit: int | float | None = None,
    include_path: Names = (),
    max_length: int | None = None,
    cache_requests: Annotated[str | None, Parameter(choices=("true", "refresh", "delete"))] = None,
    tuned: Annotated[str | Path | None, LENS] = None,
    final_norm: Annotated[bool, switched_off_by("--no-final-norm")] = True,
    out: str | Path | None = None,
    options: PassOptions | None = None,
    **_: Unpack[PassKeywords],
) -> Findings:
    """Let every state answer multiple choice through a lens, and have lm-eval score each of them.

    Tasks, prompts, tokens and scores are lm-eval's own, and the last state's are those that it gives the model. Every
    input goes through the model once for all states; its log-likelihoods stay in the run, so that what was asked before
    costs no forward pass. They are computed in float32 from the model's logits, whatever its dtype. Needs the extra
    lm-eval. The paper: Figs. 29 and 30.

    On the command line:

        thalweg mcq EleutherAI/pythia-410m --task arc_easy --task hellaswag --num-fewshot 0 --out runs/pythia-410m

        thalweg mcq MODEL --task my_arc --include-path ./tasks --limit 100

        thalweg mcq EleutherAI/pythia-410m --task arc_easy --tuned AlignmentResearch/tuned-lens

    Args:
        model: hub id, directory or GGUF file; "reference" is the model that comes with thalweg. A run
            stands for its model. In Python also a loaded transformers model, with its
            ``tokenizer``.
        tasks: tasks, groups, tags or patterns of lm-eval, or YAML files of tasks; on the command line by commas or
            repeated.
        num_fewshot: solved examples before each question; by default what the task says.
        limit: first questions of each task; below 1 a share of them.
        include_path: directories with YAML files of your own tasks; on the command line it may be repeated.
        max_length: longest request in tokens, cut at the left; by default what lm-eval takes for the model.
        cache_requests: lm-eval's own cache of prompts: "true", "refresh" or "delete".
        tuned: a tuned lens instead of the logit lens: a directory, a run in which one was trained, or
            "AlignmentResearch/tuned-lens" for the one that is published for the model.
        final_norm: end the logit lens with the final norm; ``--no-final-norm`` leaves it out.
        out: the run directory, ``runs/<model>`` by default; a run of the same model is joined, and what is not
            asked of how the model is loaded is the run's.
        options: how prompts go through the model, and how it is loaded.

    Returns:
        The experiment, for reading: table ``scores`` by task, state and metric, with standard error and chance, and
        ``answers``, the score of each question at every state.

    Raises:
        UsageError: lm-eval is not installed; a task is unknown, has no log-likelihoods to score, or cannot be had; the
            model, an option, the lens or the directory cannot be used. The message says what to do.
        ProofError: the model's unembedding cannot be told.

    Example:
        >>> found = mcq("EleutherAI/pythia-410m", ["arc_easy", "hellaswag"], num_fewshot=0)  # doctest: +SKIP
        >>> found.table("scores").filter(task="arc_easy", metric="acc").collect()["value"].to_list()  # doctest: +SKIP
    """
    from thalweg.experiments._mcq.harness import LmEvalTasks
    from thalweg.experiments._mcq.measure import NAME, PACKAGE, HarnessOptions, answered, listed
    from thalweg.experiments._prepare import prepare
    from thalweg.lenses import choose_lens

    options = survey_options(options)
    if options.limit is not None:
        raise UsageError("mcq takes limit=... itself, as lm-eval counts it; got it in options.")
    asked = HarnessOptions(
        num_fewshot=num_fewshot,
        limit=limit if limit is None or limit < 1 or limit != int(limit) else int(limit),
        include_path=tuple(listed(include_path)),
        max_length=max_length,
        bos=options.bos,
        cache_requests=cache_requests,
        bars=options.progress,
    )
    names = listed(tasks)
    if not names:
        raise UsageError("--task: expected at least one task, such as arc_easy; got none.")
    prepared = prepare(model, data_of="none", packages=[PACKAGE], out=out, options=options).of_one_model(NAME)
    choice = choose_lens(tuned, prepared.model, final_norm=final_norm)
    built = LmEvalTasks(names, prepared.model.tokenizer, prepared.model.config, asked)
    return answered(prepared, names, built, asked, choice)


SCORES = (
    *shared.MODEL_KEY,
    Column("lens", TEXT, "`logit` or `tuned`"),
    Column("task", TEXT, "name of the task, or of a group of tasks"),
    Column("group", FLAG, "whether it is lm-eval's own average over a group of tasks"),
    Column("shots", SMALL, "solved examples before each question", "examples"),
    shared.STATE,
    Column("metric", TEXT, "as lm-eval calls it, such as `acc` or `acc_norm`; with a filter as `acc,filter`"),
    Column("value", NUMBER, "the score, as lm-eval computes it; NaN with a reason where a log-likelihood is NaN"),
    Column("stderr", NUMBER, "its standard error, as lm-eval computes it; NaN where it gives none"),
    Column("n", WHOLE, "questions", "questions"),
    Column(
        "chance",
        NUMBER,
        "of guessing, mean of 1 / options; NaN for what is no accuracy, or where several options are right",
        "share",
    ),
    Column("truncated", WHOLE, "requests whose context was cut at the left", "requests"),
    Column("version", TEXT, "of the task, as lm-eval has it"),
    Column("reason", TEXT, "why there is no value; null where there is one"),
)
ANSWERS = (
    *shared.MODEL_KEY,
    Column("lens", TEXT, "`logit` or `tuned`"),
    Column("task", TEXT, "name of the task"),
    Column("metric", TEXT, "as in `scores`, one that begins with acc"),
    Column("row", WHOLE, "number of the question among the task's documents, from 0"),
    Column("right", pl.List(NUMBER), "its score by state from 0 to L, 1 where it is right; null where it is undefined"),
)
TABLES = Tables(
    wholes={
        "answers": Table("one question and metric", ANSWERS),
        "scores": Table("one task, metric and state", SCORES),
    }
)


EXPERIMENT = Experiment(
    name="mcq",
    tables={"mcq": TABLES},
    function=mcq,
    group="Downstream",
    answers=("scores",),
    view="thalweg.experiments._mcq.view",
)

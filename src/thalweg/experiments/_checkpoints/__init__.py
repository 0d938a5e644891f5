"""A survey over the checkpoints of a training, or over the sizes of a family (the paper, Figs. 2, 12 and 14)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Unpack

from cyclopts import Parameter

from thalweg.errors import ThalwegError
from thalweg.experiments._called import takes_options
from thalweg.experiments._checkpoints.tables import TABLES
from thalweg.experiments._declared import Experiment
from thalweg.experiments._keywords import SurveyKeywords
from thalweg.experiments._options import (
    BUNDLED_DATA,
    DATA,
    DIRECTORY,
    PIECES,
    Data,
    Models,
    SurveyOptions,
    survey_options,
)
from thalweg.names import MODEL
from thalweg.paths import path_here
from thalweg.store import Run, is_run, open_run


@dataclass(frozen=True)
class Checkpoints:
    """What came of it.

    Attributes:
        run: a survey run with an entry a checkpoint; ``run.experiments("checkpoints")[-1]`` has the tables ``curves``
            and ``emergence``.
        missing: by revision or directory, why a checkpoint is not in it.
    """

    run: Run
    missing: Mapping[str, str]


@takes_options
def checkpoints(
    models: Annotated[Models | None, MODEL] = None,
    *,
    revisions: Annotated[Sequence[str] | None, PIECES] = None,
    checkpoint_dir: Annotated[str | Path | None, DIRECTORY] = None,
    data: Annotated[Data, DATA] = BUNDLED_DATA,
    out: str | Path | None = None,
    options: SurveyOptions | None = None,
    prefetch: Annotated[bool, Parameter(negative="--no-prefetch")] = True,
    **_: Unpack[SurveyKeywords],
) -> Checkpoints:
    """Survey the checkpoints of one model, or several models of one family, and say when the phenomena emerge.

    One model is in memory at a time. A run that exists is continued, and grows by the checkpoints that it does not
    hold. One that is not there, cannot be loaded or leaves the range of float16 is left out and named, the rest is
    measured, and the exit code is 3. Revisions stay in the hub's cache. The paper: Figs. 2, 12, 14.

    On the command line:

        thalweg checkpoints EleutherAI/pythia-410m --revisions step1,step1000,step143000 --data gsm8k --limit 1

        thalweg checkpoints --checkpoint-dir trained/ --out runs/trained

        thalweg checkpoints EleutherAI/pythia-70m EleutherAI/pythia-160m EleutherAI/pythia-410m --data gsm8k

    Args:
        models: the model whose ``revisions`` are meant; what to call the model of ``checkpoint_dir``, by default the
            directory's name; or the models of one family, in Python also loaded ones, with their ``tokenizer``.
        revisions: checkpoints on the hub, such as "step1000", several by commas; their order does not matter if all of
            them name a step.
        checkpoint_dir: a directory with checkpoint-100, step100, global_step100 and so on; their revisions in the run
            are "step100".
        data: short names, .jsonl, .parquet, .tsv or .txt files, or hub data sets; "bundled" are the prompts that come
            with thalweg. On the command line --data may be repeated; in Python also a tuple of these, texts, a frame,
            a ``datasets.Dataset``, or several of them by name.
        out: the run directory, ``runs/<model>-checkpoints`` or ``runs/<model>-sizes`` by default; an existing one
            grows.
        options: as for a survey.
        prefetch: download the next checkpoint, and read it into the system's file cache, while this one is measured.

    Returns:
        The run, and what is missing from it.

    Raises:
        UsageError: nothing can be measured, or checkpoints do not belong together; the message says what to do.
        KeyboardInterrupt: finished shards stay, and the run's status says interrupted.

    Example:
        >>> steps = ["step1", "step1000", "step143000"]
        >>> found = checkpoints("EleutherAI/pythia-410m", revisions=steps)  # doctest: +SKIP
        >>> found.run.experiments("checkpoints")[-1].table("emergence").collect()  # doctest: +SKIP
    """
    from thalweg.experiments._checkpoints.listed import list_checkpoints, refuse_a_run_of_others
    from thalweg.experiments._checkpoints.measure import measure, sum_up
    from thalweg.experiments._continued import with_dtype_of
    from thalweg.experiments._prepare import open_sources, prepared_from
    from thalweg.experiments._survey.measure import ModelSurvey, open_survey

    options = survey_options(options)
    sources = open_sources(data, options)
    listed = list_checkpoints(models, revisions, checkpoint_dir, options)
    path = path_here("--out", out) if out is not None else Path("runs") / listed.directory
    if is_run(path):
        refuse_a_run_of_others(open_run(path).header, listed.models)
        if all(model.given is None for model in listed.models):
            options = with_dtype_of(open_run(path), options)
            listed = list_checkpoints(models, revisions, checkpoint_dir, options)
    prepared = prepared_from(listed.models, sources, path, options)
    with open_survey(path, prepared.header, prepared.session, grown=True) as writer:
        surveys = [ModelSurvey(prepared, number, writer) for number in range(len(prepared.models))]
        try:
            failed = measure(surveys, writer, prefetch=prefetch)
        except ThalwegError:
            sum_up(writer)  # what came before can be looked at
            raise
        sum_up(writer)
        if failed and not any(pair.prompts_kept for pair in writer.header.coverage):
            raise next(iter(failed.values()))
        writer.update(status="finished")
    return Checkpoints(open_run(path), {**listed.missing, **{name: str(error) for name, error in failed.items()}})


EXPERIMENT = Experiment(
    name="checkpoints",
    tables={"checkpoints": TABLES},
    function=checkpoints,
    group="Measure",
    answers=("emergence", "curves"),
    view="thalweg.experiments._checkpoints.view",
    outcome="thalweg.experiments._checkpoints.view",
)

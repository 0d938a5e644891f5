"""A survey over the checkpoints of a training, or over the sizes of a family (the paper, Figs. 2, 12 and 14)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thalweg.errors import ThalwegError, UsageError
from thalweg.experiments._declared import Experiment
from thalweg.experiments._options import BUNDLED_DATA, Names, SurveyOptions
from thalweg.store import Run, open_run


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


def checkpoints(
    models: Names | None = None,
    *,
    revisions: Sequence[str] | None = None,
    checkpoint_dir: str | Path | None = None,
    data: Names = BUNDLED_DATA,
    out: str | Path | None = None,
    options: SurveyOptions | None = None,
    prefetch: bool = True,
) -> Checkpoints:
    """Measure the checkpoints of one model, or several models of one family, and say when the phenomena emerge.

    A run that exists is continued, and grows by the checkpoints that it does not hold. One that is not there, cannot be
    loaded or leaves the range of float16 is left out and named; the rest is measured.

    Args:
        models: the model whose ``revisions`` are meant; what to call the model of ``checkpoint_dir``, by default the
            directory's name; or the models of one family.
        revisions: on the hub, such as "step1000"; their order does not matter if all of them name a step.
        checkpoint_dir: a directory with checkpoint-100, step100, global_step100 and so on; their revisions in the run
            are "step100".
        data: as for a survey.
        out: the run directory; ``runs/<model>-checkpoints`` or ``runs/<model>-sizes`` by default.
        options: as for a survey.
        prefetch: download the next checkpoint, and read it into the system's file cache, while this one is measured.
            One model is in memory at a time in any case.

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
    from thalweg.experiments._checkpoints.listed import list_checkpoints, refuse_a_run_of_other_shapes
    from thalweg.experiments._checkpoints.measure import _measure, _sum_up
    from thalweg.experiments._prepare import open_sources, prepared_from
    from thalweg.experiments._survey.findings import open_survey
    from thalweg.experiments._survey.measure import ModelSurvey

    options = SurveyOptions() if options is None else options
    if not isinstance(options, SurveyOptions):
        raise UsageError(f"options must be thalweg.SurveyOptions(limit=..., ...); got {type(options).__name__}.")
    sources = open_sources(data, options)
    listed = list_checkpoints(models, revisions, checkpoint_dir, options)
    path = Path(out) if out is not None else Path("runs") / listed.directory
    if (path / "run.json").exists():
        refuse_a_run_of_other_shapes(open_run(path).header, listed.models)
    prepared = prepared_from(listed.models, sources, path, options)
    with open_survey(path, prepared.header, prepared.session, grown=True) as writer:
        surveys = [
            ModelSurvey(model, how, writer, options)
            for model, how in zip(prepared.models, prepared.tokenizations, strict=True)
        ]
        try:
            failed = _measure(surveys, sources, writer, prefetch=prefetch)
        except ThalwegError:
            _sum_up(writer)  # what came before can be looked at
            raise
        _sum_up(writer)
        if failed and not any(pair.prompts_kept for pair in writer.header.coverage):
            raise next(iter(failed.values()))
        writer.update(status="finished")
    return Checkpoints(open_run(path), {**listed.missing, **{name: str(error) for name, error in failed.items()}})


EXPERIMENT = Experiment(
    name="checkpoints",
    function=checkpoints,
    group="Measure",
    answers=("emergence", "curves"),
    view="thalweg.experiments._checkpoints.view",
)

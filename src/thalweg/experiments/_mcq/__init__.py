"""Multiple choice: how often every state chooses right, scored by lm-eval (the paper, Figs. 29 and 30)."""

from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from thalweg.errors import UsageError
from thalweg.experiments._declared import Experiment
from thalweg.experiments._options import BUNDLED_MODEL, Names, PassOptions, survey_options
from thalweg.experiments._typed import TASKS, switched_off_by
from thalweg.store import Findings, open_experiment


def mcq(
    model: str | Path = BUNDLED_MODEL,
    tasks: Annotated[Names, TASKS] = "arc_easy",
    *,
    num_fewshot: int | None = None,
    limit: int | float | None = None,
    include_path: Names = (),
    max_length: int | None = None,
    cache_requests: Annotated[str | None, Parameter(choices=("true", "refresh", "delete"))] = None,
    tuned: str | Path | None = None,
    final_norm: Annotated[bool, switched_off_by("--no-final-norm")] = True,
    out: str | Path | None = None,
    options: PassOptions | None = None,
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
        model: hub id or directory; "reference" is the model that comes with thalweg.
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
        out: the run directory, ``runs/<model>`` by default; a run of the same model is joined.
        options: how prompts go through the model, and how it is loaded.

    Returns:
        The experiment, for reading: table ``scores`` by task, state and metric, with standard error and chance.

    Raises:
        UsageError: lm-eval is not installed; a task is unknown, has no log-likelihoods to score, or cannot be had; the
            model, an option, the lens or the directory cannot be used. The message says what to do.
        ProofError: the model's unembedding cannot be told.

    Example:
        >>> found = mcq("EleutherAI/pythia-410m", ["arc_easy", "hellaswag"], num_fewshot=0)  # doctest: +SKIP
        >>> found.table("scores").filter(task="arc_easy", metric="acc").collect()["value"].to_list()  # doctest: +SKIP
    """
    from thalweg.capture import identify_model
    from thalweg.experiments._mcq.harness import LmEvalTasks
    from thalweg.experiments._mcq.likelihoods import LogLikelihoods
    from thalweg.experiments._mcq.measure import NAME, _asked, _lens, _lens_settings, _listed, _write
    from thalweg.experiments._mcq.requests import HarnessOptions
    from thalweg.experiments._prepare import named, prepared_from
    from thalweg.lenses import read_tuned
    from thalweg.reference import bundled_directory

    options = survey_options(options)
    if options.limit is not None:
        raise UsageError("mcq takes limit=... itself, as lm-eval counts it; got it in options.")
    if tuned is not None and not final_norm:
        raise UsageError("--no-final-norm goes with the logit lens; a tuned lens was trained with the final norm.")
    asked = HarnessOptions(
        num_fewshot=num_fewshot,
        limit=limit if limit is None or limit < 1 or limit != int(limit) else int(limit),
        include_path=tuple(_listed(include_path)),
        max_length=max_length,
        bos=options.bos,
        cache_requests=cache_requests,
        bars=options.progress,
    )
    names = _listed(tasks)
    if not names:
        raise UsageError("--task: expected at least one task, such as arc_easy; got none.")
    (name,) = named(model)
    identified = identify_model(name, options.loading, directory=bundled_directory(name))
    files = None if tuned is None else read_tuned(tuned, identified)
    built = LmEvalTasks(names, identified.tokenizer, identified.config, asked)
    path = Path(out) if out is not None else Path("runs") / Path(name).resolve().name
    header = prepared_from([identified], [], path, options).header
    header = header.model_copy(update={"versions": {**header.versions, "lm-eval": version("lm-eval")}})
    settings = {**_asked(identified, names, asked, built.max_length), **_lens_settings(files, final_norm)}
    with open_experiment(path, header, NAME, settings, own_data=True) as writer:
        put = partial(_lens, files, identified, final_norm)
        likelihoods = LogLikelihoods(identified, path, put, _lens_settings(files, final_norm), options)
        key = {"model": identified.name, "revision": identified.revision, "lens": settings["lens"]}
        _write(writer, key, built, likelihoods, options)
        writer.update(status="finished")
    return writer.reading()


EXPERIMENT = Experiment(
    name="mcq",
    function=mcq,
    group="Downstream",
    answers=("scores",),
    view="thalweg.experiments._mcq.view",
)

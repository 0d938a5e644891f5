"""Multiple choice: how often every state chooses right, scored by lm-eval (the paper, Figs. 29 and 30)."""

from functools import partial
from importlib.metadata import version
from pathlib import Path

from thalweg.errors import UsageError
from thalweg.experiments._declared import Experiment
from thalweg.experiments._options import BUNDLED_MODEL, Names, SurveyOptions
from thalweg.store import Findings, open_findings, tables_of


def mcq(
    model: str | Path = BUNDLED_MODEL,
    tasks: Names = "arc_easy",
    *,
    num_fewshot: int | None = None,
    limit: int | float | None = None,
    include_path: Names = (),
    max_length: int | None = None,
    cache_requests: str | None = None,
    tuned: str | Path | None = None,
    final_norm: bool = True,
    out: str | Path | None = None,
    options: SurveyOptions | None = None,
) -> Findings:
    """Let every state of a model choose, and have lm-evaluation-harness score each of them.

    Tasks, prompts, tokens and scores are lm-eval's own, and the last state's are those of the model. Every input goes
    through the model once for all states; its log-likelihoods stay in the run, so that what was asked before costs no
    forward pass. They are computed in float32 from the model's logits, whatever its dtype.

    Args:
        model: hub id or directory; "reference" is the model that comes with thalweg.
        tasks: lm-eval's tasks, groups, tags or patterns, or YAML files of tasks.
        num_fewshot: solved examples before each question; by default what the task says.
        limit: first questions of each task; below 1 a share of them.
        include_path: directories with tasks of one's own.
        max_length: longest request in tokens, cut at the left; by default what lm-eval takes for the model.
        cache_requests: lm-eval's own cache of prompts: "true", "refresh" or "delete".
        tuned: a tuned lens instead of the logit lens, as for :func:`lens`.
        final_norm: False leaves the final norm out of the logit lens.
        out: the run directory; ``runs/<model>`` by default. A run of the same model is joined.
        options: of a survey's, ``bos``, ``batch_tokens``, ``batch_size``, ``progress`` and how the model is loaded.

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

    options = options or SurveyOptions()
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
    prepared = prepared_from([identified], [], path, options)
    versions = {**prepared.session.versions, "lm-eval": version("lm-eval")}
    session = prepared.session.model_copy(update={"versions": versions})
    settings = {**_asked(identified, names, asked, built.max_length), **_lens_settings(files, final_norm)}
    header, tables = prepared.header, tables_of(NAME)
    with open_findings(path, header, NAME, settings, tables, session=session, joins="models") as writer:
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

"""MTEB: how good an embedding every state is (the paper, Fig. 32), each text being read by the model once."""

import shutil
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from thalweg.experiments._declared import Experiment
from thalweg.experiments._options import BUNDLED_MODEL, SurveyOptions
from thalweg.store import Findings, open_findings, slug, tables_of


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
    from thalweg.capture import identify_model
    from thalweg.experiments._features import TextFeatures
    from thalweg.experiments._mteb.harness import StateScore, mteb_tasks
    from thalweg.experiments._mteb.measure import CACHE, NAME, _scored, _write
    from thalweg.experiments._over_prompts import loaded
    from thalweg.experiments._prepare import named, prepared_from
    from thalweg.reference import bundled_directory

    options = SurveyOptions() if options is None else options
    chosen = mteb_tasks(tasks, languages)
    (name,) = named(model)
    identified = identify_model(name, options.loading, directory=bundled_directory(name))
    path = Path(out) if out is not None else Path("runs") / Path(name).resolve().name
    prepared = prepared_from([identified], [], path, options)
    subject = cache(lambda: loaded(identified))

    def measured(directory: Path) -> TextFeatures:
        return TextFeatures(identified, directory, pooling=pooling, options=options, subject=subject)

    settings = {
        "model": identified.name,  # the run may hold other models
        "revision": identified.revision,
        "tasks": [task.metadata.name for task in chosen],
        "languages": [*languages],
        "pooling": pooling,
        "max_length": options.max_length,
    }
    kept = measured(path)  # an unknown pooling is refused before anything is written
    versions = {**prepared.session.versions, NAME: version(NAME)}
    session = prepared.session.model_copy(update={"versions": versions})
    header, tables = prepared.header, tables_of(NAME)
    with open_findings(path, header, NAME, settings, tables, session=session, joins="models") as writer:
        scores = list[StateScore]()
        for task in chosen:
            directory = path if keep_features else path / NAME / slug(task.metadata.name)
            features = kept if keep_features else measured(directory)
            scores += _scored(task, identified, features, path / NAME / CACHE, options)
            _write(writer, identified, scores)
            if not keep_features:
                shutil.rmtree(directory, ignore_errors=True)
        writer.update(status="finished")
    return writer.reading()


EXPERIMENT = Experiment(
    name="mteb",
    function=mteb,
    group="Downstream",
    answers=("scores", "tasks", "means"),
    view="thalweg.experiments._mteb.view",
)

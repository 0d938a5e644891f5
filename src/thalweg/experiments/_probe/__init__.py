"""Probes: what a linear classifier reads out of every state (the paper, Figs. 8 and 31)."""

from pathlib import Path

from thalweg.errors import DataError
from thalweg.experiments._declared import Experiment
from thalweg.experiments._options import BUNDLED_MODEL, SurveyOptions
from thalweg.experiments._probe.recipe import Recipe
from thalweg.store import Findings, open_findings, tables_of


def probe(
    model: str | Path = BUNDLED_MODEL,
    data: str | Path = "",
    *,
    validation: str | Path | None = None,
    test: str | Path | None = None,
    label_field: str | None = None,
    pair: bool = False,
    pooling: str = "mean",
    recipe: Recipe | None = None,
    out: str | Path | None = None,
    options: SurveyOptions | None = None,
) -> Findings:
    """Train a linear classifier on every state of a model and say how often each is right.

    A text's features at all states come from one forward pass and stay in the run, so that another classifier, or
    another seed, costs none. The model stays as it is.

    Args:
        model: hub id or directory.
        data: the training data, a .jsonl, .parquet or .tsv file or a data set on the hub; "sst2", "arc-easy",
            "arc-challenge", "hellaswag" and "winogrande" have their splits. Without ``test`` it is shared out.
        validation: the validation data.
        test: the test data.
        label_field: the field of the class.
        pair: read a question with one option at a time, and answer with the option that scores most.
        pooling: "mean" over a text's tokens, or its "last" token.
        recipe: how the classifiers are trained; the paper's by default.
        out: the run directory; ``runs/<model>`` by default. A run of the same model is joined.
        options: as for a survey; ``limit`` is of each split.

    Returns:
        The experiment, for reading: tables ``accuracy``, by split and state with Wilson's 95% interval, and ``splits``.

    Raises:
        UsageError: something cannot be used; the message says what to do.

    Example:
        >>> found = probe("openai-community/gpt2", "sst2")  # doctest: +SKIP
        >>> found.table("accuracy").filter(split="test").collect()["accuracy"].to_list()  # doctest: +SKIP
    """
    from thalweg.capture import identify_model
    from thalweg.experiments._features import TextFeatures
    from thalweg.experiments._prepare import named, prepared_from
    from thalweg.experiments._probe.data import probe_data
    from thalweg.experiments._probe.logistic import require_scikit_learn
    from thalweg.experiments._probe.measure import NAME, _asked, _fill
    from thalweg.reference import bundled_directory

    recipe, options = recipe or Recipe(), options or SurveyOptions()
    if recipe.classifier == "logistic":
        require_scikit_learn()
    if not str(data):
        raise DataError("--data: expected labelled data, such as sst2, or a .tsv or .jsonl file; got none.")
    labelled = probe_data(
        str(data),
        validation=None if validation is None else str(validation),
        test=None if test is None else str(test),
        text_field=options.text_field,
        label_field=label_field,
        pair=pair,
        limit=options.limit,
        seed=recipe.seed,
    )
    (name,) = named(model)
    identified = identify_model(name, options.loading, directory=bundled_directory(name))
    path = Path(out) if out is not None else Path("runs") / Path(name).resolve().name
    prepared = prepared_from([identified], [], path, options)
    measured = TextFeatures(identified, path, pooling=pooling, options=options)
    key = {"model": identified.name, "revision": identified.revision}
    settings = {**key, **_asked(recipe), "pooling": pooling, "max_length": options.max_length, **labelled.identity}
    header, tables, session = prepared.header, tables_of(NAME), prepared.session
    with open_findings(path, header, NAME, settings, tables, session=session, joins="models") as writer:
        if writer.missing:
            _fill(writer, {**key, "data": labelled.name}, labelled, measured, recipe, options)
        writer.update(status="finished")
    return writer.reading()


EXPERIMENT = Experiment(
    name="probe",
    function=probe,
    group="Downstream",
    answers=("splits", "accuracy"),
    view="thalweg.experiments._probe.view",
)

"""Probes: what a linear classifier reads out of every state (the paper, Figs. 8 and 31)."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from thalweg.errors import DataError
from thalweg.experiments._declared import Experiment
from thalweg.experiments._options import BUNDLED_MODEL, FLATTENED, ExampleOptions, survey_options
from thalweg.experiments._probe.recipe import Recipe
from thalweg.experiments._probe.tables import TABLES
from thalweg.options import Switch
from thalweg.store import Findings


def probe(
    model: str | Path = BUNDLED_MODEL,
    data: Annotated[str | Path, Parameter(name=("--data", "--train"), show_default=False)] = "",
    *,
    validation: str | Path | None = None,
    test: str | Path | None = None,
    label_field: str | None = None,
    pair: Switch = False,
    pooling: Annotated[str, Parameter(choices=("mean", "last"))] = "mean",
    recipe: Annotated[Recipe | None, FLATTENED] = None,
    out: str | Path | None = None,
    options: ExampleOptions | None = None,
) -> Findings:
    """Train a linear classifier on every state, and say how often each is right.

    A text's features at all states come from one forward pass and stay in the run, so that another classifier, or
    another seed, costs none. The model stays as it is. Questions with options are read with all of them, lettered, and
    the class is the index of the right one. The paper: Figs. 8 and 31.

    On the command line:

        thalweg probe --data sst2

        thalweg probe EleutherAI/pythia-410m --train train.tsv --test test.tsv --validation dev.tsv

        thalweg probe --data arc_easy_train.jsonl --test arc_easy_test.jsonl --pair

        thalweg probe --data reviews.jsonl --label-field stars --classifier logistic

    Args:
        model: hub id or directory; "reference" is the model that comes with thalweg.
        data: labelled training data: "sst2", "arc-easy", "arc-challenge", "hellaswag" or "winogrande", a .jsonl,
            .parquet or .tsv file, or a hub data set. Without ``test`` a file is shared out: 80% train, 10% validation,
            10% test.
        validation: labelled validation data, beside ``test``.
        test: labelled test data.
        label_field: field of the class; by default label, and of a .tsv file without a header its last column.
        pair: read a question with one option at a time; the option that scores most is the answer.
        pooling: a text's features: "mean" over its tokens, or its "last" token.
        recipe: how the classifiers are trained; the paper's by default.
        out: the run directory, ``runs/<model>`` by default; a run of the same model is joined.
        options: which texts, ``limit`` being of each split, how they go through the model, and how it is loaded.

    Returns:
        The experiment, for reading: tables ``accuracy``, by split and state with Wilson's 95% interval, and ``splits``.

    Raises:
        UsageError: something cannot be used; the message says what to do.

    Example:
        >>> found = probe("openai-community/gpt2", "sst2")  # doctest: +SKIP
        >>> found.table("accuracy").filter(split="test").collect()["accuracy"].to_list()  # doctest: +SKIP
    """
    from thalweg.experiments._prepare import prepare
    from thalweg.experiments._probe.data import probe_data
    from thalweg.experiments._probe.logistic import require_scikit_learn
    from thalweg.experiments._probe.measure import NAME, probed

    recipe, options = recipe or Recipe(), survey_options(options)
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
    prepared = prepare(model, own_data=True, out=out, options=options).of_one_model(NAME)
    return probed(prepared, labelled, recipe, pooling=pooling)


EXPERIMENT = Experiment(
    name="probe",
    tables={"probe": TABLES},
    function=probe,
    group="Downstream",
    answers=("splits", "accuracy"),
    view="thalweg.experiments._probe.view",
)

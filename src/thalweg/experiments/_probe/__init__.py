"""Probes: what a linear classifier reads out of every state (the paper, Figs. 8 and 31)."""

from pathlib import Path
from typing import Annotated, Literal, Unpack

import polars as pl
from cyclopts import Parameter
from pydantic import Field

import thalweg.experiments._columns as shared
from thalweg.errors import DataError
from thalweg.experiments._called import takes_options
from thalweg.experiments._columns import FLAG, NUMBER, SMALL, TEXT, WHOLE
from thalweg.experiments._declared import Experiment
from thalweg.experiments._keywords import ExampleKeywords, RecipeKeywords
from thalweg.experiments._options import BUNDLED_MODEL, DATA, FLATTENED, ExampleOptions, Model, Rows, survey_options
from thalweg.names import MODEL
from thalweg.options import Switch
from thalweg.store import Column, Findings, Table, Tables
from thalweg.validated import Says, validated

COUNT = Field(ge=1)


@validated
class Recipe:
    """The paper's (Appendix B.3): Adam with PyTorch's defaults, no weight decay, one epoch.

    Attributes:
        classifier: a "linear" layer trained by Adam, or scikit-learn's "logistic", which takes the seed alone.
        learning_rate: of Adam.
        epochs: how often every example is seen.
        batch: examples of a step.
        seed: of the starting weights, the order of the examples, and the shares of a file.
        standardize: give every feature mean 0 and standard deviation 1 over the training examples, state by state.
    """

    classifier: Annotated[
        Literal["linear", "logistic"], Says("--classifier must be linear or logistic; got {got}.")
    ] = "linear"
    learning_rate: Annotated[
        float, Field(gt=0, allow_inf_nan=False), Says("--learning-rate must be above 0 and finite; got {got}.")
    ] = 5e-4
    epochs: Annotated[int, COUNT, Says("--epochs must be a whole number of at least 1; got {got}.")] = 1
    batch: Annotated[int, COUNT, Says("--batch must be a whole number of at least 1; got {got}.")] = 32
    seed: Annotated[
        int, Field(ge=0, lt=2**32), Says(f"--seed must be a whole number from 0 to {2**32 - 1}; got {{got}}.")
    ] = 123
    standardize: Switch = False


class ProbeKeywords(ExampleKeywords, RecipeKeywords, total=False):
    """What both say."""


@takes_options
def probe(
    model: Annotated[Model, MODEL] = BUNDLED_MODEL,
    data: Annotated[str | Path | Rows, DATA, Parameter(name=("--data", "--train"), show_default=False)] = "",
    *,
    validation: Annotated[str | Path | Rows | None, DATA] = None,
    test: Annotated[str | Path | Rows | None, DATA] = None,
    label_field: str | None = None,
    pair: Switch = False,
    pooling: Annotated[str, Parameter(choices=("mean", "last"))] = "mean",
    recipe: Annotated[Recipe | None, FLATTENED] = None,
    out: str | Path | None = None,
    options: ExampleOptions | None = None,
    **_: Unpack[ProbeKeywords],
) -> Findings:
    """Train a linear classifier on every state, and say how often each is right.

    A text's features at all states come from one forward pass and stay in the run, so that another classifier, or
    another seed, costs none. The model stays as it is. Questions with options are read with all of them, lettered, and
    the class is the index of the right one. Where a massive row makes features large, the paper's recipe may not
    converge: it is said at which states, and ``standardize`` or the classifier "logistic" read what is there. The
    paper: Figs. 8 and 31.

    On the command line:

        thalweg probe --data sst2

        thalweg probe EleutherAI/pythia-410m --train train.tsv --test test.tsv --validation dev.tsv

        thalweg probe --data arc_easy_train.jsonl --test arc_easy_test.jsonl --pair

        thalweg probe --data reviews.jsonl --label-field stars --classifier logistic --standardize

    Args:
        model: hub id, directory or GGUF file; "reference" is the model that comes with thalweg. A run
            stands for its model. In Python also a loaded transformers model, with its
            ``tokenizer``.
        data: labelled training data: "sst2", "arc-easy", "arc-challenge", "hellaswag" or "winogrande", a .jsonl,
            .parquet or .tsv file, or a hub data set; in Python also a frame, a ``datasets.Dataset`` or a list of
            records, as ``validation`` and ``test`` may be. Without ``test`` a file is shared out: 80% train, 10%
            validation, 10% test.
        validation: labelled validation data, beside ``test``.
        test: labelled test data.
        label_field: field of the class; by default label, and of a .tsv file without a header its last column.
        pair: read a question with one option at a time; the option that scores most is the answer.
        pooling: a text's features: "mean" over its tokens, or its "last" token.
        recipe: how the classifiers are trained; the paper's by default.
        out: the run directory, ``runs/<model>`` by default; a run of the same model is joined, and what is not
            asked of how the model is loaded is the run's.
        options: which texts, ``limit`` being of each split, how they go through the model, and how it is loaded.

    Returns:
        The experiment, for reading: tables ``accuracy``, by split and state with Wilson's 95% interval, ``answers``
        (which question each state has right) and ``splits``.

    Raises:
        UsageError: something cannot be used; the message says what to do.

    Example:
        >>> found = probe("openai-community/gpt2", "sst2")  # doctest: +SKIP
        >>> found.table("accuracy").filter(split="test").collect()["accuracy"].to_list()  # doctest: +SKIP
    """
    from thalweg.experiments._prepare import prepare
    from thalweg.experiments._probe.classifiers import require_scikit_learn
    from thalweg.experiments._probe.data import probe_data
    from thalweg.experiments._probe.measure import NAME, probed

    recipe, options = recipe or Recipe(), survey_options(options)
    if recipe.classifier == "logistic":
        require_scikit_learn()
    if isinstance(data, str) and not data:
        raise DataError("--data: expected labelled data, such as sst2, or a .tsv or .jsonl file; got none.")
    labelled = probe_data(
        str(data) if isinstance(data, Path) else data,
        validation=validation,
        test=test,
        text_field=options.text_field,
        label_field=label_field,
        pair=pair,
        limit=options.limit,
        seed=recipe.seed,
    )
    prepared = prepare(model, data_of="none", out=out, options=options).of_one_model(NAME)
    return probed(prepared, labelled, recipe, pooling=pooling)


SPLIT = Column("split", TEXT, "`train`, `validation` or `test`")
SPLITS = (
    *shared.DATA_KEY,
    SPLIT,
    Column("source", TEXT, "what the split was read from, or a share of what"),
    Column("rows", WHOLE, "rows of the data that were read for it", "rows"),
    Column("examples", WHOLE, "texts with a class and with tokens; of pairs one for each option", "texts"),
    Column("questions", WHOLE, "questions among them; null where rows are no questions", "questions"),
    Column("skipped", TEXT, "rows that gave no example, by reason"),
    Column("classes", SMALL, "how many classes there are", "classes"),
    Column(
        "chance",
        NUMBER,
        "accuracy of guessing: 1 over the classes, or the mean of 1 over the options of each question",
        "share",
    ),
    Column(
        "majority",
        NUMBER,
        "accuracy of always giving the most frequent class of the training split; NaN for pairs",
        "share",
    ),
)
ACCURACY = (
    *shared.DATA_KEY,
    SPLIT,
    shared.STATE,
    Column("accuracy", NUMBER, "share of right answers; NaN where a feature of the state is not finite", "share"),
    Column("low", NUMBER, "lower end of Wilson's 95% interval of `accuracy`", "share"),
    Column("high", NUMBER, "upper end of the interval that `low` begins", "share"),
    Column("n", WHOLE, "answers: examples, or questions where they are read in pairs", "answers"),
    Column("loss", NUMBER, "mean cross entropy of the classifier over the examples, in nats", "nats"),
    Column(
        "converged",
        FLAG,
        "false where the classifier is none: the test loss of a layer trained by Adam is above ln(classes), what a "
        "uniform guess costs, or scikit-learn's fit ended early; null where it is undefined",
    ),
)
ANSWERS = (
    *shared.DATA_KEY,
    SPLIT,
    Column("row", WHOLE, "0-based row number in the data as read"),
    Column("right", pl.List(pl.Boolean()), "whether it is answered rightly, by state from 0 to L"),
)
TABLES = Tables(
    wholes={
        "splits": Table("one split", SPLITS),
        "answers": Table("one example, or question where they are read in pairs, of validation and test", ANSWERS),
        "accuracy": Table("one split and state", ACCURACY),
    }
)


EXPERIMENT = Experiment(
    name="probe",
    tables={"probe": TABLES},
    function=probe,
    group="Downstream",
    answers=("splits", "accuracy"),
    view="thalweg.experiments._probe.view",
)

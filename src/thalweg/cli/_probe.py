"""``thalweg probe``."""

from typing import Annotated, Any, Literal

import typer

from thalweg.cli._experiment import print_experiment, say_run
from thalweg.cli._options import DEFAULT_MODEL, LOADING, MEASURING, AsJson, Model, Out, Shared, sharing
from thalweg.cli._tables import print_table, printable

READING = {name: MEASURING[name] for name in ("text_field", "limit", "max_length", "bos")}
BATCHES = {name: MEASURING[name] for name in ("batch_tokens", "batch_size")}


@sharing({**READING, **LOADING, **BATCHES})
def probe(
    model: Model = DEFAULT_MODEL,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            "--train",
            help="Labelled training data: sst2, arc-easy, arc-challenge, hellaswag, winogrande, a .jsonl, .parquet or "
            ".tsv file, or a hub data set. Without --test a file is shared out: 80% train, 10% validation, 10% test.",
        ),
    ] = "",
    test: Annotated[str | None, typer.Option(help="Labelled test data.")] = None,
    validation: Annotated[str | None, typer.Option(help="Labelled validation data, beside --test.")] = None,
    label_field: Annotated[
        str | None,
        typer.Option(help="Field of the class. Default: label; of a .tsv without a header its last column."),
    ] = None,
    pair: Annotated[
        bool, typer.Option("--pair", help="Read a question with one option at a time; the best-scored one answers.")
    ] = False,
    pooling: Annotated[
        Literal["mean", "last"], typer.Option(help="A text's features: mean over its tokens, or its last token.")
    ] = "mean",
    classifier: Annotated[
        Literal["linear", "logistic"], typer.Option(help="A linear layer trained by Adam, or scikit-learn's logistic.")
    ] = "linear",
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = 5e-4,
    epochs: Annotated[int, typer.Option(help="How often every example is seen.")] = 1,
    batch: Annotated[int, typer.Option(help="Examples of a step.")] = 32,
    seed: Annotated[int, typer.Option(help="Of starting weights, order of examples, and shares of a file.")] = 123,
    out: Out = None,
    *,
    shared: Shared,
    as_json: AsJson = False,
) -> None:
    """Train a linear classifier on every state, and say how often each is right.

    Examples:
        thalweg probe --data sst2

        thalweg probe EleutherAI/pythia-410m --train train.tsv --test test.tsv --validation dev.tsv

        thalweg probe --data arc_easy_train.jsonl --test arc_easy_test.jsonl --pair

        thalweg probe --data reviews.jsonl --label-field stars --classifier logistic

    Each text is read once, for all states; another classifier on the same texts reads none. Questions with options are
    read with all of them, lettered, and the class is the index of the right one. Joins a run of the same model, or
    makes one. The paper: Figs. 8 and 31.
    """
    from thalweg.experiments import SurveyOptions  # torch is loaded here and not for --help
    from thalweg.experiments import probe as run_probe
    from thalweg.experiments._probe.recipe import Recipe

    found = run_probe(
        model,
        data,
        validation=validation,
        test=test,
        label_field=label_field,
        pair=pair,
        pooling=pooling,
        recipe=Recipe(classifier, learning_rate, epochs, batch, seed),
        out=out,
        options=SurveyOptions(**shared),
    )
    if as_json:
        print_experiment(found, [_answer(found)], ("splits", "accuracy"))
    else:
        _print(found)


def _answer(found: Any) -> str:
    from thalweg.figures import probe_answer
    from thalweg.store import open_run

    return probe_answer(open_run(found.run), found)


def _print(found: Any) -> None:
    from thalweg.figures import PROBE_COLUMNS, probe_facts, probe_levels, probe_table

    levels = ", ".join(f"{name} {value:.3f}" for name, value in probe_levels(found).items())
    data = found.table("splits").select("data").collect()["data"][0]
    title = f"{found.header.settings['model']} on {data}: accuracy by state; {levels}"
    print_table(PROBE_COLUMNS, probe_table(found), title=title)
    typer.echo()
    typer.echo(printable(f"{_answer(found)}."))
    typer.echo(printable(f"{probe_facts(found)}."))
    say_run(found)

"""``thalweg mteb``."""

from typing import Annotated, Any, Literal

import typer

from thalweg.cli._experiment import print_experiment, say_run
from thalweg.cli._options import DEFAULT_MODEL, LOADING, MEASURING, AsJson, Model, Out, Shared, sharing
from thalweg.cli._tables import print_table, printable

READING = {name: MEASURING[name] for name in ("max_length", "bos")}
BATCHES = {name: MEASURING[name] for name in ("batch_tokens", "batch_size")}


@sharing({**READING, **LOADING, **BATCHES})
def mteb(
    model: Model = DEFAULT_MODEL,
    tasks: Annotated[
        str, typer.Option(help="MTEB's names, joined by commas; skean32 stands for the paper's 32 English tasks.")
    ] = "skean32",
    languages: Annotated[str, typer.Option(help="Three-letter codes, joined by commas, or all.")] = "eng",
    pooling: Annotated[
        Literal["mean", "last"], typer.Option(help="A text's embedding: mean over its tokens, or its last token.")
    ] = "mean",
    forget: Annotated[
        bool, typer.Option("--forget", help="Remove a task's embeddings from the disk once all states are scored.")
    ] = False,
    out: Out = None,
    *,
    shared: Shared,
    as_json: AsJson = False,
) -> None:
    """Score every state as an embedding on tasks of MTEB.

    Examples:
        thalweg mteb EleutherAI/pythia-410m --tasks Banking77Classification,STS12

        thalweg mteb EleutherAI/pythia-410m --tasks skean32 --forget --out runs/pythia-410m

    Each text is read once, for all states; mteb then evaluates every state, and what it has evaluated it does not
    evaluate again. Embeddings take 4 bytes x width x states a text on the disk. Joins a run of the same model, or makes
    one. The paper: Fig. 32.
    """
    from thalweg.experiments import SurveyOptions  # torch is loaded here and not for --help
    from thalweg.experiments import mteb as run_mteb

    wanted = [code.strip() for code in languages.split(",") if code.strip()]
    found = run_mteb(
        model,
        tasks,
        languages=() if wanted == ["all"] else wanted,
        pooling=pooling,
        keep_features=not forget,
        out=out,
        options=SurveyOptions(**shared),
    )
    if as_json:
        print_experiment(found, [_answer(found)], ("scores", "tasks", "means"))
    else:
        _print(found)


def _answer(found: Any) -> str:
    from thalweg.figures import mteb_answer
    from thalweg.store import open_run

    return mteb_answer(open_run(found.run), found)


def _print(found: Any) -> None:
    from thalweg.figures import mteb_facts, mteb_model, mteb_table

    columns, rows = mteb_table(found)
    print_table(columns, rows, title=f"{mteb_model(found)[0]}: mean main score by state")
    typer.echo()
    typer.echo(printable(f"{_answer(found)}."))
    typer.echo(printable(f"{mteb_facts(found)}."))
    say_run(found)

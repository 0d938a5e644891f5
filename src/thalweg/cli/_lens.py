"""``thalweg lens``."""

from typing import Annotated, Any

import typer

from thalweg.cli._experiment import print_experiment, say_run
from thalweg.cli._options import DEFAULT_MODEL, MEASURING, AsJson, Data, Model, NoFinalNorm, Out, Shared, Tuned, sharing
from thalweg.cli._tables import print_json, print_table, printable


@sharing(MEASURING)
def lens(
    model: Model = DEFAULT_MODEL,
    data: Data = None,
    tuned: Tuned = None,
    train_tuned: Annotated[
        bool, typer.Option("--train-tuned", help="Train a tuned lens on the data, and read nothing.")
    ] = False,
    steps: Annotated[int, typer.Option(help="Steps of --train-tuned.")] = 250,
    step_tokens: Annotated[
        int, typer.Option(help="Tokens of a step of --train-tuned; the published lenses took 262144.")
    ] = 16384,
    learning_rate: Annotated[float, typer.Option(help="Of --train-tuned, at the first step; falls to 0.")] = 1.0,
    no_final_norm: NoFinalNorm = False,
    blocks: Annotated[
        bool | None,
        typer.Option(
            "--blocks/--no-blocks",
            help="Join the rows and cut the text into blocks, or score row by row. Default: blocks for .txt files and "
            "wikitext2. With blocks, --limit counts them.",
        ),
    ] = None,
    block_length: Annotated[
        int | None, typer.Option(help="Tokens of a block. Default: the model's context, 2048 where it has none.")
    ] = None,
    out: Out = None,
    *,
    shared: Shared,
    as_json: AsJson = False,
) -> None:
    """Read every state as a prediction of the next token: perplexity, entropy, agreement with the last state.

    Examples:
        thalweg lens

        thalweg lens EleutherAI/pythia-410m --data wikitext2 --out runs/pythia-410m

        thalweg lens EleutherAI/pythia-410m --data wikitext2 --tuned AlignmentResearch/tuned-lens

        thalweg lens MODEL --train-tuned --data train.jsonl --steps 250 --out runs/x

    Joins the run of a survey with the same options, or makes a run of its own. The paper: Figs. 8 and 28.
    """
    from thalweg.experiments import SurveyOptions  # torch is loaded here and not for --help
    from thalweg.experiments import lens as read_lens

    reading = {"blocks": blocks, "block_length": block_length, "out": out, "options": SurveyOptions(**shared)}
    where = data or ["bundled"]
    if train_tuned:
        training = {"steps": steps, "step_tokens": step_tokens, "learning_rate": learning_rate}
        _refuse_both(tuned, no_final_norm=no_final_norm)
        _train(model, where, {**training, **reading}, as_json=as_json)
        return
    found = read_lens(model, where, tuned=tuned, final_norm=not no_final_norm, **reading)
    if as_json:
        from thalweg.figures import lens_answers

        print_experiment(found, lens_answers(found), ("curves",))
    else:
        _print(found)


def _refuse_both(tuned: str | None, *, no_final_norm: bool) -> None:
    from thalweg.errors import UsageError

    if tuned is not None or no_final_norm:
        other = "--no-final-norm" if no_final_norm else "--tuned"
        raise UsageError(f"--train-tuned trains a lens and {other} is about reading one; run them one after the other.")


def _train(model: str, data: list[str], options: dict[str, Any], *, as_json: bool) -> None:
    from thalweg.experiments import train_tuned, trained_lens

    found = train_tuned(model, data, **options)
    losses, place = found.table("training").collect(), trained_lens(found)
    ends = losses.filter((losses["step"] == 0) | (losses["step"] == losses["step"].max()))
    if as_json:
        settings = found.header.settings
        print_json({"lens": str(place), "settings": settings, "training": ends.to_dicts()})
        return
    steps = ends["step"].unique().sort().to_list()
    rows = [[state, *own["kl"]] for (state,), own in ends.sort("state", "step").group_by("state", maintain_order=True)]
    print_table(["state", *(f"KL at step {step}" for step in steps)], rows, title="KL to the last state, nats")
    typer.echo()
    typer.echo(printable(f"lens: {place}    use it: thalweg lens {model} --tuned {place}"))


def _print(found: Any) -> None:
    from thalweg.figures import LENS_COLUMNS, lens_answers, lens_table

    for (title, rows), answer in zip(lens_table(found), lens_answers(found), strict=True):
        print_table(LENS_COLUMNS, rows, title=title)
        typer.echo()
        typer.echo(printable(f"{answer}."))
        typer.echo()
    say_run(found)

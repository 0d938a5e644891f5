"""``thalweg clip``."""

from typing import Annotated, Any

import typer

from thalweg.cli._experiment import print_experiment, say_run
from thalweg.cli._options import DEFAULT_MODEL, MEASURING, AsJson, Data, Model, Out, Shared, sharing
from thalweg.cli._tables import print_table, printable


@sharing(MEASURING)
def clip(
    model: Model = DEFAULT_MODEL,
    data: Data = None,
    gamma: Annotated[
        str | None,
        typer.Option(
            help="Largest magnitudes to leave, as 10,100 or a log grid 1:1000:13. Default: 13 from the largest "
            "ordinary coordinate of the sink's row to its largest massive one."
        ),
    ] = None,
    states: Annotated[str | None, typer.Option(help="States to clamp, as 2-6. Default: after every block.")] = None,
    massive_only: Annotated[bool, typer.Option("--massive-only", help="Clamp the massive coordinates alone.")] = False,
    out: Out = None,
    *,
    shared: Shared,
    as_json: AsJson = False,
) -> None:
    """Clamp the sink token's row to [-gamma, gamma], and measure entropy, sinks and loss against gamma.

    Examples:
        thalweg clip

        thalweg clip --gamma 1:1000:13

        thalweg clip EleutherAI/pythia-410m --gamma 10,100 --states 2-6 --massive-only --data gsm8k --limit 100

    Joins the run of a survey with the same options, or makes a run of its own. The paper: Fig. 20.
    """
    from thalweg.experiments import SurveyOptions  # torch is loaded here and not for --help
    from thalweg.experiments import clip as run_clip
    from thalweg.figures import clip_answers

    found = run_clip(
        model,
        data or ["bundled"],
        gamma=gamma,
        states=states,
        massive_only=massive_only,
        out=out,
        options=SurveyOptions(**shared),
    )
    if as_json:
        print_experiment(found, clip_answers(found), ("sweeps", "curves"))
    else:
        _print(found)


def _print(found: Any) -> None:
    from thalweg.figures import CLIP_COLUMNS, clip_answers, clip_table

    for (title, rows), answer in zip(clip_table(found), clip_answers(found), strict=True):
        print_table(CLIP_COLUMNS, rows, title=title)
        typer.echo()
        typer.echo(printable(f"{answer}."))
        typer.echo()
    say_run(found)

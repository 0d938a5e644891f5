"""``thalweg ablate``."""

from typing import Annotated, Any

import typer

from thalweg.cli._experiment import print_experiment, say_run
from thalweg.cli._options import DEFAULT_MODEL, MEASURING, AsJson, Data, Model, Out, Shared, sharing
from thalweg.cli._tables import print_table, printable


@sharing(MEASURING)
def ablate(
    model: Model = DEFAULT_MODEL,
    data: Data = None,
    blocks: Annotated[
        str, typer.Option(help="Blocks whose MLPs to remove, as 0,5-7. auto: those that write the massive row.")
    ] = "auto",
    seeds: Annotated[int, typer.Option(help="How often each random control is drawn.")] = 3,
    out: Out = None,
    *,
    shared: Shared,
    as_json: AsJson = False,
) -> None:
    """Remove what some MLPs add to the sink token, and say whether compression and sinks go with it.

    Examples:
        thalweg ablate

        thalweg ablate EleutherAI/pythia-410m --blocks 0,5-7 --data gsm8k --limit 500 --out runs/pythia-410m

    Each block alone and all together, prompt by prompt against the model as it is. Negative controls (nothing, another
    position, other blocks) must leave both, positive ones (the sink's row rescaled; emptied) must remove them. Joins
    the run of a survey with the same options, or makes a run of its own. The paper: Figs. 4, 17, 18.
    """
    from thalweg.experiments import SurveyOptions  # torch is loaded here and not for --help
    from thalweg.experiments import ablate as run_ablation
    from thalweg.figures import ablation_answers

    options = SurveyOptions(**shared)
    found = run_ablation(model, data or ["bundled"], blocks=blocks, seeds=seeds, out=out, options=options)
    if as_json:
        print_experiment(found, ablation_answers(found), ("conditions", "verdicts", "effects"))
    else:
        _print(found)


def _print(found: Any) -> None:
    from thalweg.figures import ABLATION_COLUMNS, ablation_answers, ablation_table

    for (title, rows), answers in zip(ablation_table(found), ablation_answers(found), strict=True):
        print_table(ABLATION_COLUMNS, rows, title=title)
        typer.echo()
        for answer in answers:
            typer.echo(printable(f"{answer}."))
        typer.echo()
    say_run(found)

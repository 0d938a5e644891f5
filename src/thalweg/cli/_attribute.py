"""``thalweg attribute``."""

from typing import Any

import typer

from thalweg.cli._experiment import print_experiment, say_run
from thalweg.cli._options import DEFAULT_MODEL, MEASURING, AsJson, Data, Model, Out, Shared, sharing
from thalweg.cli._tables import print_table


@sharing(MEASURING)
def attribute(
    model: Model = DEFAULT_MODEL,
    data: Data = None,
    out: Out = None,
    *,
    shared: Shared,
    as_json: AsJson = False,
) -> None:
    """Say which block's attention or MLP writes the massive activation, and into which dimensions.

    Examples:
        thalweg attribute

        thalweg attribute EleutherAI/pythia-410m --data gsm8k --limit 500 --out runs/pythia-410m

    Joins the run of a survey with the same options, or makes a run of its own. The paper: Fig. 19.
    """
    from thalweg.experiments import SurveyOptions  # torch is loaded here and not for --help
    from thalweg.experiments import attribute as run_attribution
    from thalweg.figures import attribution_answers

    options = SurveyOptions(**shared)
    found = run_attribution(model, data or ["bundled"], out=out, options=options)
    if as_json:
        print_experiment(found, attribution_answers(found), ("writers", "attribution"))
    else:
        _print(found)


def _print(found: Any) -> None:
    from thalweg.figures import ATTRIBUTION_COLUMNS, attribution_answers, attribution_table

    for (title, rows), answer in zip(attribution_table(found), attribution_answers(found), strict=True):
        print_table(ATTRIBUTION_COLUMNS, rows, title=title)
        typer.echo()
        typer.echo(f"{answer}.")
    say_run(found)

"""``thalweg attribute``."""

from typing import Any

import typer

from thalweg.cli._options import DEFAULT_MODEL, MEASURING, AsJson, Data, Model, Out, Shared, sharing
from thalweg.cli._tables import print_json, print_table, say_planted

__all__ = ["attribute"]


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

    options = SurveyOptions(**shared)
    found = run_attribution(model, data or ["bundled"], out=out, options=options)
    if as_json:
        print_json(_summary(found))
    else:
        _print(found)


def _summary(found: Any) -> dict[str, Any]:
    from thalweg.figures import attribution_answers

    return {
        "run": str(found.directory.parent),
        "status": found.header.status,
        "coverage": [pair.model_dump() for pair in found.header.coverage],
        "answers": attribution_answers(found),
        "writers": found.table("writers").collect().to_dicts(),
        "attribution": found.table("attribution").collect().to_dicts(),
    }


def _print(found: Any) -> None:
    from thalweg.figures import ATTRIBUTION_COLUMNS, attribution_answers, attribution_table
    from thalweg.store import open_run

    for (title, rows), answer in zip(attribution_table(found), attribution_answers(found), strict=True):
        print_table(ATTRIBUTION_COLUMNS, rows, title=title)
        typer.echo()
        typer.echo(f"{answer}.")
    run = found.directory.parent
    say_planted(open_run(run).header.models)
    typer.echo(f"run: {run}    draw it: thalweg figures {run}")

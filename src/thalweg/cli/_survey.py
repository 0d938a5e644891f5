"""``thalweg survey``."""

from typing import Any

import typer

from thalweg.cli._options import (
    DEFAULT_MODEL,
    MEASURING,
    AsJson,
    Data,
    Engine,
    KeepText,
    Models,
    Out,
    Seed,
    Shared,
    Variants,
    sharing,
)
from thalweg.cli._tables import print_json, print_table, say_planted

BOUND_VIOLATED = 4


@sharing(MEASURING)
def survey(
    models: Models = None,
    data: Data = None,
    out: Out = None,
    *,
    shared: Shared,
    variants: Variants = False,
    keep_text: KeepText = False,
    engine: Engine = "local",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure every state and every attention head of MODEL on prompts, layer by layer.

    Examples:
        thalweg survey

        thalweg survey EleutherAI/pythia-410m --data gsm8k --limit 500

        thalweg survey ./model-a ./model-b --data prompts.jsonl --data notes.txt --out runs/two

    The paper's setting: --data gsm8k --max-length 1024 --tau 0.3. A run that was stopped goes on with the same command.
    """
    from thalweg.experiments import SurveyOptions  # torch is loaded here and not for --help
    from thalweg.experiments import survey as run_survey

    options = SurveyOptions(**shared, variants=variants, keep_text=keep_text, seed=seed, engine=engine)
    run = run_survey(models or [DEFAULT_MODEL], data or ["bundled"], out=out, options=options)
    if as_json:
        print_json(_summary(run))
    else:
        _print(run)
    held = max((pair.rows_read for pair in run.coverage), default=0)
    if shared["limit"] is not None and held > shared["limit"]:
        typer.echo(f"the run already held {held} rows; all of them are in its tables, whatever --limit says.", err=True)
    if run.bound_violations:
        raise typer.Exit(BOUND_VIOLATED)


def _summary(run: Any) -> dict[str, Any]:
    return {
        "run": str(run.path),
        "status": run.status,
        "bound_violations": run.bound_violations,
        "coverage": [pair.model_dump() for pair in run.coverage],
        "phases": run.phases.collect().to_dicts(),
        "coupling": run.coupling.collect().to_dicts(),
    }


def _print(run: Any) -> None:
    from thalweg.figures import DEPTH_COLUMNS, depth_table

    for title, rows in depth_table(run):
        print_table(list(DEPTH_COLUMNS), rows, title=title)
        typer.echo()
    if run.short_prompts:
        typer.echo(f"{run.short_prompts} prompts are too short for a sink rate: a uniform head passes tau.", err=True)
    if run.nonfinite_states:
        typer.echo(f"{run.nonfinite_states} states hold NaN or Inf; their rows carry NaN.", err=True)
    if run.bound_violations:
        typer.echo(f"{run.bound_violations} states violate a bound of the theory: please report it.", err=True)
    say_planted(run.header.models)
    typer.echo(f"run: {run.path}    look at it: thalweg report {run.path}")

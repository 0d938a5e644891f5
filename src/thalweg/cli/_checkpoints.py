"""``thalweg checkpoints``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from thalweg.cli._options import MEASURING, AsJson, Data, Engine, KeepText, Models, Seed, Shared, Variants, sharing
from thalweg.cli._survey import BOUND_VIOLATED
from thalweg.cli._tables import print_json, print_table, printable

PARTLY = 3


@sharing(MEASURING)
def checkpoints(
    models: Models = None,
    revisions: Annotated[
        list[str] | None, typer.Option(help="Checkpoints of MODEL on the hub, as step1,step1000. May be repeated.")
    ] = None,
    checkpoint_dir: Annotated[
        Path | None, typer.Option(help="Directory with checkpoint-100, step100, global_step100 and so on.")
    ] = None,
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Run directory; an existing one grows. Default: runs/MODEL-checkpoints, runs/MODEL-sizes."),
    ] = None,
    *,
    shared: Shared,
    variants: Variants = False,
    keep_text: KeepText = False,
    engine: Engine = "local",
    prefetch: Annotated[
        bool, typer.Option("--prefetch/--no-prefetch", help="Fetch the next checkpoint while this one is measured.")
    ] = True,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Survey MODEL's training checkpoints, or several MODELs of one family, and say when the phenomena emerge.

    Examples:
        thalweg checkpoints EleutherAI/pythia-410m --revisions step1,step1000,step8000,step143000 --data gsm8k --limit 1

        thalweg checkpoints --checkpoint-dir trained/ --out runs/trained

        thalweg checkpoints EleutherAI/pythia-70m EleutherAI/pythia-160m EleutherAI/pythia-410m --data gsm8k

    One model is in memory at a time; what is finished is not loaded again. A checkpoint that cannot be measured is
    named, the rest is measured, and the exit code is 3. Revisions stay in the hub's cache. The paper: Figs. 2, 12, 14.
    """
    from thalweg.experiments import SurveyOptions  # torch is loaded here and not for --help
    from thalweg.experiments import checkpoints as run_checkpoints

    options = SurveyOptions(**shared, variants=variants, keep_text=keep_text, seed=seed, engine=engine)
    found = run_checkpoints(
        models,
        revisions=None if revisions is None else [one for given in revisions for one in given.split(",")],
        checkpoint_dir=checkpoint_dir,
        data=data or ["bundled"],
        out=out,
        options=options,
        prefetch=prefetch,
    )
    if as_json:
        print_json(_summary(found))
    else:
        _print(found)
    for name, reason in found.missing.items():
        typer.echo(printable(f"{name} is not measured: {' '.join(reason.split())}"), err=True)
    for remark in _remarks(found.run):
        typer.echo(printable(remark), err=True)
    if found.run.bound_violations:
        raise typer.Exit(BOUND_VIOLATED)
    if found.missing:
        raise typer.Exit(PARTLY)


def _remarks(run: Any) -> list[str]:
    """What to know before curves are compared."""
    said = list[str]()
    for data in (one.name for one in run.header.data):
        kept = [pair.prompts_kept for pair in run.coverage if pair.data == data]
        if min(kept) < max(kept):
            said.append(
                f"on {data} some hold {min(kept)} prompts and some {max(kept)}: the same --limit for all makes them "
                "comparable."
            )
    if run.short_prompts:
        said.append(f"{run.short_prompts} prompts are too short for a sink rate: a uniform head passes tau.")
    if run.nonfinite_states:
        said.append(f"{run.nonfinite_states} states hold NaN or Inf; their rows carry NaN.")
    if run.bound_violations:
        said.append(f"{run.bound_violations} states violate a bound of the theory: please report it.")
    return said


def _summary(found: Any) -> dict[str, Any]:
    from thalweg.figures import checkpoint_answers

    experiment = found.run.experiments("checkpoints")[-1]
    return {
        "run": str(found.run.path),
        "status": found.run.status,
        "missing": dict(found.missing),
        "bound_violations": found.run.bound_violations,
        "coverage": [pair.model_dump() for pair in found.run.coverage],
        "answers": checkpoint_answers(experiment),
        "emergence": experiment.table("emergence").collect().to_dicts(),
        "curves": experiment.table("curves").collect().to_dicts(),
    }


def _print(found: Any) -> None:
    from thalweg.figures import checkpoint_answers, checkpoint_table

    experiment = found.run.experiments("checkpoints")[-1]
    for title, columns, rows in checkpoint_table(experiment):
        print_table(columns, rows, title=title)
        typer.echo()
    for answer in checkpoint_answers(experiment):
        typer.echo(printable(f"{answer}."))
    typer.echo(f"run: {found.run.path}    look at it: thalweg report {found.run.path}")

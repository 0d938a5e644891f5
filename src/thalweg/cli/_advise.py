"""``thalweg advise``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli._options import AsJson
from thalweg.cli._tables import print_json, printable, say_planted
from thalweg.errors import UsageError


def advise(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.")],
    cost: Annotated[str, typer.Option(help="Of an early exit, in per cent of what the last state reaches.")] = "1,5,10",
    as_json: AsJson = False,
) -> None:
    """Say which state to take for embeddings, and from which state on an early exit costs little.

    Examples:
        thalweg advise runs/pythia-410m

        thalweg advise runs/pythia-410m --cost 2,20

    Reads what the run holds, of survey, lens, mcq, probe and mteb, and measures nothing: what it cannot answer is
    named with the command that would measure it.
    """
    from thalweg.advice import advise as read_advice
    from thalweg.store import open_run

    opened = open_run(run)
    found = read_advice(opened, costs=_costs(cost))
    if as_json:
        print_json([asdict(one) for one in found])
        return
    for number, one in enumerate(found):
        if number:
            typer.echo()
        typer.echo(printable(f"{one.model}: {one.blocks} blocks; {one.phases}"))
        for answer in one.answers:
            typer.echo(printable(f"  {answer.question}: {answer.text}."))
        for missing in one.unanswered:
            typer.echo(printable(f"  {missing.question}: not measured. Run: {missing.command}"))
    say_planted(opened.header.models)


def _costs(given: str) -> list[float]:
    try:
        return [float(one) for one in given.split(",") if one.strip()]
    except ValueError as error:
        raise UsageError(f"--cost takes per cents above 0, such as 1,5,10; got {given}.") from error

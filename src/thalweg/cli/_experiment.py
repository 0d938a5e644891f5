"""What every verb that adds an experiment to a run prints: all of it as JSON, and where the run is."""

from collections.abc import Sequence
from typing import Any

import typer

from thalweg.cli._tables import print_json, printable, say_planted


def print_experiment(found: Any, answers: Sequence[Any], tables: Sequence[str]) -> None:
    """An experiment as JSON: what was asked, how far it came, what it answers, and its tables."""
    print_json(
        {
            "run": str(found.run),
            "status": found.header.status,
            "settings": found.header.settings,
            "coverage": [pair.model_dump() for pair in found.header.coverage],
            "answers": answers,
            **{name: found.table(name).collect().to_dicts() for name in tables},
        }
    )


def say_run(found: Any) -> None:
    """The last lines for a person: what has to be known of the model, and where the run is."""
    from thalweg.store import open_run

    run = found.run
    say_planted(open_run(run).header.models)
    typer.echo(printable(f"run: {run}    draw it: thalweg figures {run}"))

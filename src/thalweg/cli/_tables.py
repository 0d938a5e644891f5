"""What verbs print: tables and JSON as they are shown everywhere, and what to know of a model that was made up."""

from collections.abc import Iterable
from typing import Any

import typer

from thalweg.shown import print_json, print_table, printable

__all__ = ["print_json", "print_table", "printable", "say_planted"]


def say_planted(models: Iterable[Any]) -> None:
    """What has to be known of a bundled model before its numbers are believed, on stderr."""
    said = {model.name: model.planted for model in models if model.planted}
    for name, how in said.items():
        typer.echo(printable(f"{name} is a test model: {how}."), err=True)

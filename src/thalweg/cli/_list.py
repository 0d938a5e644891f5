"""``thalweg list``."""

from typing import Annotated, Literal

import typer

from thalweg.cli._tables import print_json, print_table


def listing(
    what: Annotated[
        Literal["metrics", "models", "data"], typer.Argument(metavar="metrics|models|data", help="What to list.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List every metric with its unit and range, the model families proved by tests, or the data sets by short name.

    Examples:
        thalweg list metrics
    """
    columns, rows = {"metrics": _metrics, "models": _models, "data": _data}[what]()
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)


def _metrics() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    from thalweg.catalogue import METRICS

    rows = [(one.name, one.site, one.unit, one.range, one.reads_as) for one in METRICS]
    return ("metric", "of", "unit", "range", "reads as"), rows


def _models() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    from thalweg.capture import PROVED

    return ("family", "attention seen through"), sorted(PROVED.items())


def _data() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    from thalweg.prompts import list_data

    rows = [
        (
            one.name,
            one.hub_id or "-",
            ", ".join(one.configs) or one.data_dir or "-",
            one.split,
            " + ".join(one.fields),
            "gated" if one.gated else "",
            one.note,
        )
        for one in list_data()
    ]
    return ("name", "hub id", "config", "split", "fields", "access", "note"), rows

"""How unequal are the tokens of a state? An experiment in one file, added to thalweg from outside."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import polars as pl
import torch

from thalweg import shown, store
from thalweg.experiments import (
    Data,
    Experiment,
    MeasuredPair,
    Model,
    PromptKeywords,
    PromptOptions,
    Reduced,
    loaded,
    measure_prompts,
    measured_pairs,
    prepare,
    read,
    shared_columns,
    takes_options,
    unfinished,
)
from thalweg.prompts import Prompt

SPREAD = store.Column("spread", pl.Float64(), "standard deviation over tokens of ln(row norm)", "nats")
PROMPTS = store.Table("one prompt and state", (*shared_columns.KEY, shared_columns.STATE, SPREAD), ("prompt", "state"))
MEANS = store.Table("one state", (*shared_columns.DATA_KEY, shared_columns.STATE, SPREAD))
TABLES = store.Tables(parts={"prompts": PROMPTS}, wholes={"means": MEANS})


@takes_options
def spread(
    model: Model = "reference",
    data: Data = "bundled",
    *,
    out: str | Path | None = None,
    options: PromptOptions | None = None,
    **_: Unpack[PromptKeywords],
) -> store.Findings:
    """Say how unequal the tokens of every state are: the standard deviation of the logarithms of their norms.

    Args:
        model: hub id or directory.
        data: as for a survey.
        out: the run directory, ``runs/<model>`` by default.
        options: as for a survey.
    """
    prepared = prepare(model, data, out=out, options=options).of_one_model("spread")
    with prepared.opened("spread", {}, TABLES) as writer:
        if unfinished(prepared, writer):
            subject = loaded(prepared.model)
            measure_prompts(prepared, writer, subject, partial(_measured, subject), _tables, title="spread")
        rows = writer.reading().table("prompts").group_by("model", "revision", "data", "state", maintain_order=True)
        writer.write_table("means", rows.agg(pl.col("spread").mean()).collect())
        writer.update(status="finished")
    return writer.reading()


def _measured(subject: Any, batch: Sequence[Prompt]) -> pl.DataFrame:
    spreads = Reduced(lambda _, seen: torch.stack([_spread(rows) for rows in seen.prompts]))
    read(subject, batch, spreads)
    rows = pl.DataFrame({"prompt": [prompt.row for prompt in batch], "spread": torch.stack(spreads.rows, 1).tolist()})
    return rows.with_columns(state=pl.int_ranges(len(spreads.rows))).explode("state", "spread")


def _spread(rows: torch.Tensor) -> torch.Tensor:
    return rows.double().norm(dim=-1).log().std(correction=0).cpu()


def _tables(_: Sequence[Prompt], results: list[pl.DataFrame], key: dict[str, str]) -> dict[str, pl.DataFrame]:
    rows = pl.concat(results) if results else pl.DataFrame(schema=["prompt", "state", "spread"])
    return {"prompts": rows.with_columns(pl.lit(value).alias(name) for name, value in key.items())}


def chapters(run: store.Run) -> Iterator[shown.Chapter]:
    """Show a sentence, a chart and a table for each model and data set."""
    yield shown.Chapter(
        "Spread of norms", "spread", [_section(each) for each in measured_pairs(run, "spread", "means")]
    )


def _section(measured: MeasuredPair) -> shown.Section:
    means = measured.table("means").select("state", "spread")
    state, most = means.sort("spread", descending=True).row(0)
    line = shown.Line("spread", means.rename({"state": "at", "spread": "mean"}))
    return shown.Section(
        measured.name,
        measured.stem,
        sentences=[
            f"Rows differ most at state {state}, where ln(norm) varies by {shown.number(most)} nats over tokens"
        ],
        panels=[shown.Panel("Spread of row norms", "state", "[nats]", (line,))],
        tables=[shown.Table(f"{measured.name}: spread of row norms", ("state", "spread [nats]"), means.rows())],
        key=measured.key,
    )


EXPERIMENT = Experiment("spread", {"spread": TABLES}, spread, "Measure", answers=("means",), view=__name__)

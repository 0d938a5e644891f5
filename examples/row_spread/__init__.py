"""How unequal are the tokens of a state? An experiment of one file, added to thalweg from outside."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import polars as pl
import torch

from thalweg.experiments import (
    Experiment,
    Names,
    PromptOptions,
    Reduced,
    loaded,
    measure_prompts,
    measured_pairs,
    prepare,
    read,
    shared_columns,
    unfinished,
)
from thalweg.prompts import Prompt
from thalweg.shown import Chapter, Line, Panel, Section, Table, number
from thalweg.store import Column, Findings, Run, Tables
from thalweg.store import Table as Columns

SPREAD = Column("spread", pl.Float64(), "standard deviation over tokens of ln(row norm)", "nats")
BY_PROMPT = Columns(
    "one prompt and state", (*shared_columns.KEY, shared_columns.STATE, SPREAD), order=("prompt", "state")
)
BY_STATE = Columns("one state", (*shared_columns.DATA_KEY, shared_columns.STATE, SPREAD))
TABLES = Tables(parts={"prompts": BY_PROMPT}, wholes={"means": BY_STATE})


def spread(
    model: str | Path = "reference",
    data: Names = "bundled",
    *,
    out: str | Path | None = None,
    options: PromptOptions | None = None,
) -> Findings:
    """Measure how unequal the rows of every state are: the standard deviation of the logarithms of their norms.

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
        writer.update()
        rows = writer.reading().table("prompts").group_by("model", "revision", "data", "state", maintain_order=True)
        writer.write_table("means", rows.agg(pl.col("spread").mean()).collect())
        writer.update(status="finished")
    return writer.reading()


def _measured(subject: object, batch: Sequence[Prompt]) -> pl.DataFrame:
    norms = Reduced(
        lambda _, seen: torch.stack([rows.double().norm(dim=-1).log().std() for rows in seen.prompts]).cpu()
    )
    read(subject, batch, norms)
    values = torch.stack(norms.rows, 1)
    rows = pl.DataFrame({"prompt": [prompt.row for prompt in batch], "spread": values.tolist()})
    return rows.with_columns(state=pl.lit(list(range(values.shape[1])))).explode("state", "spread")


def _tables(_: Sequence[Prompt], results: list[pl.DataFrame], key: dict[str, str]) -> dict[str, pl.DataFrame]:
    rows = pl.concat(results) if results else pl.DataFrame(schema=["prompt", "state", "spread"])
    return {"prompts": rows.with_columns(pl.lit(value).alias(name) for name, value in key.items())}


def chapters(run: Run) -> Iterator[Chapter]:
    """What a person is shown: a sentence, a chart and a table for each model and data set."""
    yield Chapter("Spread of norms", "spread", [_section(*shown) for shown in measured_pairs(run, "spread", "means")])


def _section(name: str, stem: str, findings: Findings, means: pl.DataFrame) -> Section:
    most = means.sort("spread", descending=True, nulls_last=True).row(0, named=True)
    return Section(
        name,
        stem,
        sentences=[f"Rows differ most at state {most['state']}: ln(norm) by {number(most['spread'])} nats"],
        panels=[
            Panel("Spread of row norms", "state", "[nats]", (Line("spread", means.select(at="state", mean="spread")),))
        ],
        tables=[Table(name, ("state", "spread"), means.select("state", "spread").rows())],
        key=findings.header.key,
    )


EXPERIMENT = Experiment(
    name="spread", tables={"spread": TABLES}, function=spread, group="Measure", answers=("means",), view=__name__
)

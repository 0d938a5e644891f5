"""Runs made up for a contrast: some heads sink on some prompts only, all others whatever the prompt."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl
from tests.synthetic_run import Plant, header, open_survey, part_tables

from thalweg.store import Run, Shard, open_run

MODEL = Plant("lab/inert", blocks=6, heads=4)
DEPENDENT = ((2, 1), (3, 3), (4, 0))
"""Block and head of those that depend on the prompt."""
EVERY_THIRD, PROMPTS, LENGTH = 3, 60, 20


def among(places: Iterable[tuple[int, int]]) -> pl.Expr:
    """Whether a row's block and head are among these."""
    return pl.any_horizontal((pl.col("block") == block) & (pl.col("head") == head) for block, head in places)


def depend(heads: pl.DataFrame, dependent: Iterable[tuple[int, int]] = DEPENDENT) -> pl.DataFrame:
    """Let heads sink, and stop mixing, on every third prompt."""
    there = among(dependent) & (pl.col("prompt") % EVERY_THIRD == 0)
    return heads.with_columns(
        sink_score=pl.when(there).then(pl.col("sink_score") + 0.8).otherwise("sink_score"),
        mixing=pl.when(there).then(pl.col("mixing") * 0.1).otherwise("mixing"),
    )


def contrasted_run(
    path: Path,
    *,
    lengths=(LENGTH,),
    prompts=PROMPTS,
    models=(MODEL,),
    data=("words",),
    status="finished",
    change=depend,
    step=20,
) -> Run:
    """Write a survey's tables and open them."""
    with open_survey(path, header(models, data)) as writer:
        for model in models:
            for name in data:
                for first in range(0, prompts, step):
                    rows = range(first, min(first + step, prompts))
                    tables = part_tables(
                        model, name, rows, lengths=lengths[name] if isinstance(lengths, dict) else lengths
                    )
                    tables["heads"] = change(tables["heads"])
                    writer.write_part(Shard(model.name, model.revision, name, first, rows.stop), tables)
        writer.update(status=status)
    return open_run(path)

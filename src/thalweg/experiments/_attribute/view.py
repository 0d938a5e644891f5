"""Which part of which block writes the massive row: the paper's Figure 19."""

import math
from collections.abc import Iterator
from typing import Any

import polars as pl

from thalweg.experiments._views import MeasuredPair, measured_pairs, settings_words, shaded
from thalweg.shown import (
    GREY,
    PALETTE,
    Bars,
    Chapter,
    Line,
    Panel,
    Points,
    Section,
    Table,
    Ticks,
    listing,
    unit,
)
from thalweg.store import Run

COLUMNS = ("block", "part", "norm", "along", "share", "writes", "dimensions")
PARTS = {"attention": "attention", "mlp": "MLP"}
EMBEDDING = -1
"""Its place on an axis of blocks."""
NOTE = (
    "What attention and MLP of every block add to the sink token's row: the component along the direction that the row "
    "has at the state where it stands out most, and the norm. The row itself, between the blocks, is the sum of all "
    "that was added before. Whiskers and bands reach one standard deviation to each side. Shaded: the compress phase."
)


def chapters(run: Run) -> Iterator[Chapter]:
    """What writes the sink token's row of every model and data set."""
    sections = [_section(measured) for measured in measured_pairs(run, "attribution", "writers")]
    yield Chapter("Attribution", "attribution", sections, NOTE)


def _section(measured: MeasuredPair) -> Section:
    writers, means = measured.table("writers").row(0, named=True), measured.table("attribution")
    said, added = _sentence(writers, means), _added(means)
    return Section(
        measured.name,
        measured.stem,
        [said],
        [_along(measured, added, writers), _norms(measured, added, writers)],
        [Table(_title(writers), COLUMNS, _rows(means), folded="Every part")],
        settings_words(measured.findings),
        measured.key,
        headline=f"{measured.name}: {said}",
        size=(4.8, 3.2),
        only="" if measured.latest else "terminal",
    )


def _added(means: pl.DataFrame) -> pl.DataFrame:
    """The averages of what is added, one standard deviation to each side; the embedding is left of block 0."""
    std = pl.col("std").fill_nan(0.0)
    spread = {"lower": pl.col("mean") - std, "upper": pl.col("mean") + std}
    return means.select("part", "metric", "mean", at=pl.col("block").fill_null(EMBEDDING), **spread).sort("at", "part")


def _along(measured: MeasuredPair, added: pl.DataFrame, writers: dict[str, Any]) -> Panel:
    rows, state = added.filter(metric="along"), writers["reference_state"]
    sums = rows.group_by("at").agg(pl.col("mean").sum()).sort("at")
    # a state stands between two blocks, and steps where a block is
    row_itself = sums.select(at=pl.col("at") + 0.5, mean=pl.col("mean").cum_sum())
    return Panel(
        "Added along the row's direction" + ("" if state is None else f" at state {state}"),
        "block",
        f"component [{unit('sink_norm')}]",
        lines=(Line("the row itself", row_itself, GREY, width=1.2, band=False, step=True),),
        bars=tuple(
            Bars(PARTS[part], rows.filter(part=part), color) for part, color in zip(PARTS, PALETTE, strict=False)
        ),
        points=(_embedding(rows),),
        spans=shaded((writers["compress_first"], writers["compress_last"])),
        ticks=_ticks(measured.pair.blocks),
    )


def _norms(measured: MeasuredPair, added: pl.DataFrame, writers: dict[str, Any]) -> Panel:
    rows = added.filter(metric="norm")
    return Panel(
        "Norm of what is added",
        "block",
        f"norm [{unit('sink_norm')}]",
        lines=tuple(
            Line(PARTS[part], rows.filter(part=part), color) for part, color in zip(PARTS, PALETTE, strict=False)
        ),
        points=(_embedding(rows),),
        spans=shaded((writers["compress_first"], writers["compress_last"])),
        log_y=True,
        ticks=_ticks(measured.pair.blocks),
    )


def _embedding(rows: pl.DataFrame) -> Points:
    return Points("embedding", rows.filter(part="embedding"), GREY, named=False)


def _ticks(blocks: int) -> Ticks:
    """Some of the blocks, and the embedding, which needs the room of block 0 where blocks are many."""
    step = next((step for step in (1, 2, 5, 10, 20) if blocks <= 10 * step), 50)
    places = range(0 if step <= 2 else step, blocks, step)
    return Ticks((EMBEDDING, *places), ("emb", *map(str, places)))


def _title(writers: dict[str, Any]) -> str:
    name, state = f"{writers['model']} on {writers['data']}", writers["reference_state"]
    if state is None:
        return name
    what = "massive" if writers["has_massive_activations"] else "largest"
    return f"{name}: what is added to the sink token's row, along its direction at its {what} state ({state})"


def _rows(means: pl.DataFrame) -> list[list[Any]]:
    values = {tuple(key): mean for *key, mean in means.select("block", "part", "metric", "mean").iter_rows()}
    parts = means.filter(metric="norm").select("block", "part", "writes", "dims")
    return [
        [
            block,
            part,
            *(values[block, part, metric] for metric in ("norm", "along", "share")),
            "yes" if writes else "",
            ", ".join(map(str, dims)),
        ]
        for block, part, writes, dims in parts.iter_rows()
    ]


def _sentence(writers: dict[str, Any], means: pl.DataFrame) -> str:
    if writers["reason"] is not None:
        nothing = "" if writers["has_massive_activations"] else ": nothing is written"
        return f"{writers['reason']}{nothing}"
    wrote = means.filter(metric="share_before").filter("writes").sort("block")
    dims, share = _dimensions(wrote), _percent(writers["writing_share"])
    blocks = wrote["block"].to_list()
    if len(blocks) == 1:
        return f"block {blocks[0]}'s MLP writes {share} of the massive norm, into {dims}"
    each = listing([_percent(part) for part in wrote["mean"]])
    return f"the MLPs of blocks {listing(blocks)} write {share} of the massive norm ({each}), into {dims}"


def _dimensions(wrote: pl.DataFrame) -> str:
    dims = list(dict.fromkeys(dim for row in wrote["dims"] for dim in row))
    return f"dimension{'s' * (len(dims) > 1)} {', '.join(map(str, dims))}" if dims else "many dimensions"


def _percent(share: float) -> str:
    """What is not quite all does not read as if it were."""
    return "over 99.9%" if 0.9995 <= share < 1 else "-" if math.isnan(share) else f"{share:.1%}"

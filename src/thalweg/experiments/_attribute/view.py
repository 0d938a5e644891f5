"""Which part of which block writes the row of each segment, and which erases it: the paper's Figure 19."""

import math
from collections.abc import Iterator
from typing import Any

import polars as pl

from thalweg.experiments._views import MeasuredPair, measured_pairs, settings_words, shaded_segments
from thalweg.shown import (
    GREY,
    INK,
    MARK,
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
    span_of,
    spans,
    unit,
)
from thalweg.store import Run

COLUMNS = ("block", "part", "norm", "along", "share", "", "dimensions")
PARTS = {"attention": "attention", "mlp": "MLP"}
EMBEDDING = -1
"""Its place on an axis of blocks."""
FEW = 0.1
"""Of a row, what is too little to be called taken away."""
NOTE = (
    "A segment's row is, in each prompt, the largest one at the segment's peak. Shown is what attention and MLP of "
    "every block add to it: the component along the direction that the row has at the state of the segment where it is "
    "longest, and the norm. The row itself, between the blocks, is the sum of all that was added before. Whiskers and "
    "bands reach one standard deviation to each side. Writers: the fewest MLPs before that "
    "state that write 90% of the row; erasers: the fewest parts after it and before the next segment that take "
    "90% of all that is taken away. Norms are shown at the input of every block and, half-way to the next one, after "
    "its attention and before its MLP."
)


def chapters(run: Run) -> Iterator[Chapter]:
    """What writes and what erases the massive rows of every model on every data set."""
    every = list(measured_pairs(run, "attribution", "writers"))
    sections = [section for measured in every for section in (_section(measured), _between(measured)) if section]
    yield Chapter("Attribution", "attribution", sections, NOTE)


def _section(measured: MeasuredPair) -> Section:
    rows, means = measured.table("writers").to_dicts(), measured.table("attribution")
    places = {row["name"]: row for row in measured.table("segments").to_dicts()}
    of_row = {row["segment"]: means.filter(segment=row["segment"]) for row in rows}
    said = [_sentence(row, places.get(row["segment"]), of_row[row["segment"]]) for row in rows]
    panels = [
        panel
        for row in rows
        for panel in (
            _along(measured, _added(of_row[row["segment"]]), row),
            _norms(measured, _added(of_row[row["segment"]]), row),
        )
    ]
    return Section(
        measured.name,
        measured.stem,
        said,
        panels,
        [
            Table(_title(measured.name, row), COLUMNS, _rows(of_row[row["segment"]]), folded="Every part")
            for row in rows
        ],
        settings_words(measured.findings),
        measured.key,
        headline=f"{measured.name}: {'; '.join(said)}",
        size=(4.8, 3.2),
        only="" if measured.latest else "terminal",
    )


def _added(means: pl.DataFrame) -> pl.DataFrame:
    """The averages of what is added, one standard deviation to each side; the embedding is left of block 0."""
    std = pl.col("std").fill_nan(0.0)
    spread = {"lower": pl.col("mean") - std, "upper": pl.col("mean") + std}
    return means.select("part", "metric", "mean", at=pl.col("block").fill_null(EMBEDDING), **spread).sort("at", "part")


def _between(measured: MeasuredPair) -> Section | None:
    """Norms at every block's input, after its attention and after its MLP, which is the next one's input (Fig. 22).

    None where no prompt is measured, or by a version that did not look there.
    """
    if "sink_norm_after_attention" not in measured.findings.table("states").collect_schema().names():
        return None
    segments = measured.table("segments")["name"].to_list()
    segment = "compress" if "compress" in segments else next(iter(segments), "none")
    norms = _norms_on_the_way(measured, segment)
    if norms.is_empty():
        return None
    row = "the sink token" if segment == "none" else f"the row of {segment}"
    lines, points = list[Line](), list[Points]()
    for name, column, color in ((row, "sink_norm", PALETTE[0]), ("mean of the others", "rest_norm", GREY)):
        rows = norms.filter(metric=column)
        lines.append(Line(name, rows, color))
        inside = rows.filter(pl.col("at") % 1 > 0).select("at", "mean")
        points.append(
            Points(f"{name}, after attention", inside, MARK if column == "sink_norm" else INK, named=inside.height > 0)
        )
    there = any(each.named for each in points)
    nothing = (
        "No module of a block reads its input plus its attention, so that there is no norm between attention and MLP"
    )
    places = sorted({0, *_ticks(measured.pair.blocks + 1).places[1:]})
    return Section(
        "",
        f"{measured.stem}_norms",
        [] if there else [nothing],
        [
            Panel(
                f"Norm of {row}, before and after attention",
                "state",
                f"norm [{unit('sink_norm')}]",
                tuple(lines),
                points=tuple(points) if there else (),
                log_y=True,
                ticks=Ticks(places, list(map(str, places))),
            )
        ],
        key=measured.key,
        headline=measured.name,
        columns=2,
        size=(6.4, 3.4),
        only="page" if measured.latest else "terminal",
    )


def _norms_on_the_way(measured: MeasuredPair, segment: str) -> pl.DataFrame:
    """Means over prompts, one standard deviation to each side, in order of depth; between two states where one is."""
    states = measured.findings.table("states").filter(measured.pair.rows, segment=segment)
    frames = []
    for metric in ("sink_norm", "rest_norm"):
        for suffix, shift in (("", 0.0), ("_after_attention", 0.5)):
            value = pl.col(f"{metric}{suffix}").fill_nan(None)
            averages = states.group_by("state").agg(mean=value.mean(), std=value.std().fill_null(0.0))
            frames.append(averages.with_columns(at=pl.col("state") + shift, metric=pl.lit(metric)))
    rows = pl.concat(frames).drop_nulls("mean").sort("at").collect()
    return rows.with_columns(lower=pl.col("mean") - pl.col("std"), upper=pl.col("mean") + pl.col("std"))


def _along(measured: MeasuredPair, added: pl.DataFrame, writers: dict[str, Any]) -> Panel:
    rows = added.filter(metric="along")
    sums = rows.group_by("at").agg(pl.col("mean").sum()).sort("at")
    # a state stands between two blocks, and steps where a block is
    row_itself = sums.select(at=pl.col("at") + 0.5, mean=pl.col("mean").cum_sum())
    return Panel(
        _titled(writers, f"added along the row's direction at state {writers['reference_state']}"),
        "block",
        f"component [{unit('sink_norm')}]",
        lines=(Line("the row itself", row_itself, GREY, width=1.2, band=False, step=True),),
        bars=tuple(
            Bars(PARTS[part], rows.filter(part=part), color) for part, color in zip(PARTS, PALETTE, strict=False)
        ),
        points=(_embedding(rows),),
        spans=shaded_segments([(writers["segment"], writers["first"], writers["last"])]),
        ticks=_ticks(measured.pair.blocks),
        kinds=measured.pair.kinds,
    )


def _norms(measured: MeasuredPair, added: pl.DataFrame, writers: dict[str, Any]) -> Panel:
    rows = added.filter(metric="norm")
    return Panel(
        _titled(writers, "norm of what is added"),
        "block",
        f"norm [{unit('sink_norm')}]",
        lines=tuple(
            Line(PARTS[part], rows.filter(part=part), color) for part, color in zip(PARTS, PALETTE, strict=False)
        ),
        points=(_embedding(rows),),
        spans=shaded_segments([(writers["segment"], writers["first"], writers["last"])]),
        log_y=True,
        ticks=_ticks(measured.pair.blocks),
        kinds=measured.pair.kinds,
    )


def _titled(writers: dict[str, Any], what: str) -> str:
    return what.capitalize() if writers["first"] is None else f"{writers['segment']}: {what}"


def _embedding(rows: pl.DataFrame) -> Points:
    return Points("embedding", rows.filter(part="embedding"), GREY, named=False)


def _ticks(blocks: int) -> Ticks:
    """Some of the blocks, and the embedding, which needs the room of block 0 where blocks are many."""
    step = next((step for step in (1, 2, 5, 10, 20) if blocks <= 10 * step), 50)
    places = range(0 if step <= 2 else step, blocks, step)
    return Ticks((EMBEDDING, *places), ("emb", *map(str, places)))


def _title(name: str, writers: dict[str, Any]) -> str:
    state = writers["reference_state"]
    if writers["first"] is None:
        return f"{name}: what is added to the sink token's row, along its direction at its largest state ({state})"
    return f"{name}: what is added to the row of {writers['segment']}, along its direction at state {state}"


def _rows(means: pl.DataFrame) -> list[list[Any]]:
    values = {tuple(key): mean for *key, mean in means.select("block", "part", "metric", "mean").iter_rows()}
    parts = means.filter(metric="norm").select("block", "part", "writes", "erases", "dims")
    return [
        [
            block,
            part,
            *(values[block, part, metric] for metric in ("norm", "along", "share")),
            "writes" if writes else "erases" if erases else "",
            ", ".join(map(str, dims)),
        ]
        for block, part, writes, erases, dims in parts.iter_rows()
    ]


def _sentence(writers: dict[str, Any], segment: dict[str, Any] | None, means: pl.DataFrame) -> str:
    if writers["first"] is None:
        return f"{writers['reason']}: nothing is written"
    what = f"{writers['segment']} ({span_of(writers['first'], writers['last'])}){_where(segment)}"
    return f"{what}: {writers['reason'] or _written(writers, means)}{_erased(writers)}"


def _where(segment: dict[str, Any] | None) -> str:
    """Where its row is."""
    if segment is None:
        return ""
    if segment["sink_position"] is not None:
        return f", the row at position {segment['sink_position']} as asked for"
    share = segment["position_share"]
    return f", at position {segment['position']}" + ("" if share == 1 else f" in {share:.0%} of prompts")


def _written(writers: dict[str, Any], means: pl.DataFrame) -> str:
    wrote = means.filter(metric="share").filter("writes").sort("block")
    dims, share = _dimensions(wrote), _percent(writers["writing_share"])
    blocks = wrote["block"].to_list()
    if len(blocks) == 1:
        return f"block {blocks[0]}'s MLP writes {share} of the massive row, into {dims}"
    each = listing([_percent(part) for part in wrote["mean"]])
    return f"the MLPs of blocks {spans(blocks)} write {share} of the massive row ({each}), into {dims}"


def _erased(writers: dict[str, Any]) -> str:
    """What takes it away again, in words that follow a semicolon."""
    if math.isnan(writers["erased_share"]):
        return ""
    if writers["erased_share"] < FEW:
        return f"; nothing takes it away again (all that lowers it sums to {_percent(writers['erased_share'])})"
    blocks = {name: list[int]() for name in PARTS}
    for part, block in (erasing.split(" ") for erasing in writers["erasing_parts"]):
        blocks[part].append(int(block))
    named = [_named(PARTS[part], numbers) for part, numbers in blocks.items() if numbers]
    one = len(writers["erasing_parts"]) == 1
    return f"; {listing(named)} take{'s' * one} {_percent(writers['erasing_share'])} of it away again"


def _named(part: str, blocks: list[int]) -> str:
    """``attention of block 4``, ``the MLPs of blocks 28 and 29``."""
    several = "s" * (len(blocks) > 1)
    return f"{f'the MLP{several}' if part == 'MLP' else part} of block{several} {spans(blocks)}"


def _dimensions(wrote: pl.DataFrame) -> str:
    dims = list(dict.fromkeys(dim for row in wrote["dims"] for dim in row))
    return f"dimension{'s' * (len(dims) > 1)} {', '.join(map(str, dims))}" if dims else "many dimensions"


def _percent(share: float) -> str:
    """What is not quite all does not read as if it were."""
    return "over 99.9%" if 0.9995 <= share < 1 else "-" if math.isnan(share) else f"{share:.1%}"

"""What a person is shown of two sides: what moved in words, curves of both, differences by depth, and maps by head."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from thalweg.averages import OVERALL
from thalweg.comparison._measured import Compared
from thalweg.comparison._sides import Side
from thalweg.experiments import compress_span, head_grid, kinds_of, tracks
from thalweg.shown import (
    ARROW,
    GREY,
    MARK,
    PALETTE,
    Heat,
    Line,
    Panel,
    Points,
    Rule,
    Section,
    Table,
    Track,
    amount,
    counted,
    from_zero_to_one,
    line_of,
    listing,
    spans,
    title,
    unit,
)

CURVES = {
    "entropy_normalized": "state",
    "sink_rate": "block",
    "sink_norm": "state",
    "row_ratio": "state",
    "peak_value": "state",
    "mixing_normalized": "block",
}
LARGE = 3.0
"""Factors from which an axis of factors is logarithmic."""
LOGGED = ("sink_norm", "row_ratio", "peak_value")
SHOWN = {
    "sink_rate": "sinks",
    "entropy_normalized": "least normalized entropy",
    "row_ratio": "largest row ratio",
    "peak_value": "peak value",
    "mixing_normalized": "mixing",
}
"""What is told of the whole depth."""
COLUMNS = ("over the depth", "one", "other", "difference", "95% interval", "p", "moved")
SCORE = "sink_score"
RULE = (
    "moved: Holm-adjusted p below 0.05 over all places of the metric, and a difference of at least 1%, of shares at "
    "least 0.01; all else is unchanged"
)
Row = dict[str, Any]


def sections(found: Compared, number: int) -> Iterator[Section]:
    """Give what is shown of the number-th of some comparisons; a page folds all but the first."""
    name, ending = f"{found.other.name} against {found.one.name}", f"_{number + 1}" if number else ""
    words = [_overall(found), _phases(found), *_places(found), *_heads(found)]
    facts = "; ".join([name, found.of_prompts, *_differs(found), RULE])
    table, how = Table(name, COLUMNS, [_cells(row) for row in _depth_rows(found)]), f"{name}; {found.of_prompts}"
    whole = Section(name, f"compare{ending}", words, _overlaid(found), [table], facts, headline=how)
    shown = [replace(whole, rests=f"layers, heads and prompts of {listing(_runs(found))}")]
    if found.same_depth:
        said = f"{name}: differences with their 95% intervals"
        shown.append(Section(said, f"compare_differences{ending}", (), _differences(found), headline=said))
    if found.heads.height:
        said = f"{name}: differences by head"
        size: dict[str, Any] = {"columns": 2, "size": (4.6, 3.4)}
        shown.append(Section(said, f"compare_heads{ending}", (), _maps(found), headline=said, **size))
    yield from (replace(section, folded=number > 0) for section in shown)


def _runs(found: Compared) -> list[str]:
    return list(dict.fromkeys(str(side.run.path) for side in (found.one, found.other)))


def _differs(found: Compared) -> list[str]:
    return [f"they differ in {listing(found.differs)}"] if found.differs else []


def _depth_rows(found: Compared) -> list[Row]:
    rows = {row["metric"]: row for row in found.places.filter(site="depth").iter_rows(named=True)}
    return [rows[metric] for metric, *_ in OVERALL if metric in rows]


def _overall(found: Compared) -> str:
    told = [f"{SHOWN[row['metric']]} {_change(row)}" for row in _depth_rows(found)]
    return f"{found.other.name} against {found.one.name}: {', '.join(told) or 'no number in common'}"


def _change(row: Row) -> str:
    if row["moved"] is None:
        return f"cannot be told ({amount(row['one'])} {ARROW} {amount(row['other'])})"
    if not row["moved"]:
        return f"unchanged ({amount(row['one'])})"
    return f"{amount(row['one'])} {ARROW} {amount(row['other'])} ({_difference(row)} {_interval(row)})"


def _difference(row: Row) -> str:
    if row["geometric"]:
        return f"x {amount(row['difference'])}"
    return f"{'+' if row['difference'] >= 0 else '-'}{amount(abs(row['difference']))}"


def _interval(row: Row) -> str:
    if math.isnan(row["low"]):
        return ""
    low, high = (
        amount(end) if row["geometric"] or end >= 0 else f"-{amount(-end)}" for end in (row["low"], row["high"])
    )
    return f"[{low}, {high}]"


def _cells(row: Row) -> list[Any]:
    moved = {None: "cannot be told", False: "no", True: "yes"}[row["moved"]]
    sides = amount(row["one"]), amount(row["other"])
    return [SHOWN[row["metric"]], *sides, _difference(row), _interval(row), amount(row["adjusted"]), moved]


def _phases(found: Compared) -> str:
    told = [_span(side.run, side.pair) for side in (found.one, found.other)]
    return f"Compress: {told[0]} in both" if told[0] == told[1] else f"Compress: {told[0]} {ARROW} {told[1]}"


def _span(run: Any, pair: Any) -> str:
    if "phases" in run.missing:
        return "not summed up yet"
    span = compress_span(run, pair)
    return "no phase" if span is None else f"states {span[0]} to {span[1]} of {pair.blocks}"


def _places(found: Compared) -> Iterator[str]:
    """Where each metric moved, and what moved nowhere."""
    if not found.same_depth:
        yield "States and blocks are not compared one by one: the models differ in depth"
        return
    still = list[str]()
    for metric, site in CURVES.items():
        moved = found.places.filter(site=site, metric=metric, moved=True)
        if moved.is_empty():
            still.append(title(metric).lower() if metric != "sink_rate" else "sink rate")
            continue
        logs = pl.when("geometric").then(pl.col("difference").log()).otherwise("difference")
        most = moved.sort(logs.abs(), descending=True).row(0, named=True)
        places = spans(moved["index"])
        yield (
            f"{title(metric)} moved at {site}{'s' * (moved.height > 1)} {places}, most at {most['index']}: "
            f"{_change(most)}"
        )
    if still:
        yield f"Unchanged at every state or block: {listing(still)}"


def _heads(found: Compared) -> Iterator[str]:
    scores = found.heads.filter(metric=SCORE)
    if scores.is_empty():
        yield "Heads are not compared: the models differ in their heads"
        return
    moved = scores.filter(moved=True).sort(pl.col("difference").abs(), descending=True)
    if moved.is_empty():
        yield f"No head's sink score moved, of {scores.height:,}"
        return
    most = moved.row(0, named=True)
    yield (
        f"The sink score of {moved.height:,} of {counted(scores.height, 'head')} moved, most that of block "
        f"{most['block']} head {most['head']}: {_change(most)}"
    )


def _overlaid(found: Compared) -> list[Panel]:
    """Each metric through depth, of both sides."""
    return [_overlaid_panel(found, metric) for metric in CURVES]


def _overlaid_panel(found: Compared, metric: str) -> Panel:
    site, share = CURVES[metric], not found.same_depth
    lines = [
        line_of(number, side.name, _curve(rows, metric, side.pair.blocks, share=share))
        for number, (side, rows) in enumerate(zip(_both(found), found.curves, strict=True))
    ]
    lines[1] = replace(lines[1], dash="--", width=1.6)
    axis = f"share of depth [{site} / blocks]" if share else site
    look = {"log_y": metric in LOGGED, "share": from_zero_to_one(metric)}
    return Panel(title(metric), axis, f"[{unit(metric)}]", tuple(lines), **look, **_below(found, site, named=False))


def _both(found: Compared) -> tuple[Side, Side]:
    return found.one, found.other


def _below(found: Compared, site: str, *, named: bool = True) -> dict[str, Any]:
    """Under an axis of states or blocks: what blocks are, and each side's compress phase, named where no line is."""
    share, bars = not found.same_depth, list[Track]()
    for side, color in zip(_both(found), PALETTE, strict=False):
        own = tracks(side.run, [(side.pair, color)], site, share=share)
        bars += [replace(bar, group=side.name, name=f"{bar.name}{f' of {side.name}' * named}") for bar in own]
    kinds = () if share else kinds_of([side.pair for side in _both(found)], site)
    return {"kinds": kinds, "tracks": tuple(bars)}


def _curve(rows: pl.DataFrame, metric: str, blocks: int, *, share: bool) -> pl.DataFrame:
    """Means with one standard deviation to each side, of ratios a factor; NaN where nothing was measured."""
    site = CURVES[metric]
    every = pl.DataFrame({"index": range(blocks + (site == "state"))}, schema={"index": pl.Int64})
    mean, std = pl.col("one").fill_null(math.nan), pl.col("one_std").fill_null(0.0)
    low, high = (
        pl.when("geometric").then(mean * (sign * std).exp()).otherwise(mean + sign * std).fill_null(math.nan)
        for sign in (-1, 1)
    )
    joined = every.join(rows.filter(site=site, metric=metric), on="index", how="left", maintain_order="left")
    at = pl.col("index") / blocks if share else pl.col("index")
    return joined.select(at=at, mean=mean, lower=low, upper=high)


def _differences(found: Compared) -> list[Panel]:
    """The difference of each metric through depth, with what moved marked."""
    return [_difference_panel(found, metric) for metric in CURVES]


def _difference_panel(found: Compared, metric: str) -> Panel:
    site = CURVES[metric]
    rows = found.places.filter(site=site, metric=metric)
    ratio = bool(rows["geometric"].any())
    line = Line("difference", rows.select(at="index", mean="difference", lower="low", upper="high"), GREY)
    moved = rows.filter(moved=True).select(at="index", mean="difference")
    points = (Points("moved", moved, MARK),) if moved.height else ()
    rule = Rule("no change", 1.0 if ratio else 0.0, GREY)
    words = "factor" if ratio else f"difference [{unit(metric)}]"
    wide = ratio and bool((rows["difference"].log().abs() > math.log(LARGE)).any())
    return Panel(title(metric), site, words, (line,), points=points, rules=(rule,), log_y=wide, **_below(found, site))


def _maps(found: Compared) -> list[Panel]:
    return [_map(found, metric) for metric in (SCORE, "mixing_normalized")]


def _map(found: Compared, metric: str) -> Panel:
    """Differences of every head."""
    rows = found.heads.filter(metric=metric)
    blocks = found.one.pair.blocks
    grid = head_grid(rows, "difference", blocks)
    dots = head_grid(rows.with_columns(pl.col("moved").cast(pl.Float64).fill_null(0.0)), "moved", blocks)
    end = float(np.nanmax(np.abs(grid), initial=0.0)) or 1.0
    heat = Heat(grid, unit(metric), -end, end, diverging=True, dots=np.nan_to_num(dots) > 0, dotted="moved")
    heads = found.other.pair.key
    return Panel(f"{title(metric)}: difference", "block", "head", heat=heat, heads=heads, **_below(found, "block"))

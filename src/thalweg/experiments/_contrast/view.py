"""Which heads depend on the prompt: the paper's Figures 5, 26 and 27."""

import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from thalweg.experiments._views import MeasuredPair, head_grid, latest_pairs, map_tracks, measured_pairs
from thalweg.shown import Chapter, Heat, Panel, Section, Table, from_zero_to_one, title, unit
from thalweg.store import Findings, Run

COLUMNS = ("block", "head", "top", "bottom", "difference", "low", "high", "q", "mixing", "mixing q")
PROMPT_COLUMNS = ("side", "rank", "row of the data", "tokens", "mean score")
HEADS, PROMPTS = 20, 10
"""At most listed: heads, and prompts a side."""
CHANGES = "the head changes, by a ranking made without it"
NOTE = (
    "A dot marks a head that changes: tested on a ranking of the prompts made without it, against random sets of as "
    "many prompts, the false-discovery rate controlled after Benjamini and Hochberg. The maps show one ranking by all "
    "heads. The bar under a map: the blocks that read the compress phase. Low and high end the 95% interval of the "
    "difference."
)


def chapters(run: Run) -> Iterator[Chapter]:
    """What differs between the prompts where heads sink most and those where they sink least."""
    shown, some = latest_pairs(run), pl.col("prompts") > 0
    kept = {covered.pair: covered.prompts_kept for covered in run.coverage}
    compared = [
        _section(run, measured, kept.get(measured.pair.key, 0), everywhere=measured.latest and measured.pair in shown)
        for measured in measured_pairs(run, "contrast", "rankings", some)
    ]
    nothing = [_nothing(measured) for measured in measured_pairs(run, "contrast", "rankings", ~some)]
    yield Chapter("Top and bottom prompts", "contrast", [*compared, *nothing], NOTE)


def stale(contrast: Findings, ranking: dict[str, Any], kept: int) -> list[str]:
    """Say that a run has grown since, and what to run; nothing where it has not."""
    then = ranking["prompts"] + (ranking["other_length"] or 0) + (ranking["undefined"] or 0)
    if then == kept:
        return []
    asked = contrast.header.settings
    given = [
        f"--{name}={asked[name]}" for name in ("by", "length", "top", "fdr", "seed") if asked.get(name) is not None
    ]
    again = shlex.join(["thalweg", "contrast", str(contrast.run), *given])
    return [f"Stale: made of {then:,} prompts, and the run holds {kept:,} by now. Run: {again}"]


def _section(run: Run, measured: MeasuredPair, kept: int, *, everywhere: bool) -> Section:
    ranking, heads = measured.table("rankings").row(0, named=True), measured.table("heads")
    bar, said, scope = map_tracks(run, measured.pair), _sentence(ranking, heads), _scope(ranking)
    more = {"tracks": bar, "heads": measured.pair.key}
    panels = [replace(panel, **more) for panel in _panels(measured, heads, ranking["by"])]
    return Section(
        measured.name,
        measured.stem,
        [*stale(measured.findings, ranking, kept), said],
        panels,
        [_heads(ranking, heads), _prompts(ranking, measured.table("prompts"))],
        scope,
        measured.key,
        headline=f"{measured.name}: {said}. {scope}",
        columns=len(panels),
        size=_size(measured.pair.blocks, heads["head"].n_unique()),
        only="" if everywhere else "terminal",
    )


def _size(blocks: int, heads: int) -> tuple[float, float]:
    """As much paper as the map needs, within bounds."""
    return max(3.4, min(5.5, 1.8 + 0.11 * blocks)), max(2.9, min(6.5, 1.6 + 0.1 * heads))


def _nothing(measured: MeasuredPair) -> Section:
    """Where nothing is compared, that is answered to the person who asked, and nothing is drawn."""
    reason = measured.table("rankings")["reason"][0]
    said = f"{measured.name}: nothing is compared: {reason}"
    return Section(measured.name, sentences=[said], key=measured.key, only="terminal")


def _panels(measured: MeasuredPair, heads: pl.DataFrame, by: str) -> list[Panel]:
    """What prompts are ranked by for the top prompts, then the differences of it, of the sink score and of mixing."""
    blocks, rows = measured.pair.blocks, heads.with_columns(changed=pl.col("changes").cast(pl.Float64))
    top = head_grid(rows.filter(metric=by), "overall_top", blocks)
    highest = 1.0 if from_zero_to_one(by) else _largest(top)
    maps = [_map(measured, f"{title(by)}: top prompts", Heat(top, unit(by), 0.0, highest))]
    for metric in dict.fromkeys((by, "sink_score", "mixing")):
        of_metric = rows.filter(metric=metric)
        grid, dots = (head_grid(of_metric, column, blocks) for column in ("overall_difference", "changed"))
        largest = _largest(grid)
        changed = Heat(grid, unit(metric), -largest, largest, diverging=True, dots=dots == 1, dotted=CHANGES)
        maps.append(_map(measured, f"{title(metric)}: top minus bottom prompts", changed))
    return maps


def _map(measured: MeasuredPair, name: str, heat: Heat) -> Panel:
    return Panel(name, "block", "head", heat=heat, kinds=measured.pair.kinds)


def _largest(grid: np.ndarray) -> float:
    return float(np.nanmax(np.abs(grid), initial=0.0)) or 1.0


def _sentence(ranking: dict[str, Any], heads: pl.DataFrame) -> str:
    reason = f"; {ranking['reason']}" if ranking["reason"] else ""
    rate = f" (false-discovery rate {ranking['fdr']:.3g})"
    return f"{_change_by(ranking, heads)}{_change_of_mixing(ranking, heads)}{rate}{reason}"


def _change_by(ranking: dict[str, Any], heads: pl.DataFrame) -> str:
    changed = heads.filter(metric=ranking["by"]).filter("changes")
    name, all_heads = title(ranking["by"]).lower(), f"of {ranking['heads']:,} heads"
    ends = "the top prompt to the bottom one" if ranking["per_side"] == 1 else "the top prompts to the bottom ones"
    if not changed.height:
        return f"none {all_heads} is seen to change its {name} from {ends}"
    most = changed.sort(pl.col("difference").abs(), descending=True).row(0, named=True)
    place = f"head {most['head']} of block {most['block']} most ({most['top']:.3g} against {most['bottom']:.3g})"
    return f"{changed.height:,} {all_heads} change their {name} from {ends}, {place}"


def _change_of_mixing(ranking: dict[str, Any], heads: pl.DataFrame) -> str:
    if ranking["by"] == "mixing":
        return ""
    mixing = heads.filter(metric="mixing")["changes"].sum()
    return f"; {mixing:,} change their mixing" if mixing else "; none is seen to change its mixing"


def _scope(ranking: dict[str, Any]) -> str:
    """Which prompts are compared."""
    of_length = "" if ranking["length"] is None else f" of {ranking['length']:,} tokens"
    said = f"{ranking['prompts']:,} prompts{of_length} compared, {ranking['per_side'] or 0:,} a side"
    skipped = [
        f"{ranking[column]:,} {words} skipped"
        for column, words in (("other_length", "of other lengths"), ("undefined", "with undefined scores"))
        if ranking[column]
    ]
    return "; ".join([said, *skipped])


def _heads(ranking: dict[str, Any], heads: pl.DataFrame) -> Table:
    """The heads that change in what prompts are ranked by, most first."""
    changed = heads.filter(metric=ranking["by"]).filter("changes")
    table = changed.select("block", "head", "top", "bottom", "difference", "low", "high", "q")
    if ranking["by"] != "mixing":
        mixing = heads.filter(metric="mixing").select("block", "head", mixing="difference", mixing_q="q")
        table = table.join(mixing, on=["block", "head"], how="left", maintain_order="left")
    rows = table.sort(pl.col("difference").abs(), descending=True, maintain_order=True).rows()
    name = f"{ranking['model']} on {ranking['data']}: heads whose {title(ranking['by']).lower()} changes most"
    rest = len(rows) - HEADS
    return Table(name, COLUMNS[: table.width], rows[:HEADS], f"{rest:,} more heads change." if rest > 0 else "")


def _prompts(ranking: dict[str, Any], prompts: pl.DataFrame) -> Table:
    """Both ends of the ranking by all heads, ranks counted from 1."""
    listed = prompts.filter(pl.col("rank") < PROMPTS)
    rows = listed.select("side", pl.col("rank") + 1, "prompt", "tokens", "score").rows()
    name = f"Both ends of the ranking by the mean {title(ranking['by']).lower()} of all heads"
    rest = prompts.height - len(rows)
    note = f"{rest:,} more." if rest else ""
    return Table(name, PROMPT_COLUMNS, rows, note, folded="The prompts", only="page")

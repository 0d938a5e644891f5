"""Attention maps of heads on one prompt, a gallery of them, with their numbers: the paper's Figures 6, 33 and 34."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from thalweg.experiments._heads.tables import ELSEWHERE, PATTERNS, attention_of
from thalweg.experiments._views import MeasuredPair, measured_pairs
from thalweg.shown import Chapter, Heat, Panel, Section, Table, counted, listing, number
from thalweg.store import Run

COLUMNS = (
    *("block", "head", "phase", "pattern", "sink score", "top position", "its token", "top score"),
    *("normalized mixing", "to itself", "to the token before", "SVI", "ColSum concentration"),
)
LEAST = 1e-3
"""Attention below it is drawn as if it were as much."""
MOST, CELLS = 48, 150_000
"""At most drawn together: maps, and cells below their diagonals."""
LETTERS, SPACE = 14, "\N{OPEN BOX}"
AXES = "token looked at", "token"
NOTE = (
    "Rows are the tokens that look, columns those that are looked at, on a logarithmic scale that ends at "
    f"{LEAST:g}. Numbers are those of the head on this prompt. Nearest to a pattern is the head with the most of it: "
    "diffuse the largest normalized mixing, sink the largest sink score, identity and previous token the largest mean "
    "attention to the token itself and to the one before, sink elsewhere the largest score of another position."
)


def chapters(run: Run) -> Iterator[Chapter]:
    """The maps of every prompt that was asked about, the latest first."""
    sections = [_section(measured) for measured in measured_pairs(run, "maps", "heads")]
    yield Chapter("Heads on one prompt", "maps", sections, NOTE)


def _section(measured: MeasuredPair) -> Section:
    heads, tokens = _ordered(measured.table("heads")), measured.table("tokens").sort("position")["token"].to_list()
    maps = {(row["block"], row["head"]): row for row in measured.table("maps").iter_rows(named=True)}
    drawn = heads[:MOST]
    together = max(1, int((2 * CELLS / max(len(drawn), 1)) ** 0.5))
    step = -(-len(tokens) // together)
    maps_of = list(_panels(drawn, maps, tokens, step))
    panels = [replace(panel, heads=measured.pair.key) if panel.head else panel for panel in maps_of]
    prompt = measured.findings.header.settings["prompt"]
    return Section(
        f"{measured.name}, prompt {prompt}",
        measured.stem,
        list(_said(heads)),
        panels,
        [Table("The heads, on this prompt", COLUMNS, [_row(row, tokens) for row in heads])],
        _facts(heads, maps, tokens, step),
        measured.key,
        headline=f"{measured.name}, prompt {prompt}",
        columns=len(PATTERNS),
        size=(2.9, 2.5),
        folded=True,
    )


def _ordered(heads: pl.DataFrame) -> list[dict[str, Any]]:
    """Phase by phase, pattern by pattern; what was named, in order."""
    rows = heads.sort("block", "head").to_dicts()
    phases = list(dict.fromkeys(row["phase"] for row in rows))
    names = list(PATTERNS)
    return sorted(
        rows,
        key=lambda row: (phases.index(row["phase"]), *map(names.index, row["patterns"][:1])) if row["patterns"] else (),
    )


def _panels(
    heads: Sequence[dict[str, Any]], maps: dict[Any, dict[str, Any]], tokens: Sequence[str], step: int
) -> Iterator[Panel]:
    """A row of panels a phase; of a pattern that no head of it comes near to, one that is empty."""
    drawn = {(row["block"], row["head"]): _panel(row, maps[row["block"], row["head"]], tokens, step) for row in heads}
    phases = dict.fromkeys(row["phase"] for row in heads if row["patterns"])
    for phase in phases:
        of_phase = [row for row in heads if row["phase"] == phase]
        for pattern in PATTERNS:
            place = next(((row["block"], row["head"]) for row in of_phase if pattern in row["patterns"]), None)
            if place in drawn:
                yield drawn.pop(place)
            elif place is None and len(phases) > 1:
                yield Panel(f"{phase}: no {pattern}", AXES[0], AXES[1])
    yield from drawn.values()


def _panel(row: dict[str, Any], kept: dict[str, Any], tokens: Sequence[str], step: int) -> Panel:
    """One map; above the diagonal there is nothing."""
    grid = _coarser(attention_of(kept["map"], len(tokens)), step)
    grid = np.where(np.tri(len(grid), dtype=bool), np.maximum(grid, LEAST), np.nan)
    names = [f"{position} {shortened(tokens[position])}" for position in range(0, len(tokens), step)]
    heat = Heat(np.round(grid, 3), "share of attention", LEAST, 1.0, log=True, up=names, along=names, down=True)
    return Panel(_titled(row), *AXES, heat=heat, head=(row["block"], row["head"]))


def _coarser(grid: np.ndarray, step: int) -> np.ndarray:
    """The largest of every step x step cells."""
    count = -(-len(grid) // step)
    padded = np.zeros((count * step, count * step))
    padded[: len(grid), : len(grid)] = grid
    return padded.reshape(count, step, count, step).max(axis=(1, 3))


def _titled(row: dict[str, Any]) -> str:
    place = f"block {row['block']}, head {row['head']}"
    if not row["patterns"]:
        return place
    phase = "" if row["phase"] is None else f"{row['phase']}: "
    return f"{phase}{listing(row['patterns'])} ({place})"


def shortened(token: str) -> str:
    """A token as it can be written: spaces and control characters shown, a long one cut."""
    shown = repr(token[: LETTERS + 1])[1:-1].replace(" ", SPACE)
    return shown if len(token) <= LETTERS else f"{shown[:LETTERS]}..."


def _said(heads: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Which heads come nearest to the patterns, a sentence a phase."""
    for phase in dict.fromkeys(row["phase"] for row in heads if row["patterns"]):
        rows = [row for row in heads if row["phase"] == phase]
        nearest = [_nearest(pattern, row) for pattern in PATTERNS for row in rows if pattern in row["patterns"]]
        where = "Over all blocks, no phase being known" if phase is None else phase.capitalize()
        yield f"{where}: nearest to {', to '.join(nearest)}"


def _nearest(pattern: str, row: dict[str, Any]) -> str:
    place = f" at position {row['top_position']}" if pattern == ELSEWHERE else ""
    return f"{pattern} head {row['head']} of block {row['block']} ({number(row[PATTERNS[pattern]])}{place})"


def _facts(heads: Sequence[dict[str, Any]], maps: dict[Any, dict[str, Any]], tokens: Sequence[str], step: int) -> str:
    facts = [counted(len(tokens), "token")]
    facts += ["cut off at the end"] if any(row["truncated"] for row in maps.values()) else []
    facts += [f"a cell is the largest of {step} x {step}"] if step > 1 else []
    facts += [f"{MOST} of {len(heads)} maps are drawn, all are kept"] if len(heads) > MOST else []
    return "; ".join(facts)


def _row(row: dict[str, Any], tokens: Sequence[str]) -> list[Any]:
    place = row["top_position"]
    numbers = ("mixing_normalized", "diagonal", "previous", "svi", "colsum_concentration")
    return [
        *(row["block"], row["head"], row["phase"], ", ".join(row["patterns"])),
        *(row["sink_score"], place, None if place is None else repr(tokens[place][:LETTERS]), row["top_score"]),
        *(row[name] for name in numbers),
    ]

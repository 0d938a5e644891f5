"""One prompt: attention maps of heads with their numbers (the paper's Figures 6, 33 and 34), and what its tokens do."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from thalweg.averages import birth_and_death
from thalweg.experiments._heads.tables import ELSEWHERE, PATTERNS, attention_of
from thalweg.experiments._views import MeasuredPair, measured_pairs
from thalweg.shown import Chapter, Heat, Panel, Section, Table, amount, counted, listing, number, ranges
from thalweg.store import Run

COLUMNS = (
    *("block", "head", "phase", "pattern", "sink score", "top position", "its token", "top score"),
    *("normalized mixing", "to itself", "to the token before", "SVI", "ColSum concentration"),
)
LEAST = 1e-3
"""Attention below it is drawn as if it were as much."""
MOST, CELLS = 48, 150_000
"""At most drawn together: maps, and cells below their diagonals."""
LETTERS, MOST_LETTERS, SPACE = 14, 40, "\N{OPEN BOX}"
NAMED = 3
"""Tokens in a sentence, at most."""
AXES = "token looked at", "token"
NOTE = (
    "Rows are the tokens that look, columns those that are looked at, on a logarithmic scale that ends at "
    f"{LEAST:g}. Numbers are those of the head on this prompt. Nearest to a pattern is the head with the most of it: "
    "diffuse the largest normalized mixing, sink the largest sink score, identity and previous token the largest mean "
    "attention to the token itself and to the one before, sink elsewhere the largest score of another position."
)
TOKENS_NOTE = (
    "Row norm: of the token's row of the residual stream at a state. Received attention: the mean of the token's "
    f"column, C_k / T, over all heads of the block; below {LEAST:g} it has one colour. Top position: where the token "
    "looks most in a head, coloured by that position."
)


def chapters(run: Run) -> Iterator[Chapter]:
    """The maps, and the tokens, of every prompt that was asked about, the latest first."""
    every = list(measured_pairs(run, "maps", "heads"))
    yield Chapter("Heads on one prompt", "maps", [_section(measured) for measured in every], NOTE)
    ratio = run.header.thresholds.massive_ratio
    yield Chapter("Tokens of one prompt", "tokens", [_tokens(measured, ratio) for measured in every], TOKENS_NOTE)


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
    place = _placed(row)
    if not row["patterns"]:
        return place
    phase = "" if row["phase"] is None else f"{row['phase']}: "
    return f"{phase}{listing(row['patterns'])} ({place})"


def _placed(row: dict[str, Any]) -> str:
    return f"block {row['block']}, head {row['head']}"


def shortened(token: str, letters: int = LETTERS) -> str:
    """A token as it can be written: spaces and control characters shown, a long one cut."""
    shown = repr(token[: letters + 1])[1:-1].replace(" ", SPACE)
    return shown if len(token) <= letters else f"{shown[:letters]}..."


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


def _tokens(measured: MeasuredPair, massive_ratio: float) -> Section:
    """The tokens of one prompt, coloured by what was read of them."""
    findings, tokens = measured.findings, measured.table("tokens").sort("position")["token"].to_list()
    title = f"{measured.name}, prompt {findings.header.settings['prompt']}"
    if not findings.has("token_heads"):
        again = shlex.join(findings.header.command) or "the same call"
        said = f"What single tokens do was not kept yet when this was measured: {again} adds it"
        return Section(title, sentences=[said], key=measured.key, rests="tokens")
    norms = _by_token(measured.table("token_states"), "norm", "state", measured.pair.blocks + 1)
    received = _by_token(measured.table("token_blocks"), "received", "block", measured.pair.blocks)
    heads = _ordered(measured.table("heads"))[:MOST]
    return Section(
        title,
        measured.stem.replace("maps", "tokens", 1),
        [_of_norms(norms, tokens, massive_ratio), _of_attention(received, tokens)],
        _token_panels(norms, received, heads, measured.table("token_heads"), tokens),
        key=measured.key,
        headline=title,
        columns=1,
        size=(6.8, 2.6),
        folded=True,
        rests=f"token_states and token_blocks in maps/{measured.key}",
        text=[shortened(token, MOST_LETTERS) for token in tokens],
    )


def _by_token(rows: pl.DataFrame, value: str, at: str, count: int) -> np.ndarray:
    """A value as a map, states or blocks up and tokens along; a block without attention is NaN."""
    grid = np.full((count, rows["position"].n_unique()), np.nan)
    grid[rows[at].to_numpy(), rows["position"].to_numpy()] = rows[value].to_numpy()
    return grid


def _token_panels(
    norms: np.ndarray,
    received: np.ndarray,
    heads: Sequence[dict[str, Any]],
    looks: pl.DataFrame,
    tokens: Sequence[str],
) -> list[Panel]:
    along = [f"{position} {shortened(token)}" for position, token in enumerate(tokens)]
    known = norms[np.isfinite(norms) & (norms > 0)]
    low, high = (float(known.min()), float(known.max())) if known.size else (1.0, 1.0)
    by_head = {(block, head): rows for (block, head), rows in looks.sort("position").group_by("block", "head")}
    keys = np.array([by_head[row["block"], row["head"]]["looks_at"].to_list() for row in heads])
    names = [_placed(row) for row in heads]
    of_keys = Heat(keys, "position", 0.0, max(len(tokens) - 1.0, 1.0), up=names, along=along, down=True, pointing=True)
    of_norms = Heat(norms, "activation units", low, max(high, low * 1.01), log=True, along=along)
    of_received = Heat(received, "share of attention", LEAST, 1.0, log=True, along=along)
    return [
        Panel("Row norm", "token", "state", heat=of_norms),
        Panel("Received attention", "token", "block", heat=of_received),
        Panel("Top position of each token", "token", "head", heat=of_keys),
    ]


def _of_norms(norms: np.ndarray, tokens: Sequence[str], massive_ratio: float) -> str:
    """Which rows are massive, how far they reach, and where they are born."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.nan_to_num(norms / np.median(norms, axis=1, keepdims=True), nan=0.0)
    massive = np.flatnonzero((ratios >= massive_ratio).any(0))
    if not massive.size:
        state, nearest = np.unravel_index(ratios.argmax(), ratios.shape)
        comes = (
            f"{_written(int(nearest), tokens)} comes nearest, {amount(ratios[state, nearest])} times at state {state}"
        )
        return f"No row is massive, with a norm of {massive_ratio:g} times the median row's: {comes}"
    longest = sorted(massive.tolist(), key=lambda position: -norms[:, position].max())
    rows = [_course(position, norms[:, position], ratios[:, position], tokens, massive_ratio) for position in longest]
    more = f"; and {counted(len(rows) - NAMED, 'other token')}" if len(rows) > NAMED else ""
    return f"Massive rows: {'; '.join(rows[:NAMED])}{more}"


def _course(position: int, norms: np.ndarray, ratios: np.ndarray, tokens: Sequence[str], massive_ratio: float) -> str:
    states, peak, found = np.flatnonzero(ratios >= massive_ratio), int(norms.argmax()), birth_and_death(norms)
    where = f"state{'s' * (len(states) > 1)} {ranges(states.tolist())}"
    reaches = f"norm up to {amount(norms[peak])} at state {peak}, {amount(ratios[peak])} times the median row's"
    born = "" if found["birth"] is None else f", born at state {found['birth']} (x {amount(found['rise'])})"
    return f"{_written(position, tokens)} at {where}, {reaches}{born}"


def _of_attention(received: np.ndarray, tokens: Sequence[str]) -> str:
    """Which token gets most attention, in how many blocks, and where most of all."""
    known = received[np.isfinite(received).all(1)]
    most = np.bincount(known.argmax(1), minlength=len(tokens))
    first = int(most.argmax())
    block = int(np.nanargmax(received[:, first]))
    share, blocks = amount(received[block, first]), f"{most[first]} of {counted(len(known), 'block')}"
    return f"Most attention goes to {_written(first, tokens)} in {blocks}, up to {share} of all heads' at block {block}"


def _written(position: int, tokens: Sequence[str]) -> str:
    return f"position {position} ({tokens[position][:LETTERS]!r})"

"""The tables of the page, as rows of words."""

from dataclasses import dataclass
from typing import Any

from thalweg.figures import Pair, labels, latest_pairs
from thalweg.report._massive import massive_table, phases_row
from thalweg.report._words import amount, listing, percent, spans
from thalweg.store import Run

_MASSIVE_ROWS = 20


@dataclass(frozen=True)
class Table:
    """A table as it is shown.

    Attributes:
        columns: the headings.
        rows: the cells, as many as columns.
        note: what stands below, such as how many rows are not shown.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def phase_rows(run: Run) -> Table:
    """Give mixing, sink rate and entropy inside each phase."""
    columns = ("model", "data", "phase", "states", "depth", "mixing (nats)", "sink rate", "normalized entropy")
    rows = [row for pair in latest_pairs(run) for row in _phases(run, pair)]
    return Table(columns, tuple(rows))


def coupling_rows(run: Run) -> Table:
    """Give the correlations, each with its deviation over models or the reason why there is none."""
    names = ("coupling_entropy", "coupling_sink", "coupling_sink_next")
    shown = {(pair.model, pair.revision) for pair in latest_pairs(run)}
    rows = [
        (row["model"], row["data"] or "", *(_with_deviation(row, name) for name in names), row["reason"] or "")
        for row in run.coupling.collect().iter_rows(named=True)
        if row["revision"] is None or (row["model"], row["revision"]) in shown
    ]
    headings = ("norm and entropy", "norm and sink rate of the block that reads it", "norm and sink rate one block on")
    return Table(("model", "data", *headings, "remark"), tuple(rows))


def massive_rows(run: Run, pair: Pair) -> Table:
    """Give the most common massive entries and rows."""
    table = massive_table(run, pair)
    columns = ("kind", "position", "token", "dimension", "states", "median value", "median row norm", "prompts")
    rows = tuple(
        (
            row["kind"],
            str(row["position"]),
            _tokens(row["tokens"]),
            amount(row["dim"]) if row["dim"] is None else str(row["dim"]),
            spans(row["states"]),
            amount(row["value"]),
            amount(row["row_norm"]),
            percent(row["share"]),
        )
        for row in table.head(_MASSIVE_ROWS).iter_rows(named=True)
    )
    rest = table.height - len(rows)
    note = f"{rest:,} rarer ones are not shown. " if rest else ""
    return Table(columns, rows, note + "At most 16 are stored per prompt and state, the largest first.")


def _phases(run: Run, pair: Pair) -> list[tuple[str, ...]]:
    row = phases_row(run, pair)
    if row is None:
        return []
    label = labels(run.header)[pair.model, pair.revision]
    return [
        (label, pair.data, phase, *place, *(amount(row.get(f"{phase}_{metric}")) for metric in _IN_PHASES))
        for phase, place in _places(row, pair.blocks)
    ]


_IN_PHASES = ("mixing", "sink_rate", "entropy_normalized")


def _places(row: dict[str, Any], blocks: int) -> list[tuple[str, tuple[str, str]]]:
    first, last = row["compress_first"], row["compress_last"]
    if first is None or last is None:
        return [("no compress phase", _place(0, blocks, blocks))]
    mix = _place(0, first - 1, blocks) if first else ("none", "")
    refine = _place(last + 1, blocks, blocks) if last < blocks else ("none", "")
    return [("mix", mix), ("compress", _place(first, last, blocks)), ("refine", refine)]


def _place(first: int, last: int, blocks: int) -> tuple[str, str]:
    depth = f"{percent(first / max(blocks, 1))} to {percent(last / max(blocks, 1))}"
    return (str(first), percent(first / max(blocks, 1))) if first == last else (f"{first} to {last}", depth)


def _with_deviation(row: dict[str, Any], name: str) -> str:
    value, deviation = row[name], row[f"{name}_std"]
    known = deviation is not None and deviation == deviation  # NaN is unequal to itself
    return f"{amount(value)} ± {amount(deviation)}" if known else amount(value)


def _tokens(tokens: list[str]) -> str:
    shown = listing([repr(token) for token in tokens[:2]])
    return f"{shown} and others" if len(tokens) > 2 else shown

"""The massive row clamped to [-gamma, gamma]: the paper's Figure 20."""

import math
from collections.abc import Iterator
from typing import Any

import polars as pl

from thalweg.experiments._views import MeasuredPair, means_over, measured_pairs, settings_words
from thalweg.shown import (
    ARROW,
    MARK,
    Chapter,
    Dash,
    Line,
    Panel,
    Rule,
    Section,
    Table,
    change,
    from_zero_to_one,
    number,
    title,
    unit,
)
from thalweg.store import Run

COLUMNS = ("gamma", "compression", "entropy", "sink rate", "norm ratio", "next-token loss")
QUANTITIES = {"entropy_normalized": "entropy_normalized", "sink_rate": "sinks", "loss": "loss"}
"""What is drawn, and what the compress phase calls it."""
TITLES, UNITS = {"loss": "Next-token loss"}, {"loss": "nats"}
MARKS: tuple[tuple[str, str, Dash], ...] = (
    ("largest ordinary coordinate", "ordinary", ":"),
    ("largest massive coordinate", "peak", "-."),
)
NOTE = (
    "Every coordinate that is asked for is clamped to [-gamma, gamma], of the compress phase's row: in each prompt the "
    "one that is largest at its peak. "
    "The band is one standard deviation."
)


def chapters(run: Run) -> Iterator[Chapter]:
    """What every sweep of gamma did to every model and data set."""
    sections = [_section(measured) for measured in measured_pairs(run, "clip", "curves")]
    yield Chapter("Clipping", "clip", sections, NOTE)


def _section(measured: MeasuredPair) -> Section:
    curves, sweeps = measured.table("curves"), measured.table("sweeps").to_dicts()
    said, gammas = _sentence(curves), curves["gamma"].unique().sort()
    what = f"{_clamped(measured, sweeps)} clamped to gamma; {means_over(*_compress(curves))}"
    rows = [_row(curves.filter(gamma=gamma), gamma) for gamma in gammas]
    return Section(
        measured.name,
        measured.stem,
        [said],
        [_panel(quantity, curves, sweeps) for quantity in QUANTITIES],
        [Table(f"{measured.name}: {what}", COLUMNS, rows, folded="Every condition")],
        settings_words(measured.findings),
        measured.key,
        headline=f"{measured.name}: {said}",
        size=(3.5, 3.1),
    )


def _panel(quantity: str, curves: pl.DataFrame, sweeps: list[dict[str, Any]]) -> Panel:
    """Mean and standard deviation against gamma, and the model as it is."""
    finite = _of(curves, quantity).filter(pl.col("gamma").is_finite()).sort("gamma")
    mean, std = pl.col("clipped"), pl.col("clipped_std").fill_nan(0.0)
    rows = finite.select(at="gamma", mean=mean, lower=mean - std, upper=mean + std)
    return Panel(
        TITLES.get(quantity) or title(quantity),
        "gamma [activation units]",
        f"[{UNITS.get(quantity) or unit(quantity)}]",
        lines=(Line("clipped", rows),),
        rules=(*(Rule("not clipped", level) for level in finite["intact"].head(1)), *_marks(sweeps)),
        log_x=True,
        share=from_zero_to_one(quantity),
    )


def _marks(sweeps: list[dict[str, Any]]) -> Iterator[Rule]:
    """What the massive row is made of, where it is known."""
    for row in sweeps[:1]:
        for name, column, dash in MARKS:
            if math.isfinite(row[column]) and row[column] > 0:
                yield Rule(name, row[column], MARK, dash, upright=True)


def _sentence(curves: pl.DataFrame) -> str:
    finite = curves.filter(pl.col("gamma").is_finite())
    if not finite.height:
        return "Nothing is measured yet"
    least = finite["gamma"].min()
    entropy, sinks, loss = (_of(finite.filter(gamma=least), name).row(0, named=True) for name in QUANTITIES)
    changed, sank = (f"{number(row['intact'])} {ARROW} {number(row['clipped'])}" for row in (entropy, sinks))
    cost = change(loss["difference"], loss["low"], loss["high"])
    return (
        f"Clamped to {least:.4g}, normalized entropy goes {changed}, the sink rate {sank}"
        f"{_elsewhere(finite.filter(gamma=least))}, the loss by {cost} nats; {_half_gone(finite)}"
    )


def _elsewhere(rows: pl.DataFrame) -> str:
    """How many heads sink on another token, which differs from prompt to prompt."""
    for row in rows.filter(pl.col("clipped").is_finite(), site="compress", metric="elsewhere_rate").iter_rows(
        named=True
    ):
        return f" (on another token {number(row['intact'])} {ARROW} {number(row['clipped'])})"
    return ""


def _half_gone(finite: pl.DataFrame) -> str:
    if None in _compress(finite):
        return "there is no compress phase"
    compression = finite.filter(site="compress", metric="compression")
    half = compression.filter(pl.col("clipped") <= pl.col("intact") / 2)["gamma"]
    if not len(half):
        return "more than half of the compression stays at every gamma"
    return f"at {half.max():.4g} at most half of the compression is left"


def _row(rows: pl.DataFrame, gamma: float) -> list[str]:
    entropy, sinks, loss = (_of(rows, name).row(0, named=True) for name in QUANTITIES)
    site, intact = "depth" if None in _compress(rows) else "compress", math.isinf(gamma)
    compression, ratio = (
        number(next(iter(rows.filter(site=site, metric=metric)["clipped"]), None))
        for metric in ("compression", "norm_ratio")
    )
    return [
        "not clipped" if intact else f"{gamma:.4g}",
        compression,
        number(entropy["clipped"]),
        number(sinks["clipped"]),
        ratio,
        number(loss["intact"]) if intact else change(loss["difference"], loss["low"], loss["high"]),
    ]


def _of(rows: pl.DataFrame, quantity: str) -> pl.DataFrame:
    """The rows of one quantity: over the compress phase, or over the whole depth where there is none."""
    if quantity == "loss":
        return rows.filter(site="prompt", metric="loss")
    if None in _compress(rows):
        return rows.filter(site="depth", metric=quantity)
    return rows.filter(site="compress", metric=QUANTITIES[quantity])


def _compress(rows: pl.DataFrame) -> tuple[int | None, int | None]:
    """First and last state of the compress phase of the model as it is."""
    for first, last in rows.select("compress_first", "compress_last").head(1).iter_rows():
        return first, last
    return None, None


def _clamped(measured: MeasuredPair, sweeps: list[dict[str, Any]]) -> str:
    """Which coordinates, and where."""
    settings, row = measured.findings.header.settings, "the massive row"
    if settings.get("massive_only"):
        row = f"massive coordinates ({', '.join(map(str, sweeps[0]['dims'])) if sweeps else '-'}) of {row}"
    return f"{row} at states {settings['states']}" if "states" in settings else row

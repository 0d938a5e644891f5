"""Did the theorem hold, and how tight was it?"""

from dataclasses import dataclass

import polars as pl

from thalweg.figures import Pair, compress_span
from thalweg.report._words import amount, counted
from thalweg.store import Run

# What is left between measurement and bound, always counted so that it is positive where the bound holds.
_SLACKS = (
    ("entropy", "nats", pl.col("entropy_bound") - pl.col("entropy")),
    ("entropy, all massive rows", "nats", pl.col("entropy_bound_massive") - pl.col("entropy")),
    ("anisotropy", "no unit", pl.col("anisotropy") - pl.col("anisotropy_bound")),
    ("σ₁², as a share of it", "no unit", (pl.col("sigma1_sq") - pl.col("sigma1_sq_bound")) / pl.col("sigma1_sq")),
)


@dataclass(frozen=True)
class Tightness:
    """The mean distance between one quantity and its bound, inside the compress phase and outside."""

    quantity: str
    unit: str
    inside: str
    outside: str


@dataclass(frozen=True)
class TheoremVerdict:
    """Whether the theorem held, and how tightly."""

    held: bool
    text: str
    tightness: tuple[Tightness, ...]


def theorem_verdict(run: Run, pair: Pair) -> TheoremVerdict:
    """Count the rows that break the theorem, and measure how tight it is.

    Args:
        run: the run; ``layers`` is enough, ``phases`` tells inside from outside.
        pair: the model and the data set.
    """
    rows = run.layers.filter(pair.rows)
    checked, broken = (
        rows.select(
            pl.col("sigma1_sq_bound").is_finite().sum().alias("checked"), pl.col("bound_violated").sum().alias("broken")
        )
        .collect()
        .row(0)
    )
    text = f"Held on all {counted(checked, 'row')} where it says something." if checked else "No row it speaks about."
    if broken:
        text = (
            f"Broken on {broken} of {counted(checked, 'row')}, even in float64: an error in the program or the model."
        )
    span = compress_span(run, pair)
    inside = pl.lit(value=False) if span is None else pl.col("state").is_between(*span)
    table = (
        rows.select(
            *(_mean(slack, inside).alias(f"inside {name}") for name, _, slack in _SLACKS),
            *(_mean(slack, ~inside).alias(f"outside {name}") for name, _, slack in _SLACKS),
        )
        .collect()
        .row(0, named=True)
    )
    tightness = tuple(
        Tightness(name, unit, amount(table[f"inside {name}"]), amount(table[f"outside {name}"]))
        for name, unit, _ in _SLACKS
    )
    return TheoremVerdict(held=not broken, text=text, tightness=tightness)


def _mean(slack: pl.Expr, where: pl.Expr) -> pl.Expr:
    return slack.filter(where & slack.is_finite()).mean()

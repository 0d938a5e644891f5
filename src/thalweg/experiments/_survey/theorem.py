"""The theorem against measurement: did it hold, how tight was it, and its curves (the paper's Figures 3, 15 and 16)."""

from dataclasses import dataclass

import polars as pl

from thalweg.experiments._views import Pair, along, compress_span, file_name, heading, shaded
from thalweg.shown import GREY, PALETTE, Dash, Line, Panel, Section, Table, amount, counted, unit
from thalweg.store import Run

_NAN = float("nan")
_BOUND = PALETTE[2]
_QUANTITIES: dict[str, pl.Expr] = {
    "sigma1": pl.col("sigma1_sq").sqrt(),
    "frobenius": pl.col("frobenius_sq").sqrt(),
    "alpha_R": pl.col("alpha") * pl.col("R"),
    "M_plus_R": pl.col("M") + pl.col("R"),
    "top_three": pl.sum_horizontal("sigma1_sq", "sigma2_sq", "sigma3_sq"),
}
"""What is derived from columns; everything else that is drawn is one."""

# Compared quantities are averaged over the prompts where all of them are finite: else the mean of a bound could lie on
# the wrong side of the mean of what it bounds.
_TOGETHER = (
    ("sigma1", "sink_norm", "frobenius", "M", "alpha_R", "M_plus_R"),
    ("sigma1_sq", "sigma2_sq", "sigma3_sq", "top_three"),
    ("dominance", "dominance_bound", "dominance_bound_weak"),
    ("anisotropy", "anisotropy_bound", "anisotropy_bound_weak"),
    ("entropy", "entropy_bound", "entropy_bound_weak", "entropy_bound_massive"),
)
# What is left between measurement and bound, always counted so that it is positive where the bound holds.
_SLACKS = {
    "entropy": ("nats", pl.col("entropy_bound") - pl.col("entropy")),
    "entropy, all massive rows": ("nats", pl.col("entropy_bound_massive") - pl.col("entropy")),
    "anisotropy": ("no unit", pl.col("anisotropy") - pl.col("anisotropy_bound")),
    "σ₁², as a share of it": ("no unit", (pl.col("sigma1_sq") - pl.col("sigma1_sq_bound")) / pl.col("sigma1_sq")),
}


@dataclass(frozen=True)
class _Curve:
    """Which quantity, what to call it, how it looks, and whether it was measured."""

    quantity: str
    name: str
    color: str
    dash: Dash = "-"
    measured: bool = False


@dataclass(frozen=True)
class _Content:
    """Of one panel: its title, the metric that gives its unit, its curves, the scale of its axis."""

    title: str
    unit_of: str
    curves: tuple[_Curve, ...]
    log: bool = True


def _against_bounds(quantity: str, *more: _Curve) -> tuple[_Curve, ...]:
    return (
        _Curve(quantity, "measured", PALETTE[0], measured=True),
        _Curve(f"{quantity}_bound", "bound", _BOUND, "--"),
        _Curve(f"{quantity}_bound_weak", "weak bound", GREY, ":"),
        *more,
    )


_PANELS = (
    _Content(
        "First singular value against norms",
        "sigma1",
        (
            _Curve("frobenius", "‖X‖ (Frobenius)", GREY),
            _Curve("sigma1", "σ₁", PALETTE[0], measured=True),
            _Curve("sink_norm", "‖x₀‖", PALETTE[1], "--"),
        ),
    ),
    _Content(
        "Terms of the bound on σ₁²",
        "M",
        (_Curve("M_plus_R", "M + R", GREY), _Curve("M", "M", PALETTE[1]), _Curve("alpha_R", "alpha R", _BOUND)),
    ),
    _Content(
        "Three largest singular values",
        "sigma1_sq",
        (
            _Curve("top_three", "their sum", GREY),
            _Curve("sigma1_sq", "σ₁²", PALETTE[0], measured=True),
            _Curve("sigma2_sq", "σ₂²", PALETTE[1]),
            _Curve("sigma3_sq", "σ₃²", PALETTE[3]),
        ),
    ),
    _Content("Dominance, bounded from below", "dominance", _against_bounds("dominance")),
    _Content("Anisotropy, bounded from below", "anisotropy", _against_bounds("anisotropy"), log=False),
    _Content(
        "Entropy, bounded from above",
        "entropy",
        _against_bounds("entropy", _Curve("entropy_bound_massive", "massive rows", PALETTE[3], "-.")),
        log=False,
    ),
)


def theorem_section(run: Run, pair: Pair) -> Section:
    """Give what the theorem bounds beside its bounds, by state; of a pair without prompts that there is none."""
    verdict = theorem_verdict(run, pair)
    if not run.prompts.filter(pair.rows).head(1).collect().height:
        return Section(heading(run, pair), sentences=[verdict], rests="layers", folded=True)
    rows, spans = bound_curves(run, pair), shaded(compress_span(run, pair))
    return Section(
        heading(run, pair),
        name=f"bounds_{file_name(run, pair)}",
        sentences=[verdict],
        rests="layers",
        panels=[
            Panel(
                content.title,
                "state",
                f"[{unit(content.unit_of)}]",
                tuple(_line(curve, rows) for curve in content.curves),
                spans=spans,
                log_y=content.log,
            )
            for content in _PANELS
        ],
        tables=[tightness(run, pair)],
        legend="each",
        folded=True,
    )


def theorem_verdict(run: Run, pair: Pair) -> str:
    """Say on how many rows the theorem speaks, and on how many it is broken."""
    speaks, breaks = pl.col("sigma1_sq_bound").is_finite().sum(), pl.col("bound_violated").sum()
    checked, broken = run.layers.filter(pair.rows).select(speaks, breaks).collect().row(0)
    if broken:
        return f"Broken on {broken} of {counted(checked, 'row')}, even in float64: an error in the program or the model"
    return f"Held on all {counted(checked, 'row')} where it says something" if checked else "No row it speaks about"


def tightness(run: Run, pair: Pair) -> Table:
    """Give the mean distance between measurement and bound, inside the compress phase and outside."""
    span = compress_span(run, pair)
    inside = pl.lit(value=False) if span is None else pl.col("state").is_between(*span)
    means = [
        slack.filter(where & slack.is_finite()).mean().alias(f"{name} {number}")
        for name, (_, slack) in _SLACKS.items()
        for number, where in enumerate((inside, ~inside))
    ]
    values = iter(run.layers.filter(pair.rows).select(means).collect().row(0))
    rows = [[name, unit_of, amount(next(values)), amount(next(values))] for name, (unit_of, _) in _SLACKS.items()]
    columns = ("quantity", "unit", "inside the compress phase", "outside")
    return Table("How tight: mean distance from the bound, 0 being exact", columns, rows)


def bound_curves(run: Run, pair: Pair) -> pl.DataFrame:
    """Give what the theorem speaks about, by state, for one model on one data set: a row per quantity and state.

    Spread is one standard deviation; states where no prompt has a finite value carry NaN. ``layers`` are enough.
    """
    drawn = [_QUANTITIES.get(name, pl.col(name)).alias(name) for group in _TOGETHER for name in group]
    per_prompt = run.layers.filter(pair.rows).select(pl.col("state").alias("index"), *drawn)
    for group in _TOGETHER:
        finite = pl.all_horizontal(pl.col(name).is_finite() for name in group)
        per_prompt = per_prompt.with_columns(pl.when(finite).then(pl.col(group)).otherwise(None))
    long = per_prompt.collect().unpivot(index="index", variable_name="quantity", value_name="value")
    value = pl.col("value")
    mean, std = value.mean(), value.std().fill_null(0.0)
    table = long.group_by("quantity", "index", maintain_order=True).agg(
        mean=mean.fill_null(_NAN),
        lower=(mean - std).fill_null(_NAN),
        upper=(mean + std).fill_null(_NAN),
        n=value.count(),
    )
    return table.sort("quantity", "index", maintain_order=True)


def _line(curve: _Curve, rows: pl.DataFrame) -> Line:
    of_curve = along(rows.filter(quantity=curve.quantity), "index")
    return Line(curve.name, of_curve, curve.color, curve.dash, band=curve.measured)

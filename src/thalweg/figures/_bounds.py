"""The theorem against measurement, for one model on one data set: the paper's Figures 3, 15 and 16."""

from dataclasses import dataclass

import polars as pl
from matplotlib.figure import Figure

from thalweg.figures._bound_curves import bound_curves
from thalweg.figures._drawing import BOUND, GREY, PALETTE, Look, draw_band, finish, panels, shade, styled
from thalweg.figures._labels import plain, unit
from thalweg.figures._pairs import Pair, compress_span, labels
from thalweg.store import Run


@dataclass(frozen=True)
class BoundLine:
    """One line of a panel: which quantity, what to call it, how it looks, whether it was measured."""

    quantity: str
    label: str
    color: str
    linestyle: str = "-"
    measured: bool = False


@dataclass(frozen=True)
class BoundPanel:
    """One panel: its title, the metric that gives its unit, its lines, the scale of its axis."""

    title: str
    unit_of: str
    lines: tuple[BoundLine, ...]
    log: bool = True


def _against_bounds(quantity: str, *more: BoundLine) -> tuple[BoundLine, ...]:
    return (
        BoundLine(quantity, "measured", PALETTE[0], measured=True),
        BoundLine(f"{quantity}_bound", "bound", BOUND, "--"),
        BoundLine(f"{quantity}_bound_weak", "weak bound", GREY, ":"),
        *more,
    )


BOUND_PANELS = (
    BoundPanel(
        "First singular value against norms",
        "sigma1",
        (
            BoundLine("frobenius", "‖X‖ (Frobenius)", GREY),
            BoundLine("sigma1", "σ₁", PALETTE[0], measured=True),
            BoundLine("sink_norm", "‖x₀‖", PALETTE[1], "--"),
        ),
    ),
    BoundPanel(
        "Terms of the bound on σ₁²",
        "M",
        (
            BoundLine("M_plus_R", "M + R", GREY),
            BoundLine("M", "M", PALETTE[1]),
            BoundLine("alpha_R", "alpha R", BOUND),
        ),
    ),
    BoundPanel(
        "Three largest singular values",
        "sigma1_sq",
        (
            BoundLine("top_three", "their sum", GREY),
            BoundLine("sigma1_sq", "σ₁²", PALETTE[0], measured=True),
            BoundLine("sigma2_sq", "σ₂²", PALETTE[1]),
            BoundLine("sigma3_sq", "σ₃²", PALETTE[3]),
        ),
    ),
    BoundPanel("Dominance, bounded from below", "dominance", _against_bounds("dominance")),
    BoundPanel("Anisotropy, bounded from below", "anisotropy", _against_bounds("anisotropy"), log=False),
    BoundPanel(
        "Entropy, bounded from above",
        "entropy",
        _against_bounds("entropy", BoundLine("entropy_bound_massive", "massive rows", PALETTE[3], "-.")),
        log=False,
    ),
)


@styled
def bounds(run: Run, pair: Pair) -> Figure:
    """Draw what the theorem bounds beside its bounds, by state.

    Args:
        run: the run; its ``layers`` are enough.
        pair: the model and the data set.

    Returns:
        Six panels, the compress phase shaded.
    """
    rows, span = bound_curves(run, pair), compress_span(run, pair)
    figure, axes = panels(len(BOUND_PANELS))
    figure.suptitle(plain(f"{labels(run.header)[pair.model, pair.revision]} on {pair.data}"))
    for panel, content in zip(axes, BOUND_PANELS, strict=True):
        shade(panel, span)
        for line in content.lines:
            own = rows.filter(pl.col("quantity") == line.quantity)
            look = Look(line.color, line.linestyle, line.label)
            draw_band(panel, own, "index", look, log=content.log, band=line.measured)
        finish(panel, x="state", y=f"[{unit(content.unit_of)}]", title=content.title, log=content.log)
        panel.legend(loc="best")
    return figure

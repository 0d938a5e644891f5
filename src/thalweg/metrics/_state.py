"""Every per-state column of one prompt's state, in one pass.

Conventions: those of the other files; here what is shared is computed once, what is undefined is NaN (None for a
position or a count) with the reason in words, and the theorem is checked on every state. Where eigenvalues came from
float32 the tolerance is 1e-5; a state that misses it is computed again in float64, where the tolerance is 1e-10. Safe
to call from several threads; no global setting is touched.
"""

# torch.linalg and Tensor.tolist carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from thalweg.catalogue import METRICS
from thalweg.metrics import _spectrum
from thalweg.metrics._eigenvalues import eigenvalues
from thalweg.metrics._norms import MassiveActivation, Norms, massive_of, norms_of
from thalweg.metrics._theory import MassiveBound, Theorem, massive_bound_of, theorem_of
from thalweg.metrics._view import StateView
from thalweg.options import MASSIVE_RATIO
from thalweg.shapes import Float

SPECTRAL = tuple(row.name for row in METRICS if row.needs == ("spectrum",))
VARIANTS = tuple(row.name for row in METRICS if row.variant)


@dataclass(frozen=True, slots=True)
class StateMeasurement:
    """The columns of one state, its massive rows and entries, and all row norms.

    ``finite`` is False where it holds NaN or Inf.
    """

    metrics: dict[str, float | int | bool | str | None]
    massive: tuple[MassiveActivation, ...]
    row_norms: Float[Tensor, " token"] = field(compare=False)
    finite: bool = True


def measure_state(
    state: Float[Tensor, "token width"],
    /,
    *,
    sink_position: int = 0,
    massive_ratio: float = MASSIVE_RATIO,
    without_massive: bool = True,
    variants: bool = False,
) -> StateMeasurement:
    """Every column of the ``layers`` table for one prompt's state, but for its keys.

    Args:
        state: one prompt's state, real tokens only, any float dtype and device, activation units; left untouched.
        sink_position: the position whose row takes the place of the paper's x_0.
        massive_ratio: row norm against the median row norm from which a row is massive.
        without_massive: also compute the entropies without massive rows, which takes another spectrum; None without.
        variants: also compute what others publish as the entropy.

    Returns:
        The columns by name and at most 16 massive rows and entries. A state that is zero or not finite gives NaN (None
        for positions and counts) with the `reason`; nothing is raised for it.

    Raises:
        ValueError: the state has no token or no dimension, or an option is out of its range.

    Example:
        The rows (2, 0), (1, 0), (0, 1) have sigma_1^2 = 5 = M + alpha R, anisotropy 5/6, norm ratio 2.
    """
    if sink_position < 0:
        raise ValueError(f"`sink_position` counts from 0; got {sink_position}.")
    if not massive_ratio > 1:
        raise ValueError(f"`massive_ratio` compares with the median row and must exceed 1; got {massive_ratio}.")
    view = StateView(state)
    bounds, massive = theorem_of(view, sink_position), massive_bound_of(view, massive_ratio)
    spectrum, violated = _checked(view, bounds, massive)
    metrics: dict[str, float | int | bool | str | None] = {
        **_spectral(spectrum),
        **_columns(norms_of(view, sink_position)),
        **_columns(bounds),
        **_columns(massive),
        **_without_massive(view, massive_ratio, asked=without_massive),
        **(_other_entropies(view, sink_position) if variants else {}),
        "bound_violated": violated,
        "reason": view.undefined or _reason(view, sink_position),
    }
    return StateMeasurement(metrics, tuple(massive_of(view, massive_ratio)), view.norms, view.finite)


def bound_violated(
    spectrum: Float[Tensor, " rank"], /, *, bounds: Theorem, massive: MassiveBound, tolerance: float
) -> bool:
    """Whether a spectrum contradicts the theorem, which only a mistake can bring about.

    Args:
        spectrum: squared singular values, descending.
        bounds: the theorem's terms for the same state; NaN bounds are not checked.
        massive: the bound for several massive rows.
        tolerance: relative to the squared Frobenius norm; relative to the larger of 1 and H for entropies.

    Returns:
        True where sigma_1^2, its share, the entropy, or the sum of the first k eigenvalues is on the wrong side of a
        bound.

    Example:
        The spectrum (5, 1) of the rows (2, 0), (1, 0), (0, 1) meets them; (3, 3) does not.
    """
    whole, entropy = float(spectrum.sum()), float(_spectrum.entropy(spectrum))
    most = entropy - tolerance * max(1.0, entropy)
    tail = float(spectrum[1:].sum()) / whole
    leading = float(spectrum[: massive.massive_rank or 0].sum()) / whole
    return (
        float(spectrum[0]) < bounds.sigma1_sq_bound - tolerance * whole
        or tail > (1 - bounds.alpha) * bounds.R / whole + tolerance
        or leading < massive.massive_share - tolerance
        or any(
            most > bound for bound in (bounds.entropy_bound, bounds.entropy_bound_weak, massive.entropy_bound_massive)
        )
    )


def _columns(record: Norms | Theorem | MassiveBound) -> dict[str, float | int | None]:
    """The fields by name; ``dataclasses.asdict`` copies every value deeply, which takes as long as a small spectrum."""
    return {each.name: getattr(record, each.name) for each in fields(record)}


def _checked(view: StateView, bounds: Theorem, massive: MassiveBound) -> tuple[Tensor, bool]:
    """The spectrum, in float64 where it would contradict the theorem otherwise, and whether it does."""
    if view.undefined:
        return torch.full((view.rank,), math.nan, dtype=torch.float64), False
    spectrum = view.eigenvalues
    tolerance = 1e-10 if spectrum.exact else 1e-5
    violated = bound_violated(spectrum.values, bounds=bounds, massive=massive, tolerance=tolerance)
    if violated and not spectrum.exact:
        spectrum = eigenvalues(view.gram, exact=True)
        violated = bound_violated(spectrum.values, bounds=bounds, massive=massive, tolerance=1e-10)
    return spectrum.values, violated


def _spectral(spectrum: Tensor) -> dict[str, float]:
    # One stack and one read instead of nine.
    values = torch.stack([getattr(_spectrum, name)(spectrum) for name in SPECTRAL])
    return dict(zip(SPECTRAL, values.tolist(), strict=True))


def _without_massive(view: StateView, massive_ratio: float, *, asked: bool) -> dict[str, float | None]:
    numbers = _spectrum.without_massive_of(view, massive_ratio) if asked else (None, None)
    return dict(zip(("entropy_without_massive", "entropy_without_massive_normalized"), numbers, strict=True))


def _other_entropies(view: StateView, sink_position: int) -> dict[str, float]:
    if view.undefined:
        return dict.fromkeys(VARIANTS, math.nan)
    options = {"entropy_without_sink": {"sink_position": sink_position}}
    return {name: getattr(_spectrum, name)(view.state, **options.get(name, {})) for name in VARIANTS}


def _reason(view: StateView, sink_position: int) -> str | None:
    """Why some columns are NaN, in words; None where none is."""
    reasons: list[str] = []
    if view.tokens == 1:
        reasons.append("one token: nothing to compare it with")
    elif view.rank < 3:
        reasons.append(f"min(T, d) = {view.rank}: no third singular value")
    if sink_position >= view.tokens:
        reasons.append(f"no token at sink position {sink_position}")
    elif view.row_sq[sink_position] == 0:
        reasons.append("the sink's row is zero")
    elif view.tokens > 1 and view.row_sq[sink_position] == view.frobenius_sq:
        reasons.append("every row but the sink's is zero")
    return "; ".join(reasons) or None

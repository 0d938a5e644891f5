"""What massive rows alone prove about a spectrum: Theorem 1, Corollary 2, and their form for several massive rows.

Conventions: x_s is the sink's row (position 0 unless said otherwise), M = |x_s|^2, R = sum over the others of |x_i|^2,
alpha = sum over the others of |x_i|^2 cos^2(theta_i) / R, c = M/R, p = (c + alpha)/(c + 1), r = min(T, d). Squared
activation units, nats. 1 - p is formed as (1 - alpha) R / (M + R), never by subtraction from 1: beside a massive row
the difference would be rounding.

Edges: one token: c = inf, alpha and all bounds NaN. A zero sink: M = c = 0, alpha and every bound with alpha NaN,
entropy bounds ln r. All other rows zero: c = inf, alpha NaN, bounds at p = 1. A zero state or no token at the sink
position: NaN throughout.

The paper's proof of the entropy bound holds for p >= 1/e only; the bound itself always holds: the spectrum majorises
the diagonal of X^T X in any orthonormal basis of the row space (Schur-Horn), and x_s/|x_s| can be its first vector. The
same argument with a basis of the span of several massive rows gives the bound of `massive_bound`, which the paper
leaves open.
"""

# torch.linalg and Tensor.tolist carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.metrics._view import StateView
from thalweg.options import MASSIVE_RATIO
from thalweg.shapes import Float

SPAN = 1e-6


@dataclass(frozen=True, slots=True)
class Theorem:
    """Terms and bounds of Theorem 1 and Corollary 2; every field is a column of the ``layers`` table.

    Attributes:
        M: squared norm of the sink's row.
        R: summed squared norms of the others.
        alpha: their alignment with the sink, in [0, 1].
        c: M / R.
        sigma1_sq_bound: sigma_1^2 >= M + alpha R (Theorem 1).
        sigma1_sq_bound_weak: M.
        dominance_bound: dominance >= (c + alpha)/(1 - alpha) (Corollary 2.1).
        dominance_bound_weak: c.
        anisotropy_bound: p_1 >= p (Corollary 2.2).
        anisotropy_bound_weak: c/(c + 1).
        entropy_bound: H <= -p ln p - (1-p) ln(1-p) + (1-p) ln(r-1) (Corollary 2.3).
        entropy_bound_weak: the same at p = c/(c + 1) where that is at least 1/r, else ln r.
    """

    M: float
    R: float
    alpha: float
    c: float
    sigma1_sq_bound: float
    sigma1_sq_bound_weak: float
    dominance_bound: float
    dominance_bound_weak: float
    anisotropy_bound: float
    anisotropy_bound_weak: float
    entropy_bound: float
    entropy_bound_weak: float


@dataclass(frozen=True, slots=True)
class MassiveBound:
    """The bound for several massive rows; every field is a column of the ``layers`` table.

    Attributes:
        massive_row_count: number of massive rows.
        massive_rank: k, dimension of their span (singular values above 1e-6 of the largest).
        massive_share: q, the share of the squared Frobenius norm that lies in that span; sum_{j<=k} sigma_j^2 >= q F2
            (Ky Fan).
        entropy_bound_massive: H <= -sum q_i ln q_i - (1-q) ln((1-q)/(r-k)); ln r without massive rows.
    """

    massive_row_count: int | None
    massive_rank: int | None
    massive_share: float
    entropy_bound_massive: float


def theorem(state: Float[Tensor, "token width"], /, *, sink_position: int = 0) -> Theorem:
    """Terms and bounds of Theorem 1 and Corollary 2 for one state (the paper, section 3.2 and Appendix A.2).

    Args:
        state: one prompt's state, real tokens only, activation units.
        sink_position: the row in the place of the paper's x_0.

    Returns:
        The terms and bounds, float64.

    Raises:
        ValueError: the state has no token or no dimension.

    Example:
        The rows (2, 0), (1, 0), (0, 1): M = 4, R = 2, alpha = 1/2, c = 2, sigma_1^2 >= 5 (it is 5), p = 5/6.
    """
    return theorem_of(StateView(state), sink_position)


def massive_bound(state: Float[Tensor, "token width"], /, *, massive_ratio: float = MASSIVE_RATIO) -> MassiveBound:
    """What the span of the massive rows proves about the entropy (Schur-Horn; the paper's Appendix A.2 leaves it open).

    Args:
        state: one prompt's state, real tokens only.
        massive_ratio: row norm against the median row norm from which a row is massive.

    Returns:
        Number, rank, share and bound; 0, 0, 0 and ln r without massive rows; NaN and None for a state that is zero or
        not finite.

    Raises:
        ValueError: the state has no token or no dimension.

    Example:
        Rows 10 e_1, 10 e_2, e_3, e_4, e_5 at ratio 10: two rows, rank 2, share 200/203, and here the bound is the
        entropy itself.
    """
    return massive_bound_of(StateView(state), massive_ratio)


def spread_entropy(shares: Sequence[float], rest: float, rank: int) -> float:
    """Largest entropy of `rank` shares of which some are given and the others add up to `rest`.

    Args:
        shares: the given shares.
        rest: what is left for the others; rounding below 0 counts as 0.
        rank: number of shares in all.

    Returns:
        -sum q ln q - rest ln(rest / (rank - k)), nats.

    Example:
        One share of 1/2 among three: (3/2) ln 2.
    """
    given = 0.0 - sum(q * math.log(q) for q in shares if q > 0)
    others = rank - len(shares)
    return given - rest * math.log(rest / others) if rest > 0 and others > 0 else given


def theorem_of(view: StateView, sink_position: int) -> Theorem:
    if view.undefined or sink_position >= view.tokens:
        return Theorem(*[math.nan] * 12)
    others = torch.arange(view.tokens) != sink_position
    sink, rest = float(view.row_sq[sink_position]), float(view.row_sq[others].sum())
    nan, most = math.nan, math.log(view.rank)
    if sink == 0:
        return Theorem(0.0, rest, nan, 0.0, nan, 0.0, nan, 0.0, nan, 0.0, most, most)
    if rest == 0:
        bounds = [nan] * 8 if view.tokens == 1 else [sink, sink, math.inf, math.inf, 1.0, 1.0, 0.0, 0.0]
        return Theorem(sink, 0.0, nan, math.inf, *bounds)
    inner = view.inner(sink_position)[others]
    return _bounds(sink, rest, min(rest, float(inner.square().sum()) / sink), view.rank)


def massive_bound_of(view: StateView, massive_ratio: float) -> MassiveBound:
    if view.undefined:
        return MassiveBound(None, None, math.nan, math.nan)
    positions = view.massive_rows(massive_ratio)
    if not positions:
        return MassiveBound(0, 0, 0.0, math.log(view.rank))
    rows = view.double[positions].cpu()
    _, singular, directions = torch.linalg.svd(rows, full_matrices=False)
    span = directions[singular > SPAN * singular[0]].to(view.double.device)
    inside = view.double @ span.T
    shares = (torch.linalg.eigvalsh((inside.T @ inside).cpu()) / view.frobenius_sq).clamp(0, 1).tolist()
    share = min(1.0, math.fsum(shares))
    return MassiveBound(len(positions), len(span), share, spread_entropy(shares, 1 - share, view.rank))


def _bounds(sink: float, rest: float, aligned: float, rank: int) -> Theorem:
    """Sink and rest not zero; `aligned` is alpha R."""
    whole, spread = sink + rest, rest - aligned
    p, weak = (sink + aligned) / whole, sink / whole
    return Theorem(
        M=sink,
        R=rest,
        alpha=aligned / rest,
        c=sink / rest,
        sigma1_sq_bound=sink + aligned,
        sigma1_sq_bound_weak=sink,
        dominance_bound=(sink + aligned) / spread if spread > 0 else math.inf,
        dominance_bound_weak=sink / rest,
        anisotropy_bound=p,
        anisotropy_bound_weak=weak,
        entropy_bound=spread_entropy([p], spread / whole, rank),
        entropy_bound_weak=spread_entropy([weak], rest / whole, rank) if weak * rank >= 1 else math.log(rank),
    )

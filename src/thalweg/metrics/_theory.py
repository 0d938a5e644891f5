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
from typing import NamedTuple

import torch
from torch import Tensor

from thalweg.metrics._spectra import symmetric_eigen
from thalweg.metrics._view import StateView
from thalweg.options import MASSIVE_RATIO
from thalweg.shapes import Float, Int

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
    given = _given(torch.tensor(shares, dtype=torch.float64).clamp_min(0)).sum()
    return float(_spread(given, torch.tensor(rest, dtype=torch.float64), torch.tensor(rank - len(shares))))


def theorem_of(view: StateView, sink_position: int) -> Theorem:
    sink = sink_position if sink_position < view.tokens else -1
    inner = view.inner(sink) if sink >= 0 and view.undefined is None else torch.zeros_like(view.row_sq)
    columns = theorem_columns(view.row_sq, inner, *view.shape, sink=torch.tensor(sink))
    return Theorem(**{name: float(column) for name, column in columns.items()})


def massive_bound_of(view: StateView, massive_ratio: float) -> MassiveBound:
    if view.undefined:
        return MassiveBound(None, None, math.nan, math.nan)
    found = span_of(view, massive_ratio)
    share, bound = (float(column) for column in massive_columns(found.shares, found.rank, *view.shape).values())
    return MassiveBound(found.rows, int(found.rank), share, bound)


def theorem_columns(
    row_sq: Float[Tensor, "*batch token"],
    inner: Float[Tensor, "*batch token"],
    tokens: Int[Tensor, "*batch"],
    width: int,
    *,
    sink: Int[Tensor, "*batch"],
) -> dict[str, Tensor]:
    """The fields of `Theorem` for many states, in order.

    Args:
        row_sq: squared row norms, 0 at pads.
        inner: inner products of the rows with the sink's, 0 at pads.
        tokens: T.
        width: d.
        sink: position of the sink's row; -1 where there is none.

    Returns:
        One value for each state, NaN for a state that is zero or not finite.
    """
    at = sink.clamp_min(0)[..., None]
    whole = row_sq.sum(-1)
    sinks = row_sq.gather(-1, at)[..., 0].masked_fill((sink < 0) | (whole == 0) | ~whole.isfinite(), math.nan)
    rest = row_sq.scatter(-1, at, 0.0).sum(-1) + 0 * sinks
    aligned = torch.minimum(rest, inner.scatter(-1, at, 0.0).square().sum(-1) / sinks)
    whole, spread, rank = sinks + rest, rest - aligned, tokens.clamp_max(width)
    p, weak, most = (sinks + aligned) / whole, sinks / whole, rank.double().log() + 0 * sinks
    columns = {
        "M": sinks,
        "R": rest,
        "alpha": aligned / rest,
        "c": sinks / rest,
        "sigma1_sq_bound": sinks + aligned,
        "sigma1_sq_bound_weak": sinks,
        "dominance_bound": torch.where(spread <= 0, math.inf, (sinks + aligned) / spread),
        "dominance_bound_weak": sinks / rest,
        "anisotropy_bound": p,
        "anisotropy_bound_weak": weak,
        "entropy_bound": torch.where(sinks == 0, most, _spread(_given(p), spread / whole, rank - 1)),
        "entropy_bound_weak": torch.where(weak * rank < 1, most, _spread(_given(weak), rest / whole, rank - 1)),
    }
    bounds = list(columns)[4:]
    return columns | {name: columns[name].masked_fill(tokens == 1, math.nan) for name in bounds}


def massive_columns(
    shares: Float[Tensor, "*batch massive"], rank: Int[Tensor, "*batch"], tokens: Int[Tensor, "*batch"], width: int
) -> dict[str, Tensor]:
    """The last two fields of `MassiveBound` for many states, from the shares of their massive rows' span.

    Args:
        shares: q_i, 0 beyond the dimension of the span.
        rank: k.
        tokens: T.
        width: d.
    """
    share, least = shares.sum(-1).clamp_max(1), tokens.clamp_max(width)
    return {
        "massive_share": share,
        "entropy_bound_massive": _spread(_given(shares).sum(-1), 1 - share, least - rank),
    }


class Span(NamedTuple):
    """The span of the massive rows of a state: how many rows, its dimension, and the shares that lie in it."""

    rows: int
    rank: Int[Tensor, ""]
    shares: Float[Tensor, " massive"]


def span_of(view: StateView, massive_ratio: float) -> Span:
    """From inner products alone.

    With K = U S^2 U^T those of the massive rows among themselves and B those with all rows, B U S^-1 is what all rows
    have in an orthonormal basis of the span, and the shares are the eigenvalues of its Gram matrix.
    """
    positions = view.massive_rows(massive_ratio)
    if not positions:
        return Span(0, torch.tensor(0), torch.zeros(0, dtype=torch.float64))
    products = torch.stack([view.inner(position) for position in positions], dim=1)
    rank, shares = span_shares(products[positions][None], (products.T @ products)[None], view.frobenius_sq)
    return Span(len(positions), rank[0], shares[0])


def span_shares(
    among: Float[Tensor, "*states massive massive"],
    through: Float[Tensor, "*states massive massive"],
    whole: Float[Tensor, "*states"] | float,
) -> tuple[Int[Tensor, "*states"], Float[Tensor, "*states massive"]]:
    """Dimension of the span of some rows and the shares that lie in it, 0 beyond the dimension.

    Args:
        among: inner products of these rows, K; 0 in the place of rows that are not there.
        through: inner products of the columns of B, which holds theirs with all rows.
        whole: squared Frobenius norm of the state.
    """
    whole = torch.as_tensor(whole, dtype=among.dtype, device=among.device)[..., None]
    if among.shape[-1] == 1:
        own = among[..., 0]
        return (own[..., 0] > 0).long(), torch.where(own > 0, through[..., 0] / own / whole, 0.0)
    squares, turn = symmetric_eigen(among, vectors=True)
    kept = squares > SPAN**2 * squares[..., -1:]
    turn = turn * torch.where(kept, squares.rsqrt(), 0.0)[..., None, :]
    inside, _ = symmetric_eigen(turn.mT @ through @ turn)
    return kept.sum(-1), (inside / whole).clamp(0, 1)


def _given(share: Tensor) -> Tensor:
    """-q ln q, without the sign of a zero."""
    return 0.0 - torch.xlogy(share, share)


def _spread(given: Tensor, rest: Tensor, others: Tensor) -> Tensor:
    """What `spread_entropy` says, of the entropy of the given shares."""
    more = torch.xlogy(rest, rest / others).masked_fill((rest <= 0) | (others <= 0), 0.0)
    return given - more

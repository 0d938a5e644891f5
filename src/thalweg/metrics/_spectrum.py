"""How many directions does a state use: entropy, anisotropy, effective rank, and what others publish as its entropy.

Conventions: the spectrum is the squared singular values sigma_j^2 of the raw state (not centred, rows not normalised,
every real token, position 0 included), descending; p_j = sigma_j^2 / sum. Natural logarithms, 0 ln 0 = 0. A spectrum
that sums to 0 has no shares: NaN. Functions take spectra with any leading dimensions and return one number for each.

Other entropies take a state and return a float in nats, NaN where nothing is left to have a spectrum (one token, after
centring). Centred = the mean row is subtracted; unit rows = each row is divided by its norm afterwards (a zero row
stays zero). On ``default_rng(0).standard_normal((64, 256))``, rows scaled to norm 1 and row 0 then by 100, where
`entropy` is 0.0629, they give 4.018 (without the sink), 0.0629 (centred), 1.727 (Wei), 1.803 and 0.705 (Skean, orders 1
and 2).
"""

# torch.linalg and Tensor.tolist carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from thalweg.metrics._eigenvalues import SMALL, Eigenvalues, eigenvalues, gram_matrix
from thalweg.metrics._view import StateView, largest
from thalweg.options import MASSIVE_RATIO
from thalweg.shapes import Float


def spectrum(state: Float[Tensor, "token width"], /) -> Float[Tensor, " rank"]:
    """Squared singular values of a state, from the Gram matrix on its smaller side.

    Args:
        state: one prompt's state, real tokens only, any float dtype, activation units.

    Returns:
        sigma_1^2 >= ... >= sigma_r^2 >= 0, r = min(T, d), float64 on the processor, activation units squared; NaN for a
        state that is not finite. Entropies of it are within 1e-5 relative or 1e-7 absolute of the exact ones (see
        ``_eigenvalues.py``).

    Raises:
        ValueError: the state has no token or no dimension.

    Example:
        The rows (3, 0) and (0, 1) have the spectrum (9, 1).
    """
    return StateView(state).eigenvalues.values


def entropy(spectrum: Float[Tensor, "*batch rank"], /) -> Float[Tensor, "*batch"]:
    """Matrix-based entropy H = -sum p_j ln p_j (the paper, section 2; Skean et al. 2025).

    Returns:
        Nats, in [0, ln r]; NaN where the spectrum sums to 0.

    Example:
        Two equal singular values: ln 2. One alone: 0.
    """
    shares = spectrum / frobenius_sq(spectrum).unsqueeze(-1)
    # Rounding can leave a share of 1 + 1e-16; 0.0 - 0.0 is 0.0 where -(0.0) would print as -0.0.
    return 0.0 - torch.xlogy(shares, shares).sum(-1).clamp_max(0)


def entropy_normalized(spectrum: Float[Tensor, "*batch rank"], /) -> Float[Tensor, "*batch"]:
    """Entropy as a share of its largest possible value, H / ln r.

    Args:
        spectrum: squared singular values, all r = min(T, d) of them.

    Returns:
        In [0, 1]; NaN for r = 1, where no other value than 0 was possible.

    Example:
        An orthogonal matrix has 1.
    """
    rank = spectrum.shape[-1]
    return (entropy(spectrum) / (math.log(rank) if rank > 1 else math.nan)).clamp_max(1)


def effective_rank(spectrum: Float[Tensor, "*batch rank"], /) -> Float[Tensor, "*batch"]:
    """Number of directions in use, exp(H) (Roy and Vetterli 2007, with sigma^2).

    Returns:
        In [1, r].

    Example:
        k equal singular values: k.
    """
    return entropy(spectrum).exp()


def anisotropy(spectrum: Float[Tensor, "*batch rank"], /) -> Float[Tensor, "*batch"]:
    """Share of the first direction, p_1 = sigma_1^2 / sum (the paper, section 2).

    Returns:
        In [1/r, 1].

    Example:
        The spectrum (9, 1) has 0.9.
    """
    return sigma1_sq(spectrum) / frobenius_sq(spectrum)


def dominance(spectrum: Float[Tensor, "*batch rank"], /) -> Float[Tensor, "*batch"]:
    """First direction against all others, sigma_1^2 / sum_{j>=2} sigma_j^2 (the paper, Corollary 2).

    The tail is the sum of the small eigenvalues: as a difference from the whole it would be rounding beside a massive
    row.

    Returns:
        In [1/(r-1), inf]; inf where the tail is 0 or, for r = 1, has no terms; NaN for a spectrum of zeros.

    Example:
        The spectrum (9, 1) has 9.
    """
    return sigma1_sq(spectrum) / spectrum[..., 1:].flip(-1).sum(-1)


def sigma1_sq(spectrum: Float[Tensor, "*batch rank"], /) -> Float[Tensor, "*batch"]:
    """Largest squared singular value, activation units squared. Example: (9, 1) has 9."""
    return _square(spectrum, 0)


def sigma2_sq(spectrum: Float[Tensor, "*batch rank"], /) -> Float[Tensor, "*batch"]:
    """Second squared singular value, activation units squared; NaN beyond r. Example: (9, 1) has 1."""
    return _square(spectrum, 1)


def sigma3_sq(spectrum: Float[Tensor, "*batch rank"], /) -> Float[Tensor, "*batch"]:
    """Third squared singular value, activation units squared; NaN beyond r. Example: (9, 1) has NaN."""
    return _square(spectrum, 2)


def frobenius_sq(spectrum: Float[Tensor, "*batch rank"], /) -> Float[Tensor, "*batch"]:
    """Squared Frobenius norm of the state, sum_j sigma_j^2, activation units squared. Example: (9, 1) has 10."""
    return spectrum.flip(-1).sum(-1)


def entropy_without_sink(state: Float[Tensor, "token width"], /, *, sink_position: int = 0) -> float:
    """Entropy of the other rows, the sink's row left out.

    Args:
        state: one prompt's state, real tokens only.
        sink_position: the row to leave out.

    Returns:
        Nats, in [0, ln min(T - 1, d)]; NaN where the sink is not there or nothing but it is.

    Example:
        The rows (100, 0), (1, 0), (0, 1): ln 2.
    """
    if not 0 <= sink_position < state.shape[0] or state.shape[0] < 2:
        return math.nan
    others = torch.arange(state.shape[0], device=state.device) != sink_position
    return float(entropy(spectrum(state[others])))


def entropy_without_massive(state: Float[Tensor, "token width"], /, *, massive_ratio: float = MASSIVE_RATIO) -> float:
    """Entropy of the other tokens: the massive rows dropped, the largest row where none is massive.

    What compression is left without the rows that stand out; the reference of an ablation's verdict.

    Args:
        state: one prompt's state, real tokens only.
        massive_ratio: row norm against the median row norm from which a row is massive.

    Returns:
        Nats, in [0, ln r], r = min(T - k, d) for k dropped rows; NaN where nothing else is left, or only zeros.

    Example:
        The rows (100, 0), (1, 0), (0, 1): ln 2.
    """
    return without_massive_of(StateView(state), massive_ratio)[0]


def entropy_without_massive_normalized(
    state: Float[Tensor, "token width"], /, *, massive_ratio: float = MASSIVE_RATIO
) -> float:
    """The same as a share of ln r, r = min(T - k, d).

    Returns:
        In [0, 1]; NaN for r = 1.

    Example:
        The rows (100, 0), (1, 0), (0, 1): 1.
    """
    return without_massive_of(StateView(state), massive_ratio)[1]


def without_massive_of(view: StateView, massive_ratio: float) -> tuple[float, float]:
    """Entropy without the massive rows, and normalized."""
    if view.undefined:
        return math.nan, math.nan
    dropped = view.massive_rows(massive_ratio) or [largest(view.norms)]
    count = min(view.tokens - len(dropped), view.width)
    if count == 0:
        return math.nan, math.nan
    remaining = float(entropy(_without(view, dropped).values))
    return remaining, remaining / math.log(count) if count > 1 else math.nan


def _without(view: StateView, dropped: Sequence[int]) -> Eigenvalues:
    if len(dropped) == 1 and view.rank > SMALL:
        return view.without(dropped[0])
    kept = torch.ones(view.tokens, dtype=torch.bool)
    kept[list(dropped)] = False
    if view.by_token:
        return eigenvalues(view.gram[kept][:, kept])
    rows = view.double[kept.to(view.double.device)]
    return eigenvalues(gram_matrix(rows if len(rows) <= view.width else rows.T))


def entropy_centred(state: Float[Tensor, "token width"], /) -> float:
    """Entropy of the covariance: the state with its mean row subtracted.

    Returns:
        Nats, in [0, ln min(T - 1, d)].

    Example:
        The rows (1, 0), (3, 0): 0, one direction is left.
    """
    return float(entropy(spectrum(_centred(state))))


def entropy_wei(state: Float[Tensor, "token width"], /) -> float:
    """Entropy of the centred state with unit rows (Wei et al. 2024, Diff-eRank; they divide it by ln d).

    Returns:
        Nats, in [0, ln min(T, d)].

    Example:
        The rows (1, 0), (3, 0): both become unit vectors of one direction, 0.
    """
    return float(entropy(spectrum(_unit_rows(state))))


def entropy_skean_1(state: Float[Tensor, "token width"], /) -> float:
    """Von Neumann entropy of the clamped kernel K / trace K (Skean et al. 2025, order 1).

    K is the Gram matrix of the centred unit rows with its negative entries set to 0, on the smaller side, as in their
    code. Clamping can make eigenvalues negative; like them, the positive ones are taken and divided by their sum.

    Returns:
        Nats, in [0, ln min(T, d)].

    Example:
        The rows (1, 0), (3, 0): K becomes the identity of size 2, ln 2.
    """
    kernel = _kernel(state)
    if not kernel.isfinite().all():
        return math.nan
    return float(entropy(torch.linalg.eigvalsh(kernel).clamp_min(0)))


def entropy_skean_2(state: Float[Tensor, "token width"], /) -> float:
    """Order-2 entropy of the same kernel, -ln(sum K_ij^2 / N^2), N = trace K (Skean et al. 2025).

    Returns:
        Nats, in [0, ln min(T, d)].

    Example:
        The rows (1, 0), (3, 0): K is the identity of size 2, ln 2.
    """
    kernel = _kernel(state)
    return float(-(kernel.square().sum() / kernel.trace().square()).log())


def _centred(state: Tensor) -> Tensor:
    """The state minus its mean row, in float64; rows that are equal up to rounding become exactly zero."""
    double = state.detach().double() if state.device.type != "mps" else state.detach().cpu().double()
    centred = double - double.mean(dim=0)
    rounding = 1e-15 * double.abs().amax() * math.sqrt(double.numel())
    return torch.where(torch.linalg.vector_norm(centred, dim=1, keepdim=True) > rounding, centred, 0.0)


def _unit_rows(state: Tensor) -> Tensor:
    centred = _centred(state)
    norms = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    return centred / torch.where(norms == 0, 1, norms)


def _kernel(state: Tensor) -> Tensor:
    rows = _unit_rows(state)
    return gram_matrix(rows if rows.shape[0] <= rows.shape[1] else rows.T).cpu().clamp_min(0)


def _square(spectrum: Tensor, order: int) -> Tensor:
    if order < spectrum.shape[-1]:
        return spectrum[..., order]
    return torch.full_like(spectrum[..., 0], math.nan)

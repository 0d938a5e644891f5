"""What others publish as the entropy of the same state.

Conventions: centred = the mean row is subtracted; unit rows = each row is divided by its norm afterwards (a zero row
stays zero). Natural logarithms. Each returns a float in nats, NaN where nothing is left to have a spectrum (one token,
after centring). On ``default_rng(0).standard_normal((64, 256))``, rows scaled to norm 1 and row 0 then by 100, where
`entropy` is 0.0629, they give 4.018 (without the sink), 0.0629 (centred), 1.727 (Wei), 1.803 and 0.705 (Skean, orders 1
and 2).
"""

# torch.linalg and Tensor.tolist carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math

import torch
from torch import Tensor

from thalweg.metrics._eigenvalues import gram_matrix
from thalweg.metrics._spectrum import entropy, spectrum
from thalweg.shapes import Float


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
    return torch.where(
        torch.linalg.vector_norm(centred, dim=1, keepdim=True) > rounding, centred, torch.zeros_like(centred)
    )


def _unit_rows(state: Tensor) -> Tensor:
    centred = _centred(state)
    norms = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    return centred / torch.where(norms == 0, 1, norms)


def _kernel(state: Tensor) -> Tensor:
    rows = _unit_rows(state)
    return gram_matrix(rows if rows.shape[0] <= rows.shape[1] else rows.T).cpu().clamp_min(0)

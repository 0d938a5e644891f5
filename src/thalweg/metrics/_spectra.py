"""Eigenvalues of many Gram matrices at once, where they lie.

Conventions: those of ``_eigenvalues``, for matrices (number, n, n) whose last rows and columns may be zero: `rank` of
their eigenvalues are wanted, descending, and zeros follow.

The policy is the same: leading directions in float64, the others in float32 after these are taken out, float64 again
where that could be seen in the entropy. On a device this pays at every size. Nothing waits for the device but the
question which matrices are to be computed again.
"""

# torch.linalg and Tensor.tolist carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import warnings
from collections.abc import Callable
from functools import cache, lru_cache

import torch
from torch import Tensor

from thalweg.metrics import _cusolver
from thalweg.metrics._eigenvalues import (
    ALLOWED,
    CONVERGED,
    COUPLING,
    REMAINDER,
    eigenvalues,
    float32_noise,
    start_vectors,
)
from thalweg.shapes import Float, Int

DIRECTIONS, ITERATIONS = 4, 3
"""Fewer than on a processor: each costs launches, and whatever a solver could not resolve is computed again."""
SPANNED = 1e-13
"""Of a unit vector, what is rounding once the directions before it are taken out."""

Doubt = Callable[[Tensor], Tensor]
"""Spectra (number, n) to whether each contradicts what is known of it."""


def spectra(
    grams: Float[Tensor, "number size size"], ranks: Int[Tensor, " number"], /, doubted: Doubt | None = None
) -> tuple[Float[Tensor, "number size"], Tensor]:
    """Eigenvalues of positive semidefinite, finite matrices, and which of them are float64 throughout.

    Args:
        grams: float32 or float64.
        ranks: how many eigenvalues there are; 0 for a matrix that is not to be looked at, which gets NaN.
        doubted: asks for float64.
    """
    if not len(grams):
        return grams.diagonal(dim1=1, dim2=2).double(), ranks > 0
    if not _solved_here(grams.device):
        return _on_processor(grams, ranks, doubted)
    values, accepted = _deflated(grams, ranks)
    if doubted is not None:
        accepted &= ~doubted(values)
    again = (~accepted & (ranks > 0)).nonzero().flatten()
    if len(again):
        exact, _ = symmetric_eigen(grams[again].double())
        values[again] = _descending(exact, ranks[again])
    return values.masked_fill((ranks == 0)[:, None], torch.nan), ~accepted


def symmetric_eigen(matrices: Float[Tensor, "number size size"], /, *, vectors: bool = False) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors in columns, or nothing; one call for all matrices."""
    if _cusolver.has_solver(matrices.device):
        values, found = _cusolver.eigen(matrices, vectors=vectors)
        return values, values if found is None else found
    if vectors:
        return tuple(torch.linalg.eigh(matrices))
    values = torch.linalg.eigvalsh(matrices)
    return values, values


@cache
def _solved_here(device: torch.device) -> bool:
    """Whether the device has an exact solver for batches; where it has not, that is said once."""
    if device.type != "cuda" or _cusolver.has_solver(device):
        return True
    warnings.warn(
        "this installation has no cuSOLVER with batched eigenvalues (CUDA 12.6.2 or later); they are computed on the "
        "processor instead, which is slower and gives the same numbers.",
        stacklevel=2,
    )
    return False


def _on_processor(grams: Tensor, ranks: Tensor, doubted: Doubt | None) -> tuple[Tensor, Tensor]:
    found = [eigenvalues(gram) for gram in grams.double().cpu()]
    values = torch.stack([one.values for one in found]).to(grams.device)
    exact = torch.tensor([one.exact for one in found], device=grams.device)
    values = _descending(values.flip(-1), ranks)
    again = ~exact & doubted(values) if doubted is not None else torch.zeros_like(exact)
    for number in again.nonzero().flatten().tolist():
        found = eigenvalues(grams[number].double().cpu(), exact=True).values.to(grams.device)
        values[number] = _descending(found.flip(-1)[None], ranks[number : number + 1])[0]
    return values.masked_fill((ranks == 0)[:, None], torch.nan), exact | again


def _deflated(grams: Tensor, ranks: Tensor) -> tuple[Tensor, Tensor]:
    """Spectra, and where float32 cannot be seen in them."""
    rest = grams.to(torch.float64, copy=True)
    trace = rest.diagonal(dim1=1, dim2=2).sum(-1)
    values, vectors, images = _leading(rest)
    kept = _converged(values, vectors, images, trace)
    values, vectors = values * kept, vectors * kept[:, None]
    half = images * kept[:, None] - vectors * (values / 2)[:, None]
    rest.baddbmm_(vectors, half.mT, alpha=-1).baddbmm_(half, vectors.mT, alpha=-1)
    mass = rest.diagonal(dim1=1, dim2=2).sum(-1)
    others = ranks - kept.sum(-1)
    rest /= torch.where(mass > 0, mass, 1.0)[:, None, None]
    tail = _descending(symmetric_eigen(rest.float())[0].double(), others)
    tail = tail * (mass / tail.sum(-1))[:, None]
    shares = torch.cat([values, tail], dim=1) / trace[:, None]
    entropy = -torch.xlogy(shares, shares).sum(-1)
    noise = float32_noise(tail / trace[:, None], others)
    accepted = (noise <= ALLOWED * entropy) & (mass > REMAINDER * trace)
    return shares.sort(descending=True).values[:, : grams.shape[1]] * trace[:, None], accepted


def _leading(grams: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ritz values, descending, their vectors and what the matrix makes of these."""
    basis = _start(grams.shape[1], grams.device).expand(len(grams), -1, -1)
    for _ in range(ITERATIONS):
        basis = _orthonormal(grams @ basis)
    images = grams @ basis
    values, turn = symmetric_eigen(basis.mT @ images, vectors=True)
    values, turn = values.clamp_min(0).flip(-1), turn.flip(-1)
    return values, basis @ turn, images @ turn


@lru_cache(maxsize=16)
def _start(size: int, device: torch.device) -> Tensor:
    return start_vectors(size, DIRECTIONS).to(device)


def _converged(values: Tensor, vectors: Tensor, images: Tensor, trace: Tensor) -> Tensor:
    """Which leading directions may be taken out, by the two conditions of ``_eigenvalues``."""
    shares = values / trace[:, None]
    residual = torch.linalg.vector_norm(images - vectors * values[:, None], dim=1) / trace[:, None]
    error = residual.square() / shares * (1 - shares.log())
    return ((error < COUPLING) & (residual < CONVERGED * shares)).int().cumprod(-1)


def _orthonormal(columns: Tensor) -> Tensor:
    """By Gram and Schmidt, each twice; nothing in the place of a column that the earlier ones span.

    A loop over the few columns: batched QR factorisations are loops over the matrices.
    """
    basis = torch.zeros_like(columns)
    for place in range(columns.shape[2]):
        column = _unit(columns[:, :, place, None], 0.0)
        for _ in range(2):
            column = column - basis @ (basis.mT @ column)
        basis[:, :, place, None] = _unit(column, SPANNED)
    return basis


def _unit(column: Tensor, least: float) -> Tensor:
    length = torch.linalg.vector_norm(column, dim=1, keepdim=True)
    return torch.where(length > least, column / length, 0.0)


def _descending(ascending: Tensor, ranks: Tensor) -> Tensor:
    """The largest, with zeros in the place of what is beyond the rank."""
    there = torch.arange(ascending.shape[1], device=ascending.device) < ranks[:, None]
    return torch.where(there, ascending.flip(-1), 0.0).clamp_min(0)

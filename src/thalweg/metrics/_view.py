"""One state as every metric sees it: what several of them need is computed once.

Conventions: a state is T x d, real tokens only, raw (not centred, rows not normalised). Arithmetic is float64, into
which bfloat16, float16 and float32 go exactly. Long sums run on the state's device; the vectors of length T and the
Gram matrix that remain come to the processor. Medians are ordinary ones: for an even count the mean of the two middle
values (``torch.median`` gives the lower of the two).
"""

# torch.linalg and Tensor.tolist carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from thalweg.metrics._eigenvalues import Eigenvalues, eigenvalues, gram_matrix, with_and_without
from thalweg.shapes import Float

ENTRY_FLOOR = 100.0
ENTRY_RATIO = 1000.0


class StateView:
    """A state and the quantities shared by its metrics, each computed when first asked for."""

    def __init__(self, state: Float[Tensor, "token width"]) -> None:
        if 0 in state.shape:
            raise ValueError(f"A state needs at least one token and one dimension; got shape {tuple(state.shape)}.")
        # Apple's GPU has no float64.
        self.state = state.detach().cpu() if state.device.type == "mps" else state.detach()
        self.tokens, self.width = state.shape
        self.rank = min(state.shape)
        self.shape = torch.tensor(self.tokens), self.width

    @cached_property
    def double(self) -> Float[Tensor, "token width"]:
        return self.state.double()

    @cached_property
    def row_sq(self) -> Float[Tensor, " token"]:
        """Squared row norms."""
        if self.by_token:
            return self.gram.diagonal().clone()  # it may be kept, the Gram matrix not
        return torch.linalg.vector_norm(self.double, dim=1).square().cpu()

    @cached_property
    def norms(self) -> Float[Tensor, " token"]:
        return self.row_sq.sqrt()

    @cached_property
    def median_norm(self) -> float:
        return median(self.norms)

    @cached_property
    def frobenius_sq(self) -> float:
        return float(self.row_sq.sum())

    @cached_property
    def finite(self) -> bool:
        """Whether no entry is NaN or Inf."""
        return bool(self.row_sq.isfinite().all())

    @cached_property
    def undefined(self) -> str | None:
        """Why no metric of this state is defined, or None."""
        if not self.finite:
            return "the state is not finite"
        return "the state is zero" if self.frobenius_sq == 0 else None

    @cached_property
    def by_token(self) -> bool:
        """Whether the Gram matrix is the one over tokens (T <= d)."""
        return self.tokens <= self.width

    @cached_property
    def gram(self) -> Float[Tensor, "rank rank"]:
        """The Gram matrix on the smaller side."""
        return gram_matrix(self.double if self.by_token else self.double.T).cpu()

    @cached_property
    def eigenvalues(self) -> Eigenvalues:
        """Squared singular values, NaN where the state is not finite."""
        if not self.finite:
            return Eigenvalues(torch.full((self.rank,), math.nan, dtype=torch.float64), exact=True)
        return eigenvalues(self.gram)

    @cached_property
    def magnitudes(self) -> Float[Tensor, "token width"]:
        """Absolute values of the entries, in the state's own precision."""
        return self.state.abs()

    @cached_property
    def peak(self) -> tuple[int, int, float]:
        """Position, dimension and value of the entry largest in magnitude, the first of several."""
        position, dim = divmod(largest(self.magnitudes), self.width)
        return position, dim, float(self.state[position, dim])

    @cached_property
    def median_abs(self) -> float:
        return median(self.magnitudes)

    @cached_property
    def massive_entries(self) -> list[tuple[int, int, float]]:
        """Position, dimension and value of every massive entry, largest magnitude first."""
        threshold = max(ENTRY_FLOOR, ENTRY_RATIO * self.median_abs)
        if not abs(self.peak[2]) > threshold:
            return []
        # Rows whose peak is small cannot hold one: usually none or one row is looked at.
        positions = torch.nonzero(self.magnitudes.amax(dim=1) > threshold).flatten()
        rows = self.state[positions].double().cpu()
        positions = positions.cpu()
        places = torch.nonzero(rows.abs() > threshold)
        values = rows[places[:, 0], places[:, 1]]
        order = values.abs().sort(descending=True, stable=True).indices
        columns = (positions[places[order, 0]], places[order, 1], values[order])
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def without(self, position: int) -> Eigenvalues:
        """Squared singular values without one row; `eigenvalues`, which share most of their work, are then known."""
        row = self.double[position]
        if self.by_token:
            kept = torch.arange(self.tokens) != position
            inner = self.gram[position]
            self.eigenvalues, without = with_and_without(
                self.gram[kept][:, kept], inner[kept], own=float(inner[position])
            )
        else:
            others = torch.cat([self.double[:position], self.double[position + 1 :]]) if position else self.double[1:]
            self.eigenvalues, without = with_and_without(gram_matrix(others.T).cpu(), row.cpu())
        return without

    def inner(self, position: int) -> Float[Tensor, " token"]:
        """Inner product of every row with one of them."""
        return self.gram[:, position].clone() if self.by_token else (self.double @ self.double[position]).cpu()

    def massive_rows(self, massive_ratio: float) -> list[int]:
        """Positions of the rows whose norm is at least `massive_ratio` medians, in order; zero rows never are."""
        norms = self.norms.numpy()
        return np.flatnonzero((norms >= massive_ratio * self.median_norm) & (norms > 0)).tolist()


def largest(values: Float[Tensor, "*any"], /) -> int:
    """Where the largest of all entries is in their order, the first of several; NumPy's is the fast one."""
    flat = values.flatten()
    return int(_array(flat).argmax() if flat.device.type == "cpu" else flat.argmax())


def median(values: Float[Tensor, "*any"], /) -> float:
    """The median of all entries of a tensor, NaN for none; bfloat16 and float16 are read exactly."""
    flat = values.detach().flatten()
    if flat.numel() == 0:
        return math.nan
    if flat.device.type != "cpu":
        middle = flat.sort().values[[(flat.numel() - 1) // 2, flat.numel() // 2]]
        return sum(middle.double().tolist()) / 2
    # The upper of two middle values is placed, and the lower is the largest before it: placing both costs NumPy, and
    # either costs torch, eight times as much.
    middle = flat.numel() // 2
    placed = np.partition(_array(flat), middle)
    lower = placed[middle] if flat.numel() % 2 else placed[:middle].max()
    return (float(lower) + float(placed[middle])) / 2


def _array(flat: Tensor) -> np.ndarray:
    return flat.double().numpy() if flat.dtype.itemsize < 4 else flat.numpy()

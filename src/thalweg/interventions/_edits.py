"""What can be changed: a summand of a block, or rows of a state.

A row that is not named keeps every bit. ``positions`` are absolute and count real tokens: position 0 is the first token
of the prompt, wherever padding or a cache puts it. Edits are functional: no tensor of the model's is written to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from thalweg.errors import UsageError
from thalweg.shapes import Bool, Float

Positions = Sequence[int] | Tensor
"""The same for every prompt, or integers ``batch chosen``, a row a prompt; -1 stands for none."""


@dataclass(frozen=True)
class Remove:
    """Leave out what a block's MLP, or its attention, adds to some rows: x_i(l+1) <- x_i(l) + the other summand.

    The ablation of section 3.3 of the paper, for ``part="mlp"`` at position 0.

    Attributes:
        part: which summand.
        blocks: in which blocks, 0..L-1.
        positions: of which rows.
    """

    part: Literal["mlp", "attention"]
    blocks: Sequence[int]
    positions: Positions = (0,)

    def __post_init__(self) -> None:
        if self.part not in ("mlp", "attention"):
            raise UsageError(f"part must be mlp or attention; got {self.part!r}.")

    def edited(self, written: Tensor, rows: Tensor, real: Tensor) -> Tensor:  # noqa: ARG002 - every edit is asked alike
        """The summand with nothing in its rows, which may be those of batch and token as one axis (experts)."""
        return written.masked_fill(rows.reshape(written.shape[:-1])[..., None], 0.0)


@dataclass(frozen=True)
class Clamp:
    """Clamp coordinates of some rows to [-gamma, gamma] (the paper's Fig. 20).

    Attributes:
        states: at which states, 0..L.
        gamma: above 0; infinity clamps nothing.
        positions: which rows.
        dims: which coordinates; None for all.
    """

    states: Sequence[int]
    gamma: float
    positions: Positions = (0,)
    dims: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise UsageError(f"gamma is the largest magnitude left, above 0; got {self.gamma}.")

    def edited(self, state: Tensor, rows: Tensor, real: Tensor) -> Tensor:  # noqa: ARG002 - every edit is asked alike
        """The state with its rows clamped."""
        return torch.where(_chosen(rows, state, self.dims), state.clamp(-self.gamma, self.gamma), state)


@dataclass(frozen=True)
class Replace:
    """Put a constant in the place of rows, or of some of their coordinates (Sun et al. 2024: zero, or the mean).

    Attributes:
        states: at which states, 0..L.
        value: a number, or one for each coordinate of ``dims``.
        positions: which rows.
        dims: which coordinates; None for all.
    """

    states: Sequence[int]
    value: float | Tensor
    positions: Positions = (0,)
    dims: Sequence[int] | None = None

    def edited(self, state: Tensor, rows: Tensor, real: Tensor) -> Tensor:  # noqa: ARG002 - every edit is asked alike
        """The state with the constant in its rows."""
        value = self.value
        if isinstance(value, Tensor):
            value = value.to(state.device, state.dtype)
            if value.ndim and self.dims is not None:
                dims = torch.tensor(list(self.dims), device=state.device)
                value = torch.zeros_like(state[0, 0]).index_copy(0, dims, value)
        return torch.where(_chosen(rows, state, self.dims), value, state)


@dataclass(frozen=True)
class Rescale:
    """Give rows the median norm of the prompt's other rows, keeping their direction: the positive control.

    Attributes:
        states: at which states, 0..L.
        positions: which rows.
    """

    states: Sequence[int]
    positions: Positions = (0,)

    def edited(self, state: Tensor, rows: Tensor, real: Tensor) -> Tensor:
        """The state with its rows as long as half of the others are; a prompt without others keeps them."""
        norms = torch.linalg.vector_norm(state.float(), dim=-1)
        others = norms.masked_fill(~real | rows, torch.nan)
        median = others.nanquantile(0.5, dim=-1, keepdim=True)
        factor = torch.where(rows & median.isfinite() & (norms > 0), median / norms, 1.0)
        return torch.where(rows[..., None], (state.float() * factor[..., None]).to(state.dtype), state)


Intervention = Remove | Clamp | Replace | Rescale


def _chosen(
    rows: Bool[Tensor, "batch token"], state: Float[Tensor, "batch token width"], dims: Sequence[int] | None
) -> Bool[Tensor, "batch token width"]:
    if dims is None:
        return rows[..., None].expand_as(state)
    return rows[..., None] & _wanted(tuple(dims), state.shape[-1], state.device)


@lru_cache(maxsize=64)
def _wanted(dims: tuple[int, ...], width: int, device: torch.device) -> Bool[Tensor, " width"]:
    """Which coordinates are meant; kept, since every block of every pass asks again."""
    wanted = torch.zeros(width, dtype=torch.bool)
    wanted[list(dims)] = True
    return wanted.to(device)

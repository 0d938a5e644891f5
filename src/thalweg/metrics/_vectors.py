"""What every row and entry of a batch's state says, on its device and without waiting for it.

Conventions: those of ``_view``, for states (batch, token, width) padded on the right with anything; what belongs to
pads is 0. On CUDA kernels read the state (``_state_kernels``), a few times and nothing is written but vectors;
elsewhere, and where they do not run, torch does the same.
"""

# triton carries no types for what it compiles, and torch.linalg none.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from typing import NamedTuple

import torch
from torch import Tensor

from thalweg.kernels import Kernels
from thalweg.metrics._norms import LIMIT
from thalweg.metrics._view import ENTRY_FLOOR, ENTRY_RATIO
from thalweg.shapes import Float, Int

KERNELS = Kernels("state", "torch computes what they do")


class StateVectors(NamedTuple):
    """What is read of a state.

    Attributes:
        row_sq: squared row norms, float64.
        peaks: the entry of each row that is largest in magnitude, the first of several.
        peak_dims: its dimension.
        median: of all magnitudes of a prompt, float64; the mean of the two middle ones of an even number.
        entry_count: massive entries of a prompt.
        entries: position, dimension and value of the first `LIMIT` of them, largest first; 0 beyond their number.
    """

    row_sq: Float[Tensor, "batch token"]
    peaks: Float[Tensor, "batch token"]
    peak_dims: Int[Tensor, "batch token"]
    median: Float[Tensor, " batch"]
    entry_count: Int[Tensor, " batch"]
    entries: Float[Tensor, "batch three entry"]


def state_vectors(state: Float[Tensor, "batch token width"], tokens: Int[Tensor, " batch"], /) -> StateVectors:
    """All of them.

    Args:
        state: of any float dtype.
        tokens: T of each prompt, on the same device.
    """
    if KERNELS.fit(state):
        found = KERNELS.run(_by_kernels, state.contiguous(), tokens)
        if found is not None:
            return found
    pads = torch.arange(state.shape[1], device=state.device) >= tokens[:, None]
    magnitudes = state.abs().masked_fill(pads[..., None], 0.0)
    dims = magnitudes.argmax(-1)
    median = _middle(magnitudes.masked_fill(pads[..., None], torch.nan)).mean(-1)
    massive = magnitudes > (ENTRY_RATIO * median).clamp_min(ENTRY_FLOOR)[:, None, None]
    return StateVectors(
        torch.linalg.vector_norm(magnitudes, dim=-1, dtype=torch.float64).square(),
        state.gather(2, dims[..., None])[..., 0].masked_fill(pads, 0.0),
        dims,
        median,
        massive.sum((1, 2)),
        _largest(state, magnitudes),
    )


def _by_kernels(state: Tensor, tokens: Tensor) -> StateVectors:
    from thalweg.metrics._state_kernels import median_and_entries, row_vectors

    row_sq, peaks, dims = row_vectors(state, tokens)
    above = median_and_entries(state, tokens, peaks, floor=ENTRY_FLOOR, ratio=ENTRY_RATIO, many=LIMIT)
    return StateVectors(row_sq, peaks, dims, *above)


def _middle(magnitudes: Tensor) -> Float[Tensor, "batch two"]:
    """The two middle values of each prompt, NaN left out."""
    flat = (magnitudes.float() if magnitudes.dtype.itemsize < 4 else magnitudes).flatten(1)
    return torch.stack([flat.nanmedian(1).values, -(-flat).nanmedian(1).values], dim=1).double()


def _largest(state: Tensor, magnitudes: Tensor) -> Float[Tensor, "batch three entry"]:
    """Position, dimension and value of the largest entries of each prompt."""
    places, width = magnitudes.flatten(1).topk(min(LIMIT, magnitudes[0].numel())).indices, state.shape[2]
    values = state.flatten(1).gather(1, places)
    return torch.stack([(places // width).double(), (places % width).double(), values.double()], dim=1)

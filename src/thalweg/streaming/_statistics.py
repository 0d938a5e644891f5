"""What one pass over an attention map leaves behind: a few vectors of length T per head.

:func:`statistics_of_map` takes them from a map that already exists, for models that build their own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.shapes import Float, Int


@dataclass(frozen=True)
class AttentionStatistics:
    """Sums over the rows and columns of A (T x T, lower triangular), per query head.

    Entries at padded positions (``token >= length``) carry no meaning. All floats are at least float32.

    Attributes:
        column_mass: C_k = sum over real rows t of A_tk; in [0, T].
        row_entropy: h_t, entropy of row t divided by its sum, in nats; in [0, ln n_t].
        diagonal: A_tt.
        previous: A_t,t-1; NaN at t = 0.
        row_sum: s_t = sum_k A_tk; 1, or less under a sink logit.
        visible: n_t, the number of keys that row t may see; under a mask that differs by head, in any of them.
    """

    column_mass: Float[Tensor, "batch head token"]
    row_entropy: Float[Tensor, "batch head token"]
    diagonal: Float[Tensor, "batch head token"]
    previous: Float[Tensor, "batch head token"]
    row_sum: Float[Tensor, "batch head token"]
    visible: Int[Tensor, "batch token"]


def statistics_of_map(
    attention: Float[Tensor, "batch head token token"], /, *, lengths: Int[Tensor, " batch"] | None = None
) -> AttentionStatistics:
    """Statistics of post-softmax weights, a block of rows at a time.

    The number of visible keys is t + 1: a map alone cannot tell an unseen key from one of weight zero, and the models
    that build their own maps see every earlier key.

    Args:
        attention: lower-triangular rows; each sums to 1, or to less under a sink logit.
        lengths: real tokens of each prompt; without it every row is real.

    Returns:
        :class:`AttentionStatistics`, at least float32.
    """
    batch, heads, tokens, _ = attention.shape
    precision = torch.promote_types(attention.dtype, torch.float32)
    device = attention.device
    lengths = torch.full((batch,), tokens, device=device) if lengths is None else lengths.to(device)
    position = torch.arange(tokens, device=device)
    mass = torch.zeros(batch, heads, tokens, dtype=precision, device=device)
    entropy, total = torch.empty_like(mass), torch.empty_like(mass)
    block = max(1, 2**20 // max(1, batch * heads * tokens))
    for start in range(0, tokens, block):
        rows = slice(start, min(start + block, tokens))
        weights = attention[:, :, rows].to(precision)
        total[:, :, rows] = weights.sum(-1)
        entropy[:, :, rows] = _entropy(weights / total[:, :, rows, None])
        real = (position[rows] < lengths[:, None]).to(precision)
        mass += torch.einsum("bhqk,bq->bhk", weights, real)
    previous = torch.full_like(mass, torch.nan)
    previous[..., 1:] = attention.diagonal(offset=-1, dim1=-2, dim2=-1)
    return AttentionStatistics(
        column_mass=mass,
        row_entropy=entropy,
        diagonal=attention.diagonal(dim1=-2, dim2=-1).to(precision, copy=True),
        previous=previous,
        row_sum=total,
        visible=(position + 1).expand(batch, tokens),
    )


def _entropy(shares: Tensor) -> Tensor:
    """-sum p ln p over the last axis, 0 ln 0 = 0."""
    return -torch.xlogy(shares, shares).sum(-1)

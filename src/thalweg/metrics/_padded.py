"""Right-padded prompts: sums over their real tokens, and one row for a whole prompt.

Conventions: values have axes (batch, head, token), states (batch, token, width); lengths is T of each prompt, at least
1. Pads are replaced before any arithmetic, so a NaN there cannot spread. Arithmetic on values is float64 (float32 on
Apple's GPU, which has no other); states in half precision are pooled in float32, float64 stays what it is.
"""

import math

import torch
from torch import Tensor

from thalweg.shapes import Float, Int

Vectors = Float[Tensor, "batch head token"]
Numbers = Float[Tensor, "batch head"]
Lengths = Int[Tensor, " batch"]


def mean_over_tokens(state: Float[Tensor, "batch token width"], lengths: Lengths, /) -> Float[Tensor, "batch width"]:
    """Mean of the rows of each prompt's state: (1/T) sum_i x_i over its T real tokens.

    Returns:
        One row a prompt, float32 or float64.

    Example:
        >>> mean_over_tokens(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([2])).tolist()
        [[2.0]]
    """
    real = torch.arange(state.shape[1], device=state.device) < lengths.unsqueeze(-1)
    summed = torch.where(real.unsqueeze(-1), _wide(state), 0.0).sum(1)
    return summed / lengths.unsqueeze(-1)


def last_token(state: Float[Tensor, "batch token width"], lengths: Lengths, /) -> Float[Tensor, "batch width"]:
    """The row of each prompt's last real token, x_{T-1}.

    Returns:
        One row a prompt, float32 or float64.

    Example:
        >>> last_token(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([2])).tolist()
        [[3.0]]
    """
    return _wide(state[torch.arange(len(state), device=state.device), lengths - 1])


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def precision(values: Tensor, /) -> torch.dtype:
    """The dtype to compute in on the device of these values."""
    return torch.float32 if values.device.type == "mps" else torch.float64


def positions(values: Vectors, /) -> Int[Tensor, " token"]:
    """0, 1, ... along the token axis."""
    return torch.arange(values.shape[2], device=values.device)


def real(values: Vectors, lengths: Lengths, /, *, pad: float = 0.0) -> Vectors:
    """The values with `pad` at the pads."""
    is_real = (positions(values) < lengths.unsqueeze(-1)).unsqueeze(1)
    return torch.where(is_real, values.to(precision(values)), pad)


def count(values: Vectors, lengths: Lengths, /) -> Float[Tensor, "batch 1"]:
    """T as a number that divides sums over tokens."""
    return lengths.unsqueeze(-1).to(precision(values))


def log_length(values: Vectors, lengths: Lengths, /) -> Float[Tensor, "batch 1"]:
    """Logarithm of T, NaN for one token, where it would divide by 0."""
    tokens = count(values, lengths)
    return torch.where(tokens > 1, tokens.log(), math.nan)


def mean(values: Vectors, lengths: Lengths, /) -> Numbers:
    """Mean over real tokens."""
    return real(values, lengths).sum(-1) / count(values, lengths)


def at(values: Vectors, lengths: Lengths, position: "int | Lengths", /) -> Numbers:
    """The value at one position, the same or one of each prompt; NaN for prompts that do not reach it."""
    chosen = position if isinstance(position, Tensor) else torch.full_like(lengths, position)
    there = (chosen >= 0) & (chosen < lengths)
    places = torch.where(there, chosen, 0)[:, None, None].expand(-1, values.shape[1], 1)
    taken = values.gather(2, places)[..., 0].to(precision(values))
    return torch.where(there[:, None], taken, math.nan)

"""Sums over the real tokens of right-padded prompts.

Conventions: values have axes (batch, head, token), lengths is T of each prompt. Pads are replaced before any
arithmetic, so a NaN there cannot spread. Arithmetic is float64 (float32 on Apple's GPU, which has no other).
"""

import math

import torch
from torch import Tensor

from thalweg.shapes import Bool, Float, Int


def precision(values: Tensor, /) -> torch.dtype:
    """The dtype to compute in on the device of these values."""
    return torch.float32 if values.device.type == "mps" else torch.float64


def positions(values: Float[Tensor, "batch head token"], /) -> Int[Tensor, " token"]:
    """0, 1, ... along the token axis."""
    return torch.arange(values.shape[2], device=values.device)


def is_real(
    values: Float[Tensor, "batch head token"], lengths: Int[Tensor, " batch"], /
) -> Bool[Tensor, "batch 1 token"]:
    """True at tokens, False at pads."""
    return (positions(values) < lengths.unsqueeze(-1)).unsqueeze(1)


def real(
    values: Float[Tensor, "batch head token"], lengths: Int[Tensor, " batch"], /, *, pad: float = 0.0
) -> Float[Tensor, "batch head token"]:
    """The values with `pad` at the pads."""
    return torch.where(is_real(values, lengths), values.to(precision(values)), pad)


def count(values: Float[Tensor, "batch head token"], lengths: Int[Tensor, " batch"], /) -> Float[Tensor, "batch 1"]:
    """T as a number that divides sums over tokens."""
    return lengths.unsqueeze(-1).to(precision(values))


def log_length(
    values: Float[Tensor, "batch head token"], lengths: Int[Tensor, " batch"], /
) -> Float[Tensor, "batch 1"]:
    """Logarithm of T, NaN for one token, where it would divide by 0."""
    tokens = count(values, lengths)
    return torch.where(tokens > 1, tokens.log(), math.nan)


def mean(values: Float[Tensor, "batch head token"], lengths: Int[Tensor, " batch"], /) -> Float[Tensor, "batch head"]:
    """Mean over real tokens."""
    return real(values, lengths).sum(-1) / count(values, lengths)


def at(
    values: Float[Tensor, "batch head token"], lengths: Int[Tensor, " batch"], position: int, /
) -> Float[Tensor, "batch head"]:
    """The value at one position, NaN for prompts that do not reach it."""
    if position >= values.shape[2]:
        return torch.full_like(values[..., 0], math.nan, dtype=precision(values))
    return real(values, lengths, pad=math.nan)[..., position]

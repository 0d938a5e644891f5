"""Which token does a head look at: the sink, or whichever token gets most.

Conventions: A is one head's attention over real tokens, lower triangular; C_k = sum_t A_tk over real rows is the mass
of column k; s is the sink position. Vectors have axes (batch, head, token), one number for each prompt and head comes
back: float64, undefined is NaN. Prompts are padded on the right; pads may hold anything, NaN included, and enter
nothing.
"""

import math

import torch
from torch import Tensor

from thalweg.metrics._padded import at, count, positions, precision, real
from thalweg.options import TAU
from thalweg.shapes import Float, Int

TIE = 1e-6


def sink_score(
    column_mass: Float[Tensor, "batch head token"], /, *, lengths: Int[Tensor, " batch"], sink_position: int = 0
) -> Float[Tensor, "batch head"]:
    """Mean attention paid to the sink, C_s / T (the paper, section 2; Gu et al. 2025).

    Args:
        column_mass: C_k.
        lengths: T.
        sink_position: s.

    Returns:
        In [0, 1]; NaN for prompts without a token at the sink position.

    Example:
        Uniform causal attention over 4 tokens: (1 + 1/2 + 1/3 + 1/4) / 4 = 0.520833.
    """
    return at(column_mass, lengths, sink_position) / count(column_mass, lengths)


def sink_rate(scores: Float[Tensor, "*batch head"], /, tau: float = TAU) -> Float[Tensor, "*batch"]:
    """Share of heads with a sink score of at least tau (the paper, section 2; the code of Gu et al. has > for >=).

    For prompts so short that a uniform head passes (`sink_uniform` >= tau) the rate says nothing; the profile leaves
    them out.

    Returns:
        In [0, 1], heads without a score left out; NaN where none has one.

    Example:
        The scores 0.9, 0.3, 0.1, 0 at tau 0.3: 0.5.
    """
    known = ~scores.isnan()
    return ((scores >= tau) & known).sum(-1).to(precision(scores)) / known.sum(-1)


def sink_uniform(length: int, /, *, sink_position: int = 0) -> float:
    """The sink score of uniform causal attention, H_T / T with H_T the harmonic number.

    Args:
        length: T.
        sink_position: rows before s cannot see it, so (H_T - H_s) / T.

    Returns:
        In (0, 1]; NaN where there is no token at the sink position.

    Example:
        4 tokens: (1 + 1/2 + 1/3 + 1/4) / 4 = 0.520833; up to 9 tokens it is above 0.3.
    """
    if sink_position >= length:
        return math.nan
    return math.fsum(1 / row for row in range(sink_position + 1, length + 1)) / length


def top_score(
    column_mass: Float[Tensor, "batch head token"], /, *, lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch head"]:
    """Mean attention paid to the token that gets most, max_k C_k / T.

    Returns:
        In [0, 1].

    Example:
        A head whose rows all look at token 1, but for row 0 which cannot, over 4 tokens: 3/4.
    """
    return real(column_mass, lengths, pad=-math.inf).amax(-1) / count(column_mass, lengths)


def top_position(
    column_mass: Float[Tensor, "batch head token"], /, *, lengths: Int[Tensor, " batch"]
) -> Int[Tensor, "batch head"]:
    """Position of the token that gets most attention: the lowest within 1e-6 of `top_score`.

    Returns:
        In 0..T-1; -1 where the attention is not finite.

    Example:
        The identity head pays every token the same: 0.
    """
    scores = real(column_mass, lengths, pad=-math.inf) / count(column_mass, lengths).unsqueeze(-1)
    near = scores >= scores.amax(-1, keepdim=True) - TIE
    none = scores.shape[-1]
    lowest = torch.where(near, torch.arange(none, device=scores.device), none).amin(-1)
    return torch.where(lowest == none, -1, lowest)


def importance(
    column_mass: Float[Tensor, "batch head token"], /, *, lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch head token"]:
    """Mean attention to each token from the rows that can see it, C_k / (T - k) (Gu et al. 2025).

    Returns:
        In [0, 1] by token; NaN at pads.

    Example:
        The identity head over 4 tokens: 1/4, 1/3, 1/2, 1.
    """
    rows = lengths.unsqueeze(-1) - positions(column_mass)
    mass = real(column_mass, lengths, pad=math.nan)
    return mass / rows.clamp_min(1).unsqueeze(1)

"""How few tokens does a head's attention go to, wherever they are: ColSum concentration.

Conventions: C_k = sum_t A_tk over real rows is the mass of column k, c_k = C_k / sum C its share. Natural logarithms, 0
ln 0 = 0. Vectors have axes (batch, head, token), one number for each prompt and head comes back: float64, undefined is
NaN. Prompts are padded on the right; pads may hold anything, NaN included, and enter nothing.
"""

import torch
from torch import Tensor

from thalweg.metrics._padded import at, count, log_length, real
from thalweg.metrics._sinks import sink_rate
from thalweg.options import TAU
from thalweg.shapes import Float, Int


def colsum_concentration(
    column_mass: Float[Tensor, "batch head token"], /, *, lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch head"]:
    """How few tokens the attention goes to: 1 - H(C / sum C) / ln T (the paper, Appendix B.2).

    Returns:
        In [0, 1]: 1 = one token gets everything, 0 = all get the same; NaN for one token and where no token gets
        anything.

    Example:
        Uniform causal attention over 4 tokens: 0.17219.
    """
    mass = real(column_mass, lengths)
    shares = mass / mass.sum(-1, keepdim=True)
    return (1 + torch.xlogy(shares, shares).sum(-1) / log_length(column_mass, lengths)).clamp(0, 1)


def colsum_floor(
    column_mass: Float[Tensor, "batch head token"], /, *, lengths: Int[Tensor, " batch"], sink_position: int = 0
) -> Float[Tensor, "batch head"]:
    """The least concentration that the sink's share c_0 = C_s / sum C allows (the paper, Appendix B.2).

    1 + (c_0 ln c_0 + (1 - c_0) ln((1 - c_0)/(T - 1))) / ln T: what is left is spread evenly over the other tokens.

    Returns:
        In [0, 1], never above `colsum_concentration`; NaN for one token and for prompts without a token at the sink
        position.

    Example:
        A pure sink: 1. A head that pays the sink 1/T: 0.
    """
    tokens = count(column_mass, lengths)
    share = at(column_mass, lengths, sink_position) / real(column_mass, lengths).sum(-1)
    rest = (1 - share).clamp_min(0)
    inside = torch.xlogy(share, share) + torch.xlogy(rest, rest / (tokens - 1))
    return (1 + inside / log_length(column_mass, lengths)).clamp(0, 1)


def colsum_rate(concentrations: Float[Tensor, "*batch head"], /, tau: float = TAU) -> Float[Tensor, "*batch"]:
    """Share of heads with a ColSum concentration of at least tau (the paper, Appendix B.2).

    Returns:
        In [0, 1], heads without a value left out; NaN where none has one.

    Example:
        The concentrations 1, 0.5, 0.1, 0 at tau 0.3: 0.5.
    """
    return sink_rate(concentrations, tau=tau)

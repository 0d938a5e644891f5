"""Where does a head look, and how widely: at the sink, at few tokens, at the token itself, at all of them.

Conventions: A is one head's attention over real tokens, lower triangular; C_k = sum_t A_tk over real rows is the mass
of column k (`column_mass`), s the sink position, T the length of a prompt (`lengths`); h_t is the entropy of row t in
nats (`row_entropy`), divided by its sum first where a sink logit takes a share; n_t is how many keys row t may see (t +
1, or less in a window); A_tt is the diagonal, A_t,t-1 the subdiagonal, s_t the sum of row t (`row_sum`): 1 unless the
head has a sink logit, which takes a share of every row without being a token. Natural logarithms, 0 ln 0 = 0. Vectors
have axes (batch, head, token), one number for each prompt and head comes back: float64, undefined is NaN. Prompts are
padded on the right; pads may hold anything, NaN included, and enter nothing.
"""

import math

import torch
from torch import Tensor

from thalweg.metrics._padded import Lengths, Numbers, Vectors, at, count, log_length, mean, positions, precision, real
from thalweg.options import TAU
from thalweg.shapes import Float, Int

TIE = 1e-6


def sink_score(column_mass: Vectors, /, *, lengths: Lengths, sink_position: int | Int[Tensor, " batch"] = 0) -> Numbers:
    """Mean attention paid to the sink, C_s / T (the paper, section 2; Gu et al. 2025); s may be each prompt's own.

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


def top_score(column_mass: Vectors, /, *, lengths: Lengths) -> Numbers:
    """Mean attention paid to the token that gets most, max_k C_k / T.

    Returns:
        In [0, 1].

    Example:
        A head whose rows all look at token 1, but for row 0 which cannot, over 4 tokens: 3/4.
    """
    return real(column_mass, lengths, pad=-math.inf).amax(-1) / count(column_mass, lengths)


def top_position(column_mass: Vectors, /, *, lengths: Lengths) -> Int[Tensor, "batch head"]:
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


def importance(column_mass: Vectors, /, *, lengths: Lengths) -> Vectors:
    """Mean attention to each token from the rows that can see it, C_k / (T - k) (Gu et al. 2025).

    Returns:
        In [0, 1] by token; NaN at pads.

    Example:
        The identity head over 4 tokens: 1/4, 1/3, 1/2, 1.
    """
    rows = lengths.unsqueeze(-1) - positions(column_mass)
    mass = real(column_mass, lengths, pad=math.nan)
    return mass / rows.clamp_min(1).unsqueeze(1)


def mixing(row_entropy: Vectors, /, *, lengths: Lengths) -> Numbers:
    """Mixing score: mean entropy of the rows (the paper, Appendix B.2).

    Returns:
        Nats, in [0, ln(T!) / T].

    Example:
        Uniform causal attention over 4 tokens: (ln 2 + ln 3 + ln 4) / 4 = 0.794513.
    """
    return mean(row_entropy, lengths)


def mixing_normalized(row_entropy: Vectors, /, *, visible: Int[Tensor, "batch token"], lengths: Lengths) -> Numbers:
    """Mean over the rows that have a choice (n_t >= 2) of h_t / ln n_t.

    Returns:
        In [0, 1], 1 = uniform over what is visible; NaN where no row has a choice, as with one token.

    Example:
        Uniform attention, causal or in a window: 1.
    """
    choice = (positions(row_entropy) < lengths.unsqueeze(-1)) & (visible >= 2)
    log_visible = torch.where(choice, visible, 2).to(precision(row_entropy)).log().unsqueeze(1)
    shares = torch.where(choice.unsqueeze(1), row_entropy.to(log_visible.dtype) / log_visible, 0)
    return shares.sum(-1) / choice.sum(-1, keepdim=True)


def mixing_over_log_length(row_entropy: Vectors, /, *, lengths: Lengths) -> Numbers:
    """Mixing score over ln T.

    Returns:
        In [0, 1); NaN for one token.

    Example:
        Uniform causal attention over 4 tokens: 0.794513 / ln 4 = 0.573120.
    """
    return mean(row_entropy, lengths) / log_length(row_entropy, lengths)


def colsum_concentration(column_mass: Vectors, /, *, lengths: Lengths) -> Numbers:
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


def colsum_floor(column_mass: Vectors, /, *, lengths: Lengths, sink_position: int = 0) -> Numbers:
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


def diagonal(values: Vectors, /, *, lengths: Lengths) -> Numbers:
    """Mean attention of a token to itself, D = (1/T) sum_t A_tt (the paper, Appendix B.2).

    Returns:
        In [0, 1]; 1 = identity head.

    Example:
        Uniform causal attention over 4 tokens: 0.520833, as much as the sink gets.
    """
    return mean(values, lengths)


def previous(values: Vectors, /, *, lengths: Lengths) -> Numbers:
    """Mean attention to the token before, over t >= 1; the entry at t = 0 is not read.

    Returns:
        In [0, 1]; 1 = previous-token head; NaN for one token.

    Example:
        Uniform causal attention over 3 tokens: (1/2 + 1/3) / 2 = 0.416667.
    """
    return real(values, lengths)[..., 1:].sum(-1) / (count(values, lengths) - 1)


def svi(column_mass: Vectors, /, *, diagonal: Vectors, lengths: Lengths, sink_position: int = 0) -> Numbers:
    """Sink-versus-identity index B / (B + D), B the sink score, D the mean diagonal (the paper, Appendix B.2).

    A_00 is counted in both, so B + D reaches 1 + 1/T.

    Returns:
        In [0, 1]: 1 = sink, 0 = identity; NaN where both are 0.

    Example:
        A pure sink over T tokens: T / (T + 1).
    """
    sink = sink_score(column_mass, lengths=lengths, sink_position=sink_position)
    return sink / (sink + mean(diagonal, lengths))


def attended(row_sum: Vectors, /, *, lengths: Lengths) -> Numbers:
    """Mean share of attention that goes to tokens, (1/T) sum_t s_t.

    Returns:
        In [0, 1]: 1, or less where a sink logit takes a share.

    Example:
        A head whose sink logit takes a quarter of every row: 0.75.
    """
    return mean(row_sum, lengths)

"""How widely does a head look: the entropy of its rows.

Conventions: h_t is the entropy in nats of row t of the attention, divided by its sum first where a sink logit takes a
share; n_t is how many keys row t may see (t + 1, or less in a window). Natural logarithms, 0 ln 0 = 0. Vectors have
axes (batch, head, token), one number for each prompt and head comes back: float64, undefined is NaN. Prompts are padded
on the right; pads may hold anything, NaN included, and enter nothing.
"""

import torch
from torch import Tensor

from thalweg.metrics._padded import log_length, mean, positions, precision
from thalweg.shapes import Float, Int


def mixing(
    row_entropy: Float[Tensor, "batch head token"], /, *, lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch head"]:
    """Mixing score: mean entropy of the rows (the paper, Appendix B.2).

    Args:
        row_entropy: h_t, nats.
        lengths: T.

    Returns:
        Nats, in [0, ln(T!) / T].

    Example:
        Uniform causal attention over 4 tokens: (ln 2 + ln 3 + ln 4) / 4 = 0.794513.
    """
    return mean(row_entropy, lengths)


def mixing_normalized(
    row_entropy: Float[Tensor, "batch head token"],
    /,
    *,
    visible: Int[Tensor, "batch token"],
    lengths: Int[Tensor, " batch"],
) -> Float[Tensor, "batch head"]:
    """Mean over the rows that have a choice (n_t >= 2) of h_t / ln n_t.

    Args:
        row_entropy: h_t, nats.
        visible: n_t.
        lengths: T.

    Returns:
        In [0, 1], 1 = uniform over what is visible; NaN where no row has a choice, as with one token.

    Example:
        Uniform attention, causal or in a window: 1.
    """
    choice = (positions(row_entropy) < lengths.unsqueeze(-1)) & (visible >= 2)
    log_visible = torch.where(choice, visible, 2).to(precision(row_entropy)).log().unsqueeze(1)
    shares = torch.where(choice.unsqueeze(1), row_entropy.to(log_visible.dtype) / log_visible, 0)
    return shares.sum(-1) / choice.sum(-1, keepdim=True)


def mixing_over_log_length(
    row_entropy: Float[Tensor, "batch head token"], /, *, lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch head"]:
    """Mixing score over ln T.

    Returns:
        In [0, 1); NaN for one token.

    Example:
        Uniform causal attention over 4 tokens: 0.794513 / ln 4 = 0.573120.
    """
    return mean(row_entropy, lengths) / log_length(row_entropy, lengths)

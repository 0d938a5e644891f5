"""What a state says about the next token, read as a prediction: the logit lens and its kin.

Conventions: logits of one state have axes (token, vocabulary), the vocabulary as the model's unembedding has it. They
become log-probabilities once, in float32, and every quantity follows from those; natural logarithms, 0 ln 0 = 0. One
number for each token comes back, float32; a token whose logits hold a NaN, or nothing finite, gives NaN. *Last* is what
the model itself says, its last state through final norm and unembedding. Whoever calls gives a
piece of the tokens at a time.
"""

import torch
from torch import Tensor

from thalweg.shapes import Float, Int


def log_probabilities(logits: Float[Tensor, "token vocabulary"], /) -> Float[Tensor, "token vocabulary"]:
    """Ln softmax(logits), in float32.

    Args:
        logits: of one state.

    Returns:
        In [-inf, 0]; NaN in a row that holds a NaN.

    Example:
        Logits 0 for each of 4 tokens: -1.3863 everywhere.
    """
    return torch.log_softmax(logits.float(), dim=-1)


def token_loss(state: Float[Tensor, "token vocabulary"], targets: Int[Tensor, " token"], /) -> Float[Tensor, " token"]:
    """Cross entropy of the token that comes next, -ln p[target].

    Args:
        state: log-probabilities.
        targets: the token that follows.

    Returns:
        In [0, inf], nats; the number that ``next_token_loss`` gives of the logits.

    Example:
        All of 4 tokens alike: ln 4 = 1.3863, whichever comes.
    """
    losses = -state.gather(-1, targets[:, None])[:, 0]
    return torch.where(state[:, 0].isnan(), torch.nan, losses)


def output_entropy(state: Float[Tensor, "token vocabulary"], /) -> Float[Tensor, " token"]:
    """Entropy of the distribution over the next token, -sum p ln p (the paper, Fig. 28).

    Args:
        state: log-probabilities.

    Returns:
        Nats, in [0, ln V].

    Example:
        All of 4 tokens alike: ln 4 = 1.3863.
    """
    # what is impossible adds 0 and not 0 x -inf
    return -(state.exp() * state.clamp(min=torch.finfo(torch.float32).min)).sum(-1)


def agreement(
    state: Float[Tensor, "token vocabulary"], last: Float[Tensor, "token vocabulary"], /
) -> Float[Tensor, " token"]:
    """Whether the most probable token is the one that the model itself says; its average is the top-1 agreement.

    Args:
        state: log-probabilities of the state.
        last: those of the model.

    Returns:
        1 or 0; of equals the first token counts.

    Example:
        Both say token 3: 1.
    """
    same = (state.argmax(-1) == last.argmax(-1)).float()
    return torch.where(state[:, 0].isnan() | last[:, 0].isnan(), torch.nan, same)


def kl_to_last(
    state: Float[Tensor, "token vocabulary"], last: Float[Tensor, "token vocabulary"], /
) -> Float[Tensor, " token"]:
    """KL(last || state) = sum p_last (ln p_last - ln p_state): what is lost by stopping at the state.

    Args:
        state: log-probabilities of the state.
        last: those of the model.

    Returns:
        Nats, in [0, inf] up to rounding; exactly 0 for the same numbers.

    Source:
        Belrose et al. 2023, the loss of the tuned lens.

    Example:
        The model is sure of a token to which the state gives 1/2: ln 2 = 0.6931.
    """
    weight = last.exp()
    return torch.where(weight == 0, 0.0, weight * (last - state)).sum(-1)

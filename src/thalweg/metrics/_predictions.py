"""What a state says about the next token, and how well: losses, the logit lens and its kin, the likelihood of answers.

Conventions: logits of one state have axes (token, vocabulary), the vocabulary as the model's unembedding has it, before
the softmax. They become log-probabilities once, in float32, and what is called `state` or `last` below are such;
*last* is what the model itself says, its last state through final norm and unembedding. Natural logarithms, 0 ln 0 = 0.
`targets` are the tokens that follow. One number for each token comes back, float32 whatever the model's precision; a
token whose logits hold a NaN, or nothing finite, gives NaN. Whoever calls gives a piece of the tokens at a time.

Continuations are answers that the model did not choose, as multiple choice is scored by. Of all tokens only those are
looked at that predict a continuation, each as often as there are continuations that ask for it.
"""

import torch
from torch import Tensor

from thalweg.shapes import Bool, Float, Int

LogProbabilities = Float[Tensor, "token vocabulary"]


def next_token_loss(
    logits: Float[Tensor, "token vocabulary"], targets: Int[Tensor, " token"], /
) -> Float[Tensor, " token"]:
    """Cross entropy of the token that comes next, -ln softmax(logits)[target].

    Returns:
        In [0, inf), nats, float32; NaN where the row's logits are not finite.

    Example:
        Logits 0 for each of 4 tokens: ln 4 = 1.3863, whichever comes.
    """
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")


def log_probabilities(logits: Float[Tensor, "token vocabulary"], /) -> LogProbabilities:
    """Ln softmax(logits), in float32.

    Returns:
        In [-inf, 0]; NaN in a row that holds a NaN.

    Example:
        Logits 0 for each of 4 tokens: -1.3863 everywhere.
    """
    return torch.log_softmax(logits.float(), dim=-1)


def token_loss(state: LogProbabilities, targets: Int[Tensor, " token"], /) -> Float[Tensor, " token"]:
    """Cross entropy of the token that comes next, -ln p[target].

    Returns:
        In [0, inf], nats; the number that ``next_token_loss`` gives of the logits.

    Example:
        All of 4 tokens alike: ln 4 = 1.3863, whichever comes.
    """
    losses = -state.gather(-1, targets[:, None])[:, 0]
    return torch.where(state[:, 0].isnan(), torch.nan, losses)


def output_entropy(state: LogProbabilities, /) -> Float[Tensor, " token"]:
    """Entropy of the distribution over the next token, -sum p ln p (the paper, Fig. 28).

    Returns:
        Nats, in [0, ln V].

    Example:
        All of 4 tokens alike: ln 4 = 1.3863.
    """
    # what is impossible adds 0 and not 0 x -inf
    return -(state.exp() * state.clamp(min=torch.finfo(torch.float32).min)).sum(-1)


def agreement(state: LogProbabilities, last: LogProbabilities, /) -> Float[Tensor, " token"]:
    """Whether the most probable token is the one that the model itself says; its average is the top-1 agreement.

    Returns:
        1 or 0; of equals the first token counts.

    Example:
        Both say token 3: 1.
    """
    same = (state.argmax(-1) == last.argmax(-1)).float()
    return torch.where(state[:, 0].isnan() | last[:, 0].isnan(), torch.nan, same)


def kl_to_last(state: LogProbabilities, last: LogProbabilities, /) -> Float[Tensor, " token"]:
    """KL(last || state) = sum p_last (ln p_last - ln p_state): what is lost by stopping at the state.

    Returns:
        Nats, in [0, inf] up to rounding; exactly 0 for the same numbers.

    Source:
        Belrose et al. 2023, the loss of the tuned lens.

    Example:
        The model is sure of a token to which the state gives 1/2: ln 2 = 0.6931.
    """
    weight = last.exp()
    return torch.where(weight == 0, 0.0, weight * (last - state)).sum(-1)


def target_likelihoods(
    state: LogProbabilities, places: Int[Tensor, " target"], targets: Int[Tensor, " target"], /
) -> tuple[Float[Tensor, " target"], Bool[Tensor, " target"]]:
    """Ln p[target] at the token that predicts it, and whether no other token is more probable.

    Args:
        state: log-probabilities.
        places: by target the token that predicts it, a row of ``state``; several may ask for the same.
        targets: the tokens to come.

    Returns:
        In [-inf, 0], nats; and whether it is the most probable token, of equals the first one.

    Example:
        Of 4 tokens one has probability 1/2: ln 1/2 = -0.6931 and True for it.
    """
    return state[places, targets], state.argmax(-1)[places] == targets


def continuation_likelihood(
    likelihoods: Float[Tensor, " target"],
    greedy: Bool[Tensor, " target"],
    owners: Int[Tensor, " target"],
    count: int,
    /,
) -> tuple[Float[Tensor, " continuation"], Bool[Tensor, " continuation"]]:
    """Log-likelihood of whole continuations, sum over their tokens, and whether greedy decoding would give them.

    Args:
        likelihoods: of single tokens.
        greedy: whether each is the most probable one.
        owners: which continuation a token belongs to, 0 .. count - 1.
        count: how many continuations there are.

    Returns:
        In [-inf, 0], nats, summed in float64; and whether all tokens of a continuation are greedy.

    Source:
        Gao et al., lm-evaluation-harness.

    Example:
        Two tokens of probability 1/2 each: ln 1/4 = -1.3863.
    """
    sums = likelihoods.new_zeros(count, dtype=torch.float64).index_add_(0, owners, likelihoods.double())
    missed = torch.zeros(count, dtype=torch.int64, device=greedy.device).index_add_(0, owners, (~greedy).long())
    return sums, missed == 0

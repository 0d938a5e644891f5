"""How probable a continuation is that was not chosen by the model: what multiple choice is scored by.

Conventions: log-probabilities of one state have axes (token, vocabulary), float32, natural logarithms. Of all tokens
only those are looked at that predict a continuation, each as often as there are continuations that ask for it. A row
that is NaN gives NaN.
"""

import torch
from torch import Tensor

from thalweg.shapes import Bool, Float, Int


def target_likelihoods(
    state: Float[Tensor, "token vocabulary"],
    places: Int[Tensor, " target"],
    targets: Int[Tensor, " target"],
    /,
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

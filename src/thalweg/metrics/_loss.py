"""How well the next token is predicted.

Conventions: nats, float32 whatever the model's precision, one number for each token that has a next one.
"""

import torch
from torch import Tensor

from thalweg.shapes import Float, Int


def next_token_loss(
    logits: Float[Tensor, "token vocabulary"], targets: Int[Tensor, " token"], /
) -> Float[Tensor, " token"]:
    """Cross entropy of the token that comes next, -ln softmax(logits)[target].

    Args:
        logits: one row for each token, before the softmax.
        targets: the token that follows.

    Returns:
        In [0, inf), nats, float32; NaN where the row's logits are not finite.

    Example:
        Logits 0 for each of 4 tokens: ln 4 = 1.3863, whichever comes.
    """
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")

"""One row for a whole prompt: the mean over its tokens, or its last token.

Conventions: prompts are padded on the right and pads enter nothing, whatever they hold. Half precisions are pooled in
float32, float64 stays what it is.
"""

import torch
from torch import Tensor

from thalweg.shapes import Float, Int


def mean_over_tokens(
    state: Float[Tensor, "batch token width"], lengths: Int[Tensor, " batch"], /
) -> Float[Tensor, "batch width"]:
    """Mean of the rows of each prompt's state: (1/T) sum_i x_i over its T real tokens.

    Args:
        state: one state of padded prompts.
        lengths: T of each, at least 1.

    Returns:
        One row a prompt, float32 or float64.

    Example:
        >>> mean_over_tokens(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([2])).tolist()
        [[2.0]]
    """
    real = torch.arange(state.shape[1], device=state.device) < lengths.unsqueeze(-1)
    summed = torch.where(real.unsqueeze(-1), _wide(state), 0.0).sum(1)
    return summed / lengths.unsqueeze(-1)


def last_token(
    state: Float[Tensor, "batch token width"], lengths: Int[Tensor, " batch"], /
) -> Float[Tensor, "batch width"]:
    """The row of each prompt's last real token, x_{T-1}.

    Args:
        state: one state of padded prompts.
        lengths: T of each, at least 1.

    Returns:
        One row a prompt, float32 or float64.

    Example:
        >>> last_token(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([2])).tolist()
        [[3.0]]
    """
    return _wide(state[torch.arange(len(state), device=state.device), lengths - 1])


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()

"""Which implementation a call of attention goes to: kernels where they fit, blocks of rows everywhere else."""

import torch
from torch import Tensor

from thalweg.kernels import Kernels
from thalweg.shapes import Float, Int
from thalweg.streaming._blockwise import PLAIN, AttentionResult, LogitRule, RowMask, blockwise_attention

WIDEST = 256
KERNELS = Kernels("attention", "attention is computed in blocks of rows instead")


def streamed_attention(
    query: Float[Tensor, "batch head token depth"],
    key: Float[Tensor, "batch group token depth"],
    value: Float[Tensor, "batch group token breadth"],
    *,
    rule: LogitRule = PLAIN,
    mask: Tensor | RowMask | None = None,
    window: int | None = None,
    lengths: Int[Tensor, " batch"] | None = None,
    block_rows: int | None = None,
) -> AttentionResult:
    """Causal softmax attention with its statistics, holding O(heads x block x T) numbers.

    A_tk is the softmax over k <= t of ``softcap * tanh(scaling * q_t.k_k / softcap) + bias``, the cap only where one
    is given, with one more logit of value 0 per row where ``sink_logits`` are given.

    Args:
        query: rotated and normalised as the softmax is to see them.
        key: may have fewer heads than ``query``, which they must divide.
        value: may have a width other than ``key``.
        rule: how dot products become logits.
        mask: boolean (True = seen), additive, or a function of row and key indices; broadcast over batch and heads.
        window: row t sees keys t - window + 1 .. t.
        lengths: real tokens of each prompt, padded on the right; padded rows enter no statistic.
        block_rows: query rows at a time; chosen from the shapes by default.

    Returns:
        The output in ``value``'s dtype and the statistics, computed in float32 or the inputs' own higher precision.

    Raises:
        ValueError: head counts that do not divide, or queries and keys of different length.
    """
    if block_rows is None and mask is None and kernels_fit(query, key, value, rule):
        from thalweg.streaming._triton import kernel_attention

        there = torch.full((len(query),), query.shape[2], device=query.device) if lengths is None else lengths
        options = {"rule": rule, "window": window, "lengths": there.to(query.device)}
        result = KERNELS.run(kernel_attention, query, key, value, **options)
        if result is not None:
            return result
    return blockwise_attention(
        query, key, value, rule=rule, mask=mask, window=window, lengths=lengths, block_rows=block_rows
    )


def kernels_fit(query: Tensor, key: Tensor, value: Tensor, rule: LogitRule) -> bool:
    """Whether the kernels compute such a call: a bias, if any, has to be one of the keys alone."""
    return (
        KERNELS.fit(query, key, value)
        and max(query.shape[-1], value.shape[-1]) <= WIDEST
        and query.shape[1] % key.shape[1] == 0
        and key.shape[2] == query.shape[2]
        and (rule.bias is None or rule.bias.shape[2] == 1)
    )

"""Which implementation a call of attention goes to: kernels where they fit, blocks of rows everywhere else."""

import warnings
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from thalweg.shapes import Float, Int
from thalweg.streaming._blockwise import PLAIN, AttentionResult, LogitRule, RowMask, blockwise_attention

WIDEST = 256
KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_broken = set[str]()
"""Why the kernels do not run here, once that is known."""


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
        lengths_there = torch.full((len(query),), query.shape[2]) if lengths is None else lengths
        result = _by_kernels(query, key, value, rule, window, lengths_there.to(query.device))
        if result is not None:
            return result
    return blockwise_attention(
        query, key, value, rule=rule, mask=mask, window=window, lengths=lengths, block_rows=block_rows
    )


def kernels_fit(query: Tensor, key: Tensor, value: Tensor, rule: LogitRule) -> bool:
    """Whether the kernels compute such a call: on CUDA, in at most float32, with a bias of the keys alone."""
    return (
        query.device.type == "cuda"
        and _triton_is_there()
        and not _broken
        and query.dtype == key.dtype == value.dtype
        and query.dtype in KERNEL_DTYPES
        and max(query.shape[-1], value.shape[-1]) <= WIDEST
        and query.shape[1] % key.shape[1] == 0
        and key.shape[2] == query.shape[2]
        and (rule.bias is None or rule.bias.shape[2] == 1)
    )


def _by_kernels(
    query: Tensor, key: Tensor, value: Tensor, rule: LogitRule, window: int | None, lengths: Tensor
) -> AttentionResult | None:
    """None where they do not compile, which is said once."""
    from thalweg.streaming._triton import kernel_attention

    try:
        return kernel_attention(query, key, value, rule=rule, window=window, lengths=lengths)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a compiler, a driver or a missing C compiler raises
        _broken.add(type(error).__name__)
        said = " ".join(str(error).split())[:200]
        warnings.warn(
            f"the attention kernels do not run here ({type(error).__name__}: {said}); attention is computed in blocks "
            "of rows instead, which is slower and gives the same numbers.",
            stacklevel=2,
        )
        return None


@cache
def _triton_is_there() -> bool:
    return find_spec("triton") is not None

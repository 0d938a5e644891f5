"""How does softmax attention look, without ever holding the T x T map?

Reading order: :mod:`._statistics` (what is returned, and the same from a map that a model insists on building),
:mod:`._blockwise` (what may be seen, and attention with statistics in one pass over blocks of rows), :mod:`._triton`
(the same by two kernels on CUDA), :mod:`._attention` (which of them a call goes to), :mod:`._columns`
(what chosen keys receive, afterwards).

The contract: :func:`streamed_attention` returns the output of causal softmax attention together with
:class:`AttentionStatistics`, holding at most O(heads x block x T) numbers. Another implementation only has to return
the same things. :func:`attention_maps` is for those who ask for the map itself, of a few heads of a short prompt.
"""

from thalweg.streaming._attention import streamed_attention
from thalweg.streaming._blockwise import AttentionResult, LogitRule, RowMask, attention_maps, blockwise_attention
from thalweg.streaming._columns import attention_to
from thalweg.streaming._statistics import AttentionStatistics, statistics_of_map

__all__ = [
    "AttentionResult",
    "AttentionStatistics",
    "LogitRule",
    "RowMask",
    "attention_maps",
    "attention_to",
    "blockwise_attention",
    "statistics_of_map",
    "streamed_attention",
]

"""How does softmax attention look, without ever holding the T x T map?

Reading order: :mod:`._statistics` (what is returned), :mod:`._masks` (what may be seen, as a block of rows at a time),
:mod:`._blockwise` (attention with statistics in one pass), :mod:`._materialised` (the same statistics from a map that a
model insists on building).

The contract: :func:`streamed_attention` returns the output of causal softmax attention together with
:class:`AttentionStatistics`, holding at most O(heads x block x T) numbers. A second implementation only has to return
the same two things.
"""

from thalweg.streaming._blockwise import AttentionResult, streamed_attention
from thalweg.streaming._masks import RowMask
from thalweg.streaming._materialised import statistics_of_map
from thalweg.streaming._statistics import AttentionStatistics

__all__ = ["AttentionResult", "AttentionStatistics", "RowMask", "statistics_of_map", "streamed_attention"]

"""Attention and its statistics as log-sum-exps alone, by PyTorch's FlexAttention: a second oracle, in float64.

With S_tk the logits, L_t = ln sum_k exp S_tk over what row t sees, and Z_t = ln(exp L_t + exp z) under a sink logit z:

    ln s_t  = L_t - Z_t
    ln h_t  = ln sum_k exp(S_tk - L_t + ln(L_t - S_tk))      -sum p ln p of p_tk = exp(S_tk - L_t)
    ln C_k  = ln sum_t exp(S_tk - Z_t)                       keys ask, real rows answer
    ln A_tk = ln sum over the one key k of exp S_tk - Z_t

FlexAttention, its own softmax and its own order of sums make them; a map is never looked at.
"""

from collections.abc import Callable
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.attention import flex_attention as flex

from thalweg.streaming import AttentionResult, AttentionStatistics, LogitRule

Changed = Callable[..., Tensor]
"""``(logit, batch, head, row, key)`` to what is exponentiated."""


def flexed(
    query: Tensor, key: Tensor, value: Tensor, *, rule: LogitRule, window: int | None, lengths: Tensor
) -> AttentionResult:
    """What `streamed_attention` says of such a call at its real positions; a bias belongs to the keys alone."""
    query, key, value = query.double(), key.double(), value.double()
    tokens, nowhere = query.shape[2], torch.tensor(-torch.inf, dtype=torch.float64)

    def logit(product: Tensor, head: Tensor, column: Tensor) -> Tensor:
        capped = product if rule.softcap is None else rule.softcap * torch.tanh(product / rule.softcap)
        return capped if rule.bias is None else capped + rule.bias[0, head, 0, column].double()

    def seen(row: Tensor, column: Tensor) -> Tensor:
        return (column <= row) & (row - column < (window or tokens))

    def plain(product, _, head, row, column):
        return torch.where(seen(row, column), logit(product, head, column), nowhere)

    with uncompiled():
        output, log_sum = _summed(plain, query, key, value, rule)
    total = log_sum if rule.sink_logits is None else torch.logaddexp(log_sum, rule.sink_logits.double()[:, None])

    def surprise(product, batch, head, row, column):
        gap = (log_sum[batch, head, row] - logit(product, head, column)).clamp_min(0)
        return torch.where(seen(row, column), gap.log() - gap, nowhere)

    def turned(product, batch, head, column, row):
        real = seen(row, column) & (row < lengths[batch])
        return torch.where(real, logit(product, head, column) - total[batch, head, row], nowhere)

    def of_key(distance: int) -> Changed:
        def alone(product, batch, head, row, column):
            own = plain(product, batch, head, row, column) - total[batch, head, row]
            return torch.where(row - column == distance, own, nowhere)

        return alone

    with uncompiled():
        every_key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
        entropy, diagonal, previous = (
            _summed(changed, query, key, value, rule)[1].exp() for changed in (surprise, of_key(0), of_key(1))
        )
        mass = _summed(turned, every_key, query, query, rule)[1].exp()
    previous[..., 0] = torch.nan
    visible = torch.arange(1, tokens + 1).clamp_max(window or tokens).expand(len(query), tokens)
    row_sum = (log_sum - total).exp()
    statistics = AttentionStatistics(mass, entropy, diagonal, previous, row_sum, visible)
    return AttentionResult(output * row_sum[..., None], statistics, log_sum)


def _summed(changed: Changed, query: Tensor, key: Tensor, value: Tensor, rule: LogitRule) -> tuple[Tensor, Tensor]:
    return_aux, shared = flex.AuxRequest(lse=True), query.shape[1] != key.shape[1]
    output, auxiliary = flex.flex_attention(
        query, key, value, score_mod=changed, scale=rule.scaling, enable_gqa=shared, return_aux=return_aux
    )
    return output, auxiliary.lse


@contextmanager
def uncompiled():
    """FlexAttention as plain operations: nothing is compiled, and it does not warn of it."""
    with patch.object(flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True):
        yield

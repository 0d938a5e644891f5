"""Causal softmax attention and its statistics in one pass over blocks of query rows, in plain PyTorch.

A block holds all keys that its rows may see, so every row is complete when it is left: no running maximum, no second
pass. With S the logits less their row maximum, P = exp(S), l = sum_k P and z the sink logit less that maximum,

    A_tk = P_tk / (l + e^z),   s_t = l / (l + e^z),   h_t = ln l - (sum_k P_tk S_tk) / l.

Subtracting the maximum first keeps h_t exact to a few units in the last place of ln n_t whatever the size of the
logits. S is kept in base 2 (torch's exp2 is three times as fast as its exp on a CPU) and bounded below, because numbers
that small cost a slow path in every operation that follows: 2**-100 is 1e-23 of float32's resolution beside the row's
largest weight, which is 1. What is unseen is set to exactly 0.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.shapes import Float, Int
from thalweg.streaming._masks import MaskBlock, RowMask, mask_block
from thalweg.streaming._statistics import AttentionStatistics

LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453
UNSEEN = -1e30
LEAST_EXPONENT = {torch.float32: -100.0, torch.float64: -1000.0}
BLOCK_NUMBERS = 2**19  # logits held at once: small enough for a cache, large enough for a matrix product
SMALLEST_BLOCK, LARGEST_BLOCK = 64, 256  # fewer rows starve the product, more waste the triangle above the diagonal


@dataclass(frozen=True)
class AttentionResult:
    """Output of attention, in the value's dtype, and what was seen on the way."""

    output: Float[Tensor, "batch head token breadth"]
    statistics: AttentionStatistics


def streamed_attention(
    query: Float[Tensor, "batch head token depth"],
    key: Float[Tensor, "batch group token depth"],
    value: Float[Tensor, "batch group token breadth"],
    *,
    scaling: float | None = None,
    mask: Tensor | RowMask | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sink_logits: Float[Tensor, " head"] | None = None,
    bias: Float[Tensor, "biased_batch biased_head query key"] | None = None,
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
        scaling: factor on the dot products; depth ** -0.5 by default.
        mask: boolean (True = seen), additive, or a function of row and key indices; broadcast over batch and heads.
        window: row t sees keys t - window + 1 .. t.
        softcap: bound of a tanh on the scaled logits.
        sink_logits: a learned logit per head that takes probability and gives nothing.
        bias: added to the logits (ALiBi); an additive ``mask`` does the same.
        lengths: real tokens of each prompt, padded on the right; padded rows enter no statistic.
        block_rows: query rows at a time; chosen from the shapes by default.

    Returns:
        The output in ``value``'s dtype and the statistics, computed in float32 or the inputs' own higher precision.

    Raises:
        ValueError: head counts that do not divide, or queries and keys of different length.
    """
    problem = _Problem.of(query, key, value, scaling, softcap, sink_logits)
    batch, heads, tokens = query.shape[:3]
    lengths = torch.full((batch,), tokens, device=query.device) if lengths is None else lengths.to(query.device)
    gathered = _Gathered.empty(problem, batch, heads, tokens)
    for start, stop in _blocks(batch * heads, tokens, window, block_rows):
        rows = slice(start, stop)
        seen = mask_block(mask, rows, window=window, device=query.device)
        _attend(problem, gathered, rows, seen, None if bias is None else bias[..., rows, seen.keys], lengths)
    return AttentionResult(gathered.output.to(value.dtype), gathered.statistics())


def _blocks(width: int, tokens: int, window: int | None, block_rows: int | None) -> list[tuple[int, int]]:
    """Ranges of rows whose logits number about BLOCK_NUMBERS; early rows see few keys, so early blocks are taller."""
    ranges, start = list[tuple[int, int]](), 0
    while start < tokens:
        seen = start if window is None else min(start, window)
        # rows x (seen + rows) x width = BLOCK_NUMBERS, solved for rows
        fitting = int((math.sqrt(seen**2 + 4 * BLOCK_NUMBERS / width) - seen) / 2)
        rows = block_rows or min(max(fitting, SMALLEST_BLOCK), LARGEST_BLOCK)
        ranges.append((start, min(start + rows, tokens)))
        start += rows
    return ranges


@dataclass(frozen=True)
class _Problem:
    """The inputs, upcast once and with query heads laid out beside the key head that they share."""

    query: Tensor  # batch group shared token depth
    key: Tensor  # batch*group depth token
    value: Tensor  # batch*group token breadth
    softcap: float | None
    sink_logits: Tensor | None  # 1 head 1
    shared: int

    @classmethod
    def of(
        cls,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        softcap: float | None,
        sink_logits: Tensor | None,
    ) -> "_Problem":
        batch, heads, tokens, depth = query.shape
        groups = key.shape[1]
        if heads % groups or key.shape[2] != tokens or value.shape[:3] != key.shape[:3]:
            raise ValueError(
                f"query, key and value must cover the same tokens, and key heads divide query heads; got "
                f"{tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}. Call without a cache of earlier keys."
            )
        precision = torch.promote_types(query.dtype, torch.float32)
        scale = (depth**-0.5 if scaling is None else scaling) * (LOG2_E if softcap is None else 1.0)
        return cls(
            query=(query.to(precision) * scale).reshape(batch, groups, heads // groups, tokens, depth),
            key=key.to(precision).reshape(batch * groups, tokens, depth).transpose(1, 2),
            value=value.to(precision).reshape(batch * groups, tokens, value.shape[-1]),
            softcap=softcap,
            sink_logits=None if sink_logits is None else sink_logits.to(precision).view(1, -1, 1) * LOG2_E,
            shared=heads // groups,
        )


@dataclass(frozen=True)
class _Gathered:
    """What the blocks fill in, row range by row range."""

    output: Tensor
    column_mass: Tensor
    row_entropy: Tensor
    diagonal: Tensor
    previous: Tensor
    row_sum: Tensor
    visible: list[Tensor]

    @classmethod
    def empty(cls, problem: _Problem, batch: int, heads: int, tokens: int) -> "_Gathered":
        like = problem.value
        vectors = [like.new_zeros(batch, heads, tokens) for _ in range(5)]
        output = like.new_empty(batch, heads, tokens, like.shape[-1])
        return cls(output, *vectors, visible=[])

    def statistics(self) -> AttentionStatistics:
        batch = self.column_mass.shape[0]
        return AttentionStatistics(
            column_mass=self.column_mass,
            row_entropy=self.row_entropy,
            diagonal=self.diagonal,
            previous=self.previous,
            row_sum=self.row_sum,
            visible=torch.cat([part.expand(batch, -1) for part in self.visible], dim=-1),
        )


def _logits(problem: _Problem, rows: slice, seen: MaskBlock, bias: Tensor | None) -> Tensor:
    """Logits of a block in base 2, ``batch head rows keys``, nothing hidden yet."""
    keys = seen.keys
    batch, groups, shared, _, depth = problem.query.shape
    count = rows.stop - rows.start
    query = problem.query[:, :, :, rows].reshape(batch * groups, shared * count, depth)
    logits = torch.bmm(query, problem.key[:, :, keys]).view(batch, groups * shared, count, keys.stop - keys.start)
    if problem.softcap is not None:
        logits.div_(problem.softcap).tanh_().mul_(problem.softcap * LOG2_E)
    for added in (bias, seen.added):
        if added is not None:
            logits.add_(added, alpha=LOG2_E)
    return logits


def _hide(block: Tensor, seen: MaskBlock, count: int, value: float) -> None:
    """Write ``value`` wherever the block's rows see nothing."""
    if seen.seen is not None:
        block.masked_fill_(~seen.seen, value)
    else:  # causality alone: it only bites where the keys are the rows themselves
        later = torch.ones(count, count, dtype=torch.bool, device=block.device).triu_(1)
        block[..., -count:].masked_fill_(later, value)


def _attend(
    problem: _Problem,
    gathered: _Gathered,
    rows: slice,
    seen: MaskBlock,
    bias: Tensor | None,
    lengths: Tensor,
) -> None:
    """Leave the rows of one block complete: output, vectors, and their share of the column mass."""
    keys = seen.keys
    logits = _logits(problem, rows, seen, bias)
    batch, heads, count, width = logits.shape
    _hide(logits, seen, count, UNSEEN)
    highest = logits.amax(-1, keepdim=True)
    logits.sub_(highest).clamp_(min=LEAST_EXPONENT[logits.dtype])
    weights = torch.exp2(logits)
    _hide(weights, seen, count, 0.0)
    total = weights.sum(-1)
    gathered.row_entropy[:, :, rows] = total.log() - logits.mul_(weights).sum(-1).mul_(LN_2) / total
    denominator = total.masked_fill(total == 0, 1.0)
    if problem.sink_logits is not None:
        denominator = denominator + torch.exp2(problem.sink_logits - highest[..., 0])
    gathered.row_sum[:, :, rows] = total / denominator
    position = torch.arange(rows.start, rows.stop, device=logits.device)
    share = (position < lengths[:, None])[:, None] / denominator
    gathered.column_mass[:, :, keys] += torch.bmm(
        share.view(batch * heads, 1, count), weights.view(batch * heads, count, width)
    ).view(batch, heads, width)
    gathered.diagonal[:, :, rows] = weights[..., position - rows.start, position - keys.start] / denominator
    gathered.previous[:, :, rows] = _previous(weights, rows, keys, position) / denominator
    mixed = torch.bmm(weights.view(-1, problem.shared * count, width), problem.value[:, keys])
    gathered.output[:, :, rows] = mixed.view(batch, heads, count, -1) / denominator[..., None]
    gathered.visible.append((position + 1)[None] if seen.seen is None else seen.seen.any(1).sum(-1))


def _previous(weights: Tensor, rows: slice, keys: slice, position: Tensor) -> Tensor:
    """Weight of the key before each row: NaN for row 0, 0 where a window of 1 hides it."""
    before = position - 1 - keys.start
    found = weights[..., position - rows.start, before.clamp(min=0)]  # a trimmed block may not hold the key before
    found = found.masked_fill(before < 0, 0.0)
    return found.masked_fill(position == 0, torch.nan)

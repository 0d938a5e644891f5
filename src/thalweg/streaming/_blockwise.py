"""Causal softmax attention and its statistics in one pass over blocks of query rows, in plain PyTorch.

Which keys a block may see is made when the block is reached and dropped after it. Every form of mask is turned into a
boolean block: a boolean tensor (True = seen), an additive tensor (its strongly negative entries are unseen; the others
are added to the logits), or a :data:`RowMask`. Causality and a sliding window need no mask.

A block holds all keys that its rows may see, so every row is complete when it is left: no running maximum, no second
pass. With S the logits less their row maximum, P = exp(S), l = sum_k P and z the sink logit less that maximum,

    A_tk = P_tk / (l + e^z),   s_t = l / (l + e^z),   h_t = ln l - (sum_k P_tk S_tk) / l.

Subtracting the maximum first keeps h_t exact to a few units in the last place of ln n_t whatever the size of the
logits. S is kept in base 2 (torch's exp2 is three times as fast as its exp on a CPU). What is below 2**-100, 1e-23 of
float32's resolution beside the row's largest weight, which is 1, is set to exactly 0 with what is unseen: numbers that
small would cost a slow path in every operation that follows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from thalweg.shapes import Bool, Float, Int
from thalweg.streaming._statistics import AttentionStatistics

LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453
UNSEEN = -1e30
LEAST_HIGHEST = UNSEEN / 2  # of a row that sees nothing, all of whose weights are to be 0
LEAST_EXPONENT = {torch.float32: -100.0, torch.float64: -1000.0}
BLOCK_ROWS = 64  # on a processor: fewer starve the product, more leave the cache and waste the triangle
BLOCK_NUMBERS = 2**26  # logits held at once on other devices, which want few and large operations

RowMask = Callable[[Tensor, Tensor], Tensor]
"""``(rows, keys) -> seen``: index vectors to a boolean block ``batch|1 head|1 rows keys``."""


@dataclass(frozen=True)
class AttentionResult:
    """Output of attention, in the value's dtype, and what was seen on the way.

    ``log_sum_exp`` is ln sum_k exp(logit) of each row over what it sees, a sink logit left out: with the ``row_sum``
    s_t of the statistics, A_tk = s_t exp(logit_tk - log_sum_exp_t) of any one key costs O(T): see `attention_to`.
    """

    output: Float[Tensor, "batch head token breadth"]
    statistics: AttentionStatistics
    log_sum_exp: Float[Tensor, "batch head token"]


@dataclass(frozen=True)
class LogitRule:
    """How the dot product of a query and a key becomes a logit, and what else a row's softmax holds.

    Attributes:
        scaling: factor on the dot products; depth ** -0.5 by default.
        softcap: bound of a tanh on the scaled logits.
        bias: added to the logits (ALiBi), one row for all queries where it belongs to the keys alone; an additive mask
            does the same.
        sink_logits: a learned logit per head that takes probability and gives nothing.
    """

    scaling: float | None = None
    softcap: float | None = None
    bias: Float[Tensor, "biased_batch biased_head query key"] | None = None
    sink_logits: Float[Tensor, " head"] | None = None


PLAIN = LogitRule()


def blockwise_attention(
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
    """What `streamed_attention` says, on any device and for any mask, holding O(heads x block x T) numbers."""
    problem = _Problem.of(query, key, value, rule)
    batch, heads, tokens = query.shape[:3]
    lengths = torch.full((batch,), tokens, device=query.device) if lengths is None else lengths.to(query.device)
    filled = _unfilled(problem, batch, heads, tokens)
    step = block_rows or _block_rows(batch * heads, tokens, window, query.device)
    for start in range(0, tokens, step):
        rows = slice(start, min(start + step, tokens))
        _attend(problem, filled, rows, _mask_block(mask, rows, window=window, device=query.device), lengths)
    return replace(filled, output=filled.output.to(value.dtype))


def attention_maps(
    query: Float[Tensor, "batch head token depth"],
    key: Float[Tensor, "batch group token depth"],
    heads: Sequence[int],
    *,
    rule: LogitRule = PLAIN,
    mask: Tensor | RowMask | None = None,
    window: int | None = None,
) -> Float[Tensor, "batch chosen token token"]:
    """A itself, of some heads: what :func:`streamed_attention` computes block by block, whole.

    Args:
        query: of all heads, as there.
        key: as there.
        heads: which.
        rule: how dot products become logits.
        mask: what may be seen.
        window: row t sees keys t - window + 1 .. t.

    Returns:
        Probabilities of real tokens, rows summing to 1, or to less under a sink logit; float32 or more precise.
    """
    chosen, shared, tokens = torch.as_tensor(heads, device=query.device), query.shape[1] // key.shape[1], query.shape[2]
    own = replace(rule, bias=_of(rule.bias, chosen), sink_logits=_chosen(rule.sink_logits, chosen))
    keys = key[:, chosen // shared]
    problem, rows = _Problem.of(query[:, chosen], keys, keys, own), slice(0, tokens)
    limits = _mask_block(mask, rows, window=window, device=query.device)
    limits = _MaskBlock(limits.keys, _of(limits.seen, chosen), _of(limits.added, chosen))
    weights = _weights(problem, rows, limits)
    maps = problem.value.new_zeros(*query[:, chosen].shape[:3], tokens)
    maps[..., limits.keys] = weights.shares / weights.denominator[..., None]
    return maps


def _chosen(by_head: Tensor | None, heads: Tensor) -> Tensor | None:
    return None if by_head is None else by_head[heads]


def _of(block: Tensor | None, heads: Tensor) -> Tensor | None:
    """Some heads of what may differ by head, ``batch head|1 ...``."""
    return block if block is None or block.shape[1] == 1 else block[:, heads]


def _block_rows(width: int, tokens: int, window: int | None, device: torch.device) -> int:
    """Query rows at a time."""
    if device.type == "cpu":
        return BLOCK_ROWS
    seen = tokens if window is None else min(tokens, window + BLOCK_ROWS)
    return max(BLOCK_ROWS, BLOCK_NUMBERS // (width * seen))


@dataclass(frozen=True)
class _MaskBlock:
    """What one block of rows sees, in the layout ``batch|1 head|1 rows keys``."""

    keys: slice  # outside of which no row of the block sees anything
    seen: Bool[Tensor, "batch head query key"] | None = None  # None where causality alone decides
    added: Float[Tensor, "batch head query key"] | None = None  # what an additive mask adds to the visible logits


def _mask_block(mask: Tensor | RowMask | None, rows: slice, *, window: int | None, device: torch.device) -> _MaskBlock:
    """Everything that limits ``rows``, causality and window included; keys that none of them sees are left out."""
    if mask is None and window is None:
        return _MaskBlock(slice(0, rows.stop))
    first = 0 if window is None else max(0, rows.start - window + 1)
    row = torch.arange(rows.start, rows.stop, device=device)
    key = torch.arange(first, rows.stop, device=device)
    seen = (key[None, :] <= row[:, None])[None, None]
    if window is not None:
        seen = seen & (key[None, :] > row[:, None] - window)
    if mask is None:
        return _MaskBlock(slice(first, rows.stop), seen)
    if not isinstance(mask, Tensor):
        return _trimmed(first, seen & mask(row, key), None)
    own, added = split_mask(mask[..., rows, first : rows.stop])
    return _trimmed(first, seen & own, added)


def split_mask(part: Tensor) -> tuple[Bool[Tensor, "..."], Tensor | None]:
    """Which entries of a tensor mask are seen, and what is added to their logits."""
    if part.dtype == torch.bool:
        return part, None
    unseen = part <= torch.finfo(part.dtype).min / 2
    return ~unseen, part.masked_fill(unseen, 0.0)


def _trimmed(first: int, seen: Tensor, added: Tensor | None) -> _MaskBlock:
    """Without the leading keys that no row sees: this is what makes a sliding window cheap.

    Other devices are not asked for them: waiting costs more than a few keys too many.
    """
    if seen.device.type != "cpu":
        return _MaskBlock(slice(first, first + seen.shape[-1]), seen, added)
    used = seen.flatten(0, -2).any(0)
    skipped = int(used.to(torch.uint8).argmax()) if bool(used.any()) else 0
    keys = slice(first + skipped, first + seen.shape[-1])
    return _MaskBlock(keys, seen[..., skipped:], None if added is None else added[..., skipped:])


@dataclass(frozen=True)
class _Problem:
    """The inputs, upcast once and with query heads laid out beside the key head that they share."""

    query: Tensor  # batch group shared token depth
    key: Tensor  # batch*group depth token
    value: Tensor  # batch*group token breadth
    rule: LogitRule
    sink_logits: Tensor | None  # 1 head 1, in base 2

    @classmethod
    def of(cls, query: Tensor, key: Tensor, value: Tensor, rule: LogitRule) -> "_Problem":
        heads, groups, depth = query.shape[1], key.shape[1], query.shape[-1]
        if heads % groups or key.shape[2] != query.shape[2] or value.shape[:3] != key.shape[:3]:
            raise ValueError(
                f"query, key and value must cover the same tokens, and key heads divide query heads; got "
                f"{tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}. Call without a cache of earlier keys."
            )
        precision = torch.promote_types(query.dtype, torch.float32)
        scale = (depth**-0.5 if rule.scaling is None else rule.scaling) * (LOG2_E if rule.softcap is None else 1.0)
        return cls(
            query=(query.to(precision) * scale).reshape(-1, groups, heads // groups, *query.shape[2:]),
            key=key.to(precision).flatten(0, 1).transpose(1, 2),
            value=value.to(precision).flatten(0, 1),
            rule=rule,
            sink_logits=None if rule.sink_logits is None else rule.sink_logits.to(precision).view(1, -1, 1) * LOG2_E,
        )


def _unfilled(problem: _Problem, batch: int, heads: int, tokens: int) -> AttentionResult:
    """What the blocks fill in, row range by row range."""
    like = problem.value
    mass, entropy, diagonal, previous, total, log_sum = (like.new_zeros(batch, heads, tokens) for _ in range(6))
    visible = torch.empty(batch, tokens, dtype=torch.long, device=like.device)
    statistics = AttentionStatistics(mass, entropy, diagonal, previous, total, visible)
    return AttentionResult(like.new_empty(batch, heads, tokens, like.shape[-1]), statistics, log_sum)


def _logits(problem: _Problem, rows: slice, seen: _MaskBlock) -> Tensor:
    """Logits of a block in base 2, ``batch head rows keys``, nothing hidden yet."""
    keys, rule = seen.keys, problem.rule
    batch, groups, shared, _, _ = problem.query.shape
    count = rows.stop - rows.start
    query = problem.query[:, :, :, rows].reshape(batch * groups, shared * count, -1)
    logits = torch.bmm(query, problem.key[:, :, keys]).view(batch, groups * shared, count, keys.stop - keys.start)
    if rule.softcap is not None:
        logits.div_(rule.softcap).tanh_().mul_(rule.softcap * LOG2_E)
    for added in (_bias(rule, rows, keys), seen.added):
        if added is not None:
            logits.add_(added, alpha=LOG2_E)
    return logits


def _bias(rule: LogitRule, rows: slice, keys: slice) -> Tensor | None:
    if rule.bias is None:
        return None
    return rule.bias[..., rows if rule.bias.shape[2] > 1 else slice(1), keys]


def _hide(logits: Tensor, seen: _MaskBlock, count: int) -> None:
    """Make logits ``UNSEEN`` wherever the block's rows see nothing."""
    if seen.seen is not None:
        logits.masked_fill_(~seen.seen, UNSEEN)
    else:  # causality alone: it only bites where the keys are the rows themselves
        logits[..., -count:].add_(logits.new_full((count, count), UNSEEN).triu_(1))


@dataclass(frozen=True)
class _Weights:
    """P, S, l, l + e^z and the row maximum of a block of rows, by the names of the formulas above."""

    shares: Float[Tensor, "batch head query key"]
    logits: Float[Tensor, "batch head query key"]
    total: Float[Tensor, "batch head query"]
    denominator: Float[Tensor, "batch head query"]
    highest: Float[Tensor, "batch head query"]


def _weights(problem: _Problem, rows: slice, seen: _MaskBlock) -> _Weights:
    logits = _logits(problem, rows, seen)
    count = logits.shape[2]
    _hide(logits, seen, count)
    highest = logits.amax(-1, keepdim=True).clamp_min_(LEAST_HIGHEST)
    torch.threshold_(logits.sub_(highest), LEAST_EXPONENT[logits.dtype], UNSEEN)
    weights = torch.exp2(logits)
    total = weights.sum(-1)
    denominator = total.masked_fill(total == 0, 1.0)
    if problem.sink_logits is not None:
        denominator = denominator + torch.exp2(problem.sink_logits - highest[..., 0])
    return _Weights(weights, logits, total, denominator, highest[..., 0])


def _attend(problem: _Problem, filled: AttentionResult, rows: slice, seen: _MaskBlock, lengths: Tensor) -> None:
    """Leave the rows of one block complete: output, vectors, and their share of the column mass."""
    keys, vectors, found = seen.keys, filled.statistics, _weights(problem, rows, seen)
    weights, logits, total, denominator = found.shares, found.logits, found.total, found.denominator
    batch, heads, count, width = weights.shape
    vectors.row_entropy[:, :, rows] = total.log() - logits.mul_(weights).sum(-1).mul_(LN_2) / total
    vectors.row_sum[:, :, rows] = total / denominator
    filled.log_sum_exp[:, :, rows] = total.log2().add_(found.highest).mul_(LN_2)
    position = torch.arange(rows.start, rows.stop, device=logits.device)
    share = (position < lengths[:, None])[:, None] / denominator
    mass = torch.bmm(share.view(batch * heads, 1, count), weights.view(batch * heads, count, width))
    vectors.column_mass[:, :, keys] += mass.view(batch, heads, width)
    vectors.diagonal[:, :, rows] = weights[..., position - rows.start, position - keys.start] / denominator
    vectors.previous[:, :, rows] = _previous(weights, rows, keys, position) / denominator
    vectors.visible[:, rows] = position + 1 if seen.seen is None else seen.seen.any(1).sum(-1)
    mixed = torch.bmm(weights.view(len(problem.value), -1, width), problem.value[:, keys])
    filled.output[:, :, rows] = mixed.view(batch, heads, count, -1) / denominator[..., None]


def _previous(weights: Tensor, rows: slice, keys: slice, position: Tensor) -> Tensor:
    """Weight of the key before each row: NaN for row 0, 0 where a window of 1 hides it."""
    before = position - 1 - keys.start
    weight = weights[..., position - rows.start, before.clamp(min=0)]  # a trimmed block may not hold the key before
    return weight.masked_fill(before < 0, 0.0).masked_fill(position == 0, torch.nan)

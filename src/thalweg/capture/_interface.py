"""How an attention call inside a model reaches us: transformers' AttentionInterface, or torch's own attention.

Both end in :func:`thalweg.streaming.streamed_attention`, whose output the model goes on with and whose statistics go
to whoever listens. While nobody listens, the registered function is never named by any configuration.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import (
    AttentionMaskInterface,
    and_masks,
    causal_mask_function,
    padding_mask_function,
    prepare_padding_mask,
    sdpa_mask,
)

from thalweg.capture._parts import configurations
from thalweg.shapes import Float
from thalweg.streaming import AttentionStatistics, LogitRule, RowMask, attention_maps, attention_to, streamed_attention

NAME = "thalweg"


FAR = 2**17 - 1
"""A row that lies behind any window, and at the end of a chunk of any size that is a power of two."""

FAR_ROWS = (FAR, FAR - 1, FAR - 12345)
"""Rows that see the same number of tokens in a window, and different ones in a chunk."""

MapsOf = Callable[[Sequence[int]], Tensor]
"""The maps of some heads of one block, ``batch chosen query key``, made when asked for, while the block is running."""


ColumnsOf = Callable[[Tensor], Tensor]
"""What keys chosen by ``batch chosen`` receive, ``batch head chosen query``, made in the same way; 0 from padding."""


@dataclass(frozen=True)
class AttentionCall:
    """One call of softmax attention, as it happened; a model that builds its own maps shows no query."""

    module: nn.Module | None
    key: Float[Tensor, "batch group token depth"]
    value: Float[Tensor, "batch group token breadth"]
    statistics: AttentionStatistics
    maps: MapsOf
    columns: ColumnsOf
    query: Float[Tensor, "batch head token depth"] | None = None
    rule: LogitRule | None = None
    log_sum_exp: Float[Tensor, "batch head token"] | None = None
    mask: RowMask | Tensor | None = None


def window_of(mask: RowMask | Tensor | None) -> int | None:
    """How many tokens a row sees, itself included; None for all before it, or where a mask cannot say."""
    if mask is None or isinstance(mask, Tensor):
        return None
    seen = _seen_from(FAR, mask).any(0)
    return None if bool(seen.all()) else int(seen.sum())


def _seen_from(row: int, mask: RowMask) -> Tensor:
    """Which keys it sees, of all that are before the farthest row."""
    return mask(torch.tensor([row]), torch.arange(FAR + 1)).flatten(0, -2)


class _Everywhere:
    """A tensor on every device that asks for it, copied once."""

    def __init__(self, tensor: Tensor) -> None:
        self.copies = {tensor.device: tensor}
        self.first = tensor

    def on(self, device: torch.device) -> Tensor:
        if device not in self.copies:
            self.copies[device] = self.first.to(device)
        return self.copies[device]


_listener: ContextVar[tuple[_Everywhere, Callable[[AttentionCall], None]] | None] = ContextVar("listener", default=None)


@contextmanager
def listening(lengths: Tensor, hear: Callable[[AttentionCall], None]) -> Iterator[None]:
    """Send every attention call in here to ``hear``; ``lengths`` are the real tokens of each prompt."""
    token = _listener.set((_Everywhere(lengths), hear))
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def attention_implementation(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Run ``model`` under the attention implementation ``name``; every configuration is put back afterwards."""
    before = [(config, config._attn_implementation) for config in configurations(model)]
    try:
        for config, _ in before:
            config._attn_implementation_internal = name
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation_internal = implementation


def _mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] = causal_mask_function,
    attention_mask: Tensor | None = None,
    use_vmap: bool = False,
    **options: Any,
) -> RowMask | Tensor | None:
    """A mask for the registered attention function, over index vectors; None where causality says all."""
    if use_vmap:  # functions of single indices can only be expanded by transformers itself
        given = (batch_size, q_length, kv_length, q_offset, kv_offset, mask_function, attention_mask)
        return sdpa_mask(*given, use_vmap=True, **{**options, "allow_is_causal_skip": False})
    padding = prepare_padding_mask(attention_mask, kv_length, kv_offset)
    if padding is not None:
        mask_function = and_masks(mask_function, padding_mask_function(padding))
    elif mask_function is causal_mask_function:
        return None

    def seen(rows: Tensor, keys: Tensor) -> Tensor:
        prompt = torch.arange(batch_size, device=rows.device)[:, None, None, None]
        head, row, key = torch.zeros_like(prompt[:1]), (rows + q_offset)[None, None, :, None], keys + kv_offset
        return mask_function(prompt, head, row, key[None, None, None, :])

    return _IndexMask(seen, None if padding is not None else _sliding(seen))


@dataclass(frozen=True)
class _IndexMask:
    """A row mask; one that says no more than a sliding window has its width."""

    seen: RowMask
    window: int | None

    def __call__(self, rows: Tensor, keys: Tensor) -> Tensor:
        return self.seen(rows, keys)


def _sliding(seen: RowMask) -> int | None:
    """How many tokens a row sees, itself included, where that is the same however far it is; None for anything else."""
    try:
        found = {row: _seen_from(row, seen) for row in FAR_ROWS}
    except (IndexError, RuntimeError):  # it looks up what belongs to the tokens of this pass
        return None
    width, keys = int(found[FAR][0].sum()), torch.arange(FAR + 1)
    slides = all(bool((sees == ((keys <= row) & (keys > row - width))).all()) for row, sees in found.items())
    return width if slides and width <= min(FAR_ROWS) else None


def _heard(
    module: nn.Module | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rule: LogitRule,
    mask: RowMask | Tensor | None,
) -> Tensor:
    """The output of streamed attention, whose statistics go to the listener."""
    known, hear = _listener.get() or (None, None)
    lengths = None if known is None else known.on(query.device)
    window = mask.window if isinstance(mask, _IndexMask) else None
    limits: dict[str, Any] = {"mask": mask} if window is None else {"window": window}
    result = streamed_attention(query, key, value, lengths=lengths, rule=rule, **limits)
    if hear is not None:
        left = {"log_sum_exp": result.log_sum_exp, "row_sum": result.statistics.row_sum, "lengths": lengths}
        maps = partial(attention_maps, query, key, rule=rule, **limits)
        columns = partial(attention_to, query, key, rule=rule, **left, **limits)
        asked = {"query": query, "rule": rule, "log_sum_exp": result.log_sum_exp, "mask": mask}
        hear(AttentionCall(module, key, value, result.statistics, maps, columns, **asked))
    return result.output


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: RowMask | Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The registered function. The window is in the mask already; dropout is off in evaluation."""
    rule = LogitRule(scaling, softcap, bias=position_bias, sink_logits=s_aux)
    return _heard(module, query, key, value, rule, attention_mask).transpose(1, 2).contiguous(), None


class TorchAttention(TorchFunctionMode):
    """Turns ``scaled_dot_product_attention``, called by a model itself, into streamed attention."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            return self._attend(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,  # noqa: ARG002 - off in evaluation
        is_causal: bool = False,  # noqa: ARG002 - streamed attention always is
        scale: float | None = None,
        enable_gqa: bool = False,  # noqa: ARG002 - streamed attention needs no telling
    ) -> Tensor:
        return _heard(None, query, key, value, LogitRule(scale), attn_mask)


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)

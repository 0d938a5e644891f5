"""Watch one forward pass: every residual state once, every attention map as a few vectors, nothing kept.

Hooks on the blocks see the states; the attention call, the heads' outputs before the output projection, and the keys
and values are brought together and handed on while their block is running. Whatever happens, every hook is removed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from thalweg.capture._families import OWN_WEIGHTS, OwnWeights
from thalweg.capture._interface import (
    AttentionCall,
    ColumnsOf,
    MapsOf,
    TorchAttention,
    attention_implementation,
    listening,
)
from thalweg.capture._parts import Block, block_hooks, hooked, state_after
from thalweg.capture._shared import gathered, is_shared, of_all_heads
from thalweg.capture._subject import Subject
from thalweg.errors import ProofError
from thalweg.shapes import Float, Int
from thalweg.streaming import AttentionStatistics, LogitRule, statistics_of_map


@dataclass(frozen=True)
class AttentionSeen:
    """The attention of one block in one forward pass.

    Attributes:
        statistics: vectors per query head.
        key, value: as the softmax saw them, up to a rotation of the keys on the path "weights".
        outputs: what enters the output projection, by head.
        factors: R of each head's slice of that projection.
        maps: gives A itself of some heads, ``batch chosen query key``, pads included; to be called while it is shown.
        columns: gives what keys of ``batch chosen`` receive, ``batch head chosen query``; likewise, at O(T) a key.
        query, rule, log_sum_exp: what the logits were made of and what they summed to; None on the path "weights",
            and where several processes share the heads.
    """

    statistics: AttentionStatistics
    key: Float[Tensor, "batch group token depth"]
    value: Float[Tensor, "batch group token breadth"]
    outputs: Float[Tensor, "batch head token breadth"]
    factors: Float[Tensor, "head rank breadth"]
    maps: MapsOf
    columns: ColumnsOf
    query: Float[Tensor, "batch head token depth"] | None = None
    rule: LogitRule | None = None
    log_sum_exp: Float[Tensor, "batch head token"] | None = None


@runtime_checkable
class Watcher(Protocol):
    """Whoever reduces what is seen. Tensors are padded on the right and must not be kept."""

    def state(self, index: int, state: Float[Tensor, "batch token width"], /) -> None:
        """X(index), 0..L, before the final norm."""
        ...

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        """The attention of a block that has softmax attention."""
        ...


@contextmanager
def watch_states(subject: Subject, see: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Show every state of every forward pass in here, at the cost of the pass alone: attention is computed as always.

    Args:
        subject: the model.
        see: given l and X(l), batch x token x width, l = 0..L in order, before the final norm; padded on the right,
            must not be kept.

    Raises:
        ProofError: a block returns something else than one residual stream.

    Example:
        >>> with watch_states(subject, lambda index, state: print(index, state.shape)):  # doctest: +SKIP
        ...     subject.parts.body(input_ids=tokens, use_cache=False)
    """

    def enter(block: Block, state: Tensor) -> None:
        if block.index == 0:
            see(0, state)

    def leave(block: Block, output: Any) -> None:
        see(block.index + 1, state_after(block, output))

    with hooked(chain.from_iterable(block_hooks(block, enter, leave) for block in subject.parts.blocks)):
        yield


@contextmanager
def observe(subject: Subject, watcher: Watcher, lengths: Int[Tensor, " batch"]) -> Iterator[None]:
    """Show ``watcher`` every forward pass in here; ``lengths`` are the real tokens of each padded prompt."""
    collector = _Collector(subject, watcher, lengths)
    with ExitStack() as stack:
        stack.enter_context(attention_implementation(subject.model, subject.implementation))
        stack.enter_context(listening(lengths, collector.hear))
        if subject.path == "torch":
            stack.enter_context(TorchAttention())
        stack.enter_context(hooked(collector.hooks()))
        yield


class _Collector:
    """Brings together what the hooks of one block see."""

    def __init__(self, subject: Subject, watcher: Watcher, lengths: Tensor) -> None:
        self.subject, self.watcher, self.lengths = subject, watcher, lengths
        self.block: Block | None = None
        self.call: AttentionCall | None = None
        self.outputs: Tensor | None = None
        self.handed_on = False
        self.projected = dict[str, Tensor]()

    def hooks(self) -> Iterator[RemovableHandle]:
        projections = dict[int, nn.Module]()
        for block in self.subject.parts.blocks:
            yield from block_hooks(block, self.enter, self.leave)
            if block.projection is not None and id(block.projection) not in projections:
                projections[id(block.projection)] = block.projection
                yield block.projection.register_forward_pre_hook(self.project)
                if self.subject.path == "weights" and block.attention is not None:
                    yield from self.map_hooks(block.attention)

    def map_hooks(self, attention: nn.Module) -> Iterator[RemovableHandle]:
        source = OWN_WEIGHTS[self.subject.model.config.model_type]
        for name in source.projections:
            yield attention.get_submodule(name).register_forward_hook(partial(self.remember, name))
        yield attention.register_forward_hook(partial(self.read_map, source))

    def enter(self, block: Block, state: Tensor) -> None:
        self.block, self.call, self.outputs, self.handed_on = block, None, None, False
        if block.index == 0:
            self.watcher.state(0, state)

    def leave(self, block: Block, output: Any) -> None:
        if self.call is not None and not self.handed_on:
            raise ProofError(
                f"block {block.index} attends in {type(self.call.module).__name__}, whose output projection is not "
                "among the names in capture/_families.py."
            )
        self.block = None
        self.watcher.state(block.index + 1, state_after(block, output))

    def hear(self, call: AttentionCall) -> None:
        if self.block is None:
            return  # attention outside the blocks, such as a vision tower's, is not measured
        if self.call is not None:
            raise ProofError(
                f"block {self.block.index} calls softmax attention more than once; expected one call a block."
            )
        self.call = call

    def project(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        if self.block is None:
            return
        self.outputs = args[0]
        if self.call is not None:
            self.hand_on()

    def remember(self, name: str, _: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
        self.projected[name] = output

    def read_map(self, source: OwnWeights, module: nn.Module, _: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        key, value = source.key_values(module, self.projected)
        self.projected = {}
        statistics = statistics_of_map(output[1], lengths=self.lengths)
        maps, columns = partial(_of_heads, output[1]), partial(_to_keys, output[1], self.lengths)
        self.hear(AttentionCall(module, key, value, statistics, maps, columns))
        self.hand_on()

    def hand_on(self) -> None:
        block, call, outputs = self.block, self.call, self.outputs
        if block is None or block.projection is None or call is None or outputs is None:
            raise ProofError("an attention call without its output projection: see the table in capture/_families.py.")
        by_head = outputs.unflatten(-1, (call.statistics.column_mass.shape[1], -1)).transpose(1, 2)
        if is_shared(block.projection, outputs):
            call, by_head = of_all_heads(call, block.projection), gathered(by_head, block.projection)
        factors = self.subject.factors.of(block.projection, by_head.shape[1], outputs)
        self.outputs, self.handed_on = None, True
        asked = {"query": call.query, "rule": call.rule, "log_sum_exp": call.log_sum_exp}
        tensors = (call.statistics, call.key, call.value, by_head, factors)
        self.watcher.attention(block.index, AttentionSeen(*tensors, call.maps, call.columns, **asked))


def _of_heads(maps: Tensor, heads: Sequence[int]) -> Tensor:
    return maps[:, list(heads)]


def _to_keys(maps: Tensor, lengths: Tensor, positions: Tensor) -> Tensor:
    columns = torch.take_along_dim(maps, positions.to(maps.device)[:, None, None, :], dim=3).mT
    padding = torch.arange(maps.shape[2], device=maps.device) >= lengths.to(maps.device)[:, None]
    return columns.masked_fill(padding[:, None, None], 0.0)

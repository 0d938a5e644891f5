"""Watch one forward pass: every residual state once, every attention map as a few vectors, nothing kept.

Hooks on the blocks see the states; the attention call, the heads' outputs before the output projection, and the keys
and values are brought together and handed on while their block is running. Whatever happens, every hook is removed.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from thalweg.capture._blocks import unwrap
from thalweg.capture._families import OWN_WEIGHTS, OwnWeights
from thalweg.capture._interface import (
    NAME,
    AttentionCall,
    TorchAttention,
    attention_implementation,
    listening,
)
from thalweg.capture._parts import Block, Parts
from thalweg.capture._projection import ProjectionFactors
from thalweg.errors import ProofError
from thalweg.shapes import Float, Int
from thalweg.streaming import AttentionStatistics, statistics_of_map

AttentionPath = Literal["interface", "torch", "weights"]
"""How attention is seen: transformers' AttentionInterface, torch's own function, or the model's own maps."""


@dataclass(frozen=True)
class AttentionSeen:
    """The attention of one block in one forward pass.

    Attributes:
        statistics: vectors per query head.
        key, value: as the softmax saw them, up to a rotation of the keys on the path "weights".
        outputs: what enters the output projection, by head.
        factors: R of each head's slice of that projection.
    """

    statistics: AttentionStatistics
    key: Float[Tensor, "batch group token depth"]
    value: Float[Tensor, "batch group token breadth"]
    outputs: Float[Tensor, "batch head token breadth"]
    factors: Float[Tensor, "head rank breadth"]


@runtime_checkable
class Watcher(Protocol):
    """Whoever reduces what is seen. Tensors are padded on the right and must not be kept."""

    def state(self, index: int, state: Float[Tensor, "batch token width"], /) -> None:
        """X(index), 0..L, before the final norm."""
        ...

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        """The attention of a block that has softmax attention."""
        ...


@dataclass(frozen=True)
class Subject:
    """A model to observe: what it is made of and how its attention is seen."""

    model: PreTrainedModel
    parts: Parts
    path: AttentionPath
    factors: ProjectionFactors
    device: torch.device


@contextmanager
def observe(subject: Subject, watcher: Watcher, lengths: Int[Tensor, " batch"]) -> Iterator[None]:
    """Show ``watcher`` every forward pass in here; ``lengths`` are the real tokens of each padded prompt."""
    collector = _Collector(subject, watcher, lengths)
    with ExitStack() as stack:
        implementation = {"interface": NAME, "torch": "sdpa", "weights": "eager"}[subject.path]
        stack.enter_context(attention_implementation(subject.model, implementation))
        stack.enter_context(listening(lengths, collector.hear))
        if subject.path == "torch":
            stack.enter_context(TorchAttention())
        for handle in collector.hooks():
            stack.callback(handle.remove)
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

    def hooks(self) -> Iterator[torch.utils.hooks.RemovableHandle]:
        projections = dict[int, nn.Module]()
        for block in self.subject.parts.blocks:
            yield block.module.register_forward_pre_hook(self._enter(block), with_kwargs=True)
            yield block.module.register_forward_hook(self._leave(block))
            if block.projection is not None and id(block.projection) not in projections:
                projections[id(block.projection)] = block.projection
                yield block.projection.register_forward_pre_hook(self._project)
                if self.subject.path == "weights" and block.attention is not None:
                    yield from self._own_weights(block.attention)

    def _own_weights(self, attention: nn.Module) -> Iterator[torch.utils.hooks.RemovableHandle]:
        source = OWN_WEIGHTS[self.subject.model.config.model_type]
        for name in source.projections:
            yield attention.get_submodule(name).register_forward_hook(self._remember(name))
        yield attention.register_forward_hook(self._read_map(source))

    def _enter(self, block: Block) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.block, self.call, self.outputs, self.handed_on = block, None, None, False
            if block.index == 0:
                self.watcher.state(0, args[0] if args else kwargs["hidden_states"])

        return hook

    def _leave(self, block: Block) -> Callable[..., None]:
        def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            if self.call is not None and not self.handed_on:
                raise ProofError(
                    f"block {block.index} attends in {type(self.call.module).__name__}, whose output projection is not "
                    "among the names in capture/_families.py."
                )
            self.block = None
            state = unwrap(output)
            if state is None or state.ndim != 3:
                raise ProofError(
                    f"block {block.index} returned {type(output).__name__}; expected one residual stream, "
                    "batch x token x width."
                )
            self.watcher.state(block.index + 1, state)

        return hook

    def hear(self, call: AttentionCall) -> None:
        if self.block is None:
            return  # attention outside the blocks, such as a vision tower's, is not measured
        if self.call is not None:
            raise ProofError(
                f"block {self.block.index} calls softmax attention more than once; expected one call a block."
            )
        self.call = call

    def _project(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        if self.block is None:
            return
        self.outputs = args[0]
        if self.call is not None:
            self._hand_on()

    def _remember(self, name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
            self.projected[name] = output

        return hook

    def _read_map(self, source: OwnWeights) -> Callable[..., None]:
        def hook(module: nn.Module, _: tuple[Any, ...], output: tuple[Any, ...]) -> None:
            key, value = source.key_values(module, self.projected)
            self.projected = {}
            self.hear(AttentionCall(module, key, value, statistics_of_map(output[1], lengths=self.lengths)))
            self._hand_on()

        return hook

    def _hand_on(self) -> None:
        block, call, outputs = self.block, self.call, self.outputs
        if block is None or block.projection is None or call is None or outputs is None:
            raise ProofError("an attention call without its output projection: see the table in capture/_families.py.")
        heads = call.statistics.column_mass.shape[1]
        factors = self.subject.factors.of(block.projection, heads, outputs)
        by_head = outputs.unflatten(-1, (heads, -1)).transpose(1, 2)
        self.outputs, self.handed_on = None, True
        self.watcher.attention(block.index, AttentionSeen(call.statistics, call.key, call.value, by_head, factors))

"""What proved parts allow: the way from X(L) to logits, and to watch what each block's attention and MLP add.

Block output = input + attention + MLP. Both summands come multiplied by the model's residual factor, if it has one, so
that a state's row and what follows add up to the next state's row. That they do is checked on the chosen rows of every
block, in every forward pass.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from thalweg.capture._parts import Block, block_hooks, hooked, unwrap
from thalweg.capture._places import brought, precise
from thalweg.capture._proof import proof_tokens, require
from thalweg.capture._solved import (
    ADDITIVE_TOLERANCE,
    AdditiveParts,
    Unembedding,
    additive_parts,
    find_unembedding,
    tolerance,
)
from thalweg.capture._subject import Subject
from thalweg.errors import ProofError
from thalweg.shapes import Float

Chosen = Sequence[int] | Tensor
"""The same for every prompt, or integers ``batch chosen``, a row a prompt; -1 stands for none."""
Summand = Literal["attention", "mlp"]
SUMMANDS: tuple[Summand, ...] = ("attention", "mlp")


def unembedding_of(subject: Subject) -> Unembedding:
    """Final norm and unembedding, with the model's own scale and soft cap.

    Raises:
        ProofError: they do not give the model's own logits.
    """
    require(subject, "unembedding")
    return find_unembedding(subject, proof_tokens(subject))


@dataclass(frozen=True)
class Site:
    """A module whose output, times a factor, is one summand of a block.

    Attributes:
        module: it returns batch x token x width, or the same with batch and token flattened, alone or first in a tuple.
        scale: the factor; 1, or the model's residual multiplier.
    """

    module: nn.Module
    scale: float


_solved: WeakKeyDictionary[PreTrainedModel, list[AdditiveParts]] = WeakKeyDictionary()


def additive_sites(subject: Subject) -> list[dict[str, Site]]:
    """For every block its ``attention`` and ``mlp`` site; proved the first time a model is asked about.

    Raises:
        ProofError: the block's output is not its input plus two modules' outputs.
    """
    if subject.model not in _solved:
        require(subject, "additive parts")
        _solved[subject.model] = additive_parts(subject, proof_tokens(subject))

    def site(block: Block, name: str | None, scale: float) -> Site:
        return Site(block.module.get_submodule(name or ""), scale)

    return [
        {
            "attention": site(block, summands.attention, summands.attention_scale),
            "mlp": site(block, summands.mlp, summands.mlp_scale),
        }
        for block, summands in zip(subject.parts.blocks, _solved[subject.model], strict=True)
    ]


@contextmanager
def watch_middles(subject: Subject, see: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Show what lies between a block's attention and its MLP, as the module that reads it is given it.

    Args:
        subject: the model.
        see: given l and X(l) plus what the attention of block l adds, batch x token x width; padded on the right,
            must not be kept. A block in which no module reads that, as where both run in parallel, shows nothing.

    Raises:
        ProofError: a block's output is not its input plus two modules' outputs.
    """
    additive_sites(subject)  # proves them, where nobody has asked yet

    shape = torch.Size()

    def hooks() -> Iterator[RemovableHandle]:
        for block, summands in zip(subject.parts.blocks, _solved[subject.model], strict=True):
            if summands.middle is not None:
                yield from block_hooks(block, enter, lambda *_: None)
                module = block.module.get_submodule(summands.middle)
                yield module.register_forward_pre_hook(partial(seen, block.index))

    def enter(_: Block, state: Tensor) -> None:
        nonlocal shape
        shape = state.shape

    def seen(block: int, _: nn.Module, args: tuple[Any, ...]) -> None:
        see(block, args[0].reshape(shape))  # OPT flattens batch and token

    with hooked(hooks()):
        yield


@runtime_checkable
class ContributionWatcher(Protocol):
    """Whoever reduces what is seen."""

    def state(self, index: int, state: Float[Tensor, "batch token width"], /) -> None:
        """X(index), 0..L, before the final norm; padded on the right, must not be kept."""
        ...

    def contribution(self, block: int, part: Summand, rows: Float[Tensor, "batch chosen width"], /) -> None:
        """What one part of a block adds to the chosen rows: a copy, where the part is and as precise as it is."""
        ...


@contextmanager
def contributions(subject: Subject, watcher: ContributionWatcher, positions: Chosen = (0,)) -> Iterator[None]:
    """Show ``watcher`` every forward pass in here; the model computes its attention as it always does.

    Args:
        subject: the model.
        watcher: sees a block's two summands, then the state that it leaves.
        positions: which rows of the summands, one list for every prompt or a row for each; one that the batch does
            not reach gives NaN, and so does -1.

    Raises:
        ProofError: the summands of the model cannot be told apart, or do not add up on these prompts, as under an
            intervention that edits states.
    """
    collector = _Collector(subject, watcher, positions)
    with hooked(collector.hooks(additive_sites(subject))):
        yield
    collector.prove()


class RowsAt:
    """Copies the rows at some positions, where the state is and as precise as it is; NaN where there is none.

    Example:
        >>> RowsAt(torch.tensor([[1], [-1]])).of(torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])).flatten().tolist()
        [2.0, nan]
    """

    def __init__(self, positions: Chosen) -> None:
        self._positions = torch.as_tensor(positions, dtype=torch.long)
        self._there = dict[tuple[torch.device, int], tuple[Tensor, Tensor]]()

    def of(self, state: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch chosen width"]:
        """The rows of one state."""
        batch, tokens, width = state.shape
        if (key := (state.device, tokens)) not in self._there:  # once a batch, however many states are shown
            chosen = self._positions.to(state.device).expand(batch, -1)[..., None]
            missing = (chosen < 0) | (chosen >= tokens)
            self._there[key] = chosen.masked_fill(missing, 0), missing
        chosen, missing = self._there[key]
        rows = state.detach().gather(1, chosen.expand(-1, -1, width))
        return rows.masked_fill_(missing, torch.nan)


class _Collector:
    """Brings together what one block is given, adds and leaves, at the chosen rows."""

    def __init__(self, subject: Subject, watcher: ContributionWatcher, positions: Chosen) -> None:
        self.subject, self.watcher = subject, watcher
        self.chosen = RowsAt(positions).of
        self.gaps = list[Tensor]()
        self.block: int | None = None
        self.shape = torch.Size()
        self.rows = dict[str, Tensor]()

    def hooks(self, sites: Sequence[dict[str, Site]]) -> Iterator[RemovableHandle]:
        for block, site in zip(self.subject.parts.blocks, sites, strict=True):
            for part in SUMMANDS:
                yield site[part].module.register_forward_hook(partial(self.add, block, part, site[part].scale))
            yield from block_hooks(block, self.enter, self.leave)

    def enter(self, block: Block, state: Tensor) -> None:
        self.block, self.shape = block.index, state.shape
        self.rows = {"input": self.chosen(state)}
        if block.index == 0:
            self.watcher.state(0, state)

    def add(self, block: Block, part: Summand, scale: float, _: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        written = unwrap(output)
        if self.block != block.index or written is None:
            return
        if part in self.rows:
            raise ProofError(f"block {block.index} runs its {part} more than once; expected one run a block.")
        rows = self.chosen(written.reshape(self.shape))  # experts flatten batch and token
        self.rows[part] = rows if scale == 1 else precise(rows) * scale
        self.watcher.contribution(block.index, part, self.rows[part])

    def leave(self, block: Block, output: Any) -> None:
        state = unwrap(output)
        if state is None or {"input", *SUMMANDS} != set(self.rows):
            raise ProofError(f"block {block.index} did not run its attention and its MLP; expected both, once.")
        self.gaps.append(self.gap(self.chosen(state)))
        self.block = None
        self.watcher.state(block.index + 1, state)

    def gap(self, left: Tensor) -> Tensor:
        """How far the block's rows are from their sum; those that are not finite are left to whoever watches."""
        every = precise(torch.stack([left, *(rows.to(left.device) for rows in self.rows.values())]))
        largest = every.norm(dim=-1).amax(0)
        gap = (every[0] - every[1:].sum(0)).norm(dim=-1)
        return (gap / largest.clamp(min=torch.finfo(every.dtype).tiny)).nan_to_num(0.0).max()

    def prove(self) -> None:
        """That every block left what it was given and what its parts added, told of the first one that did not."""
        limit = tolerance(self.subject.model.dtype, ADDITIVE_TOLERANCE)
        count = len(self.subject.parts.blocks)
        for place, worst in enumerate(brought(self.gaps).tolist() if self.gaps else ()):
            if worst > limit:
                raise ProofError(
                    f"block {place % count} leaves something else than its input plus attention and MLP: off by "
                    f"{worst:.1e} of the largest of them, expected at most {limit:.1e}. `thalweg verify` shows what "
                    "was taken for them."
                )

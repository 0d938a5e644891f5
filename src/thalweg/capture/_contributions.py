"""Watch what each block's attention and MLP add to some rows: block output = input + attention + MLP.

Both summands come multiplied by the model's residual factor, if it has one, so that a state's row and what follows add
up to the next state's row. That they do is checked on the chosen rows of every block, in every forward pass.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from thalweg.capture._blocks import unwrap
from thalweg.capture._observe import Subject
from thalweg.capture._parts import Block
from thalweg.capture._proof import ADDITIVE_TOLERANCE
from thalweg.capture._sites import Site, additive_sites
from thalweg.errors import ProofError
from thalweg.shapes import Float

Summand = Literal["attention", "mlp"]
SUMMANDS: tuple[Summand, ...] = ("attention", "mlp")


@runtime_checkable
class ContributionWatcher(Protocol):
    """Whoever reduces what is seen."""

    def state(self, index: int, state: Float[Tensor, "batch token width"], /) -> None:
        """X(index), 0..L, before the final norm; padded on the right, must not be kept."""
        ...

    def contribution(self, block: int, part: Summand, rows: Float[Tensor, "batch chosen width"], /) -> None:
        """What one part of a block adds to the chosen rows: a copy in float64 on the processor."""
        ...


@contextmanager
def contributions(subject: Subject, watcher: ContributionWatcher, positions: Sequence[int] = (0,)) -> Iterator[None]:
    """Show ``watcher`` every forward pass in here; the model computes its attention as it always does.

    Args:
        subject: the model.
        watcher: sees a block's two summands, then the state that it leaves.
        positions: which rows of the summands; one that the batch does not reach gives NaN.

    Raises:
        ProofError: the summands of the model cannot be told apart, or do not add up on these prompts, as under an
            intervention that edits states.
    """
    collector = _Collector(subject, watcher, positions, additive_sites(subject))
    with ExitStack() as stack:
        for handle in collector.hooks():
            stack.callback(handle.remove)
        yield


class _Collector:
    """Brings together what one block is given, adds and leaves, at the chosen rows."""

    def __init__(
        self,
        subject: Subject,
        watcher: ContributionWatcher,
        positions: Sequence[int],
        sites: Sequence[dict[str, Site]],
    ) -> None:
        self.subject, self.watcher, self.positions, self.sites = subject, watcher, list(positions), sites
        self.block: int | None = None
        self.shape = torch.Size()
        self.rows = dict[str, Tensor]()

    def hooks(self) -> Iterator[torch.utils.hooks.RemovableHandle]:
        for block, sites in zip(self.subject.parts.blocks, self.sites, strict=True):
            yield block.module.register_forward_pre_hook(self.enter(block), with_kwargs=True)
            for part in SUMMANDS:
                yield sites[part].module.register_forward_hook(self.add(block, part, sites[part].scale))
            yield block.module.register_forward_hook(self.leave(block))

    def enter(self, block: Block) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            state: Tensor = args[0] if args else kwargs["hidden_states"]
            self.block, self.shape = block.index, state.shape
            self.rows = {"input": self.chosen(state)}
            if block.index == 0:
                self.watcher.state(0, state)

        return hook

    def add(self, block: Block, part: Summand, scale: float) -> Callable[..., None]:
        def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            written = unwrap(output)
            if self.block != block.index or written is None:
                return
            if part in self.rows:
                raise ProofError(f"block {block.index} runs its {part} more than once; expected one run a block.")
            self.rows[part] = self.chosen(written.reshape(self.shape)) * scale  # experts flatten batch and token
            self.watcher.contribution(block.index, part, self.rows[part])

        return hook

    def leave(self, block: Block) -> Callable[..., None]:
        def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            state = unwrap(output)
            if state is None or {"input", *SUMMANDS} != set(self.rows):
                raise ProofError(f"block {block.index} did not run its attention and its MLP; expected both, once.")
            self.prove(block, self.chosen(state))
            self.block = None
            self.watcher.state(block.index + 1, state)

        return hook

    def chosen(self, state: Tensor) -> Float[Tensor, "batch chosen width"]:
        there = [position for position in self.positions if position < state.shape[1]]
        rows = torch.full((state.shape[0], len(self.positions), state.shape[2]), torch.nan, dtype=torch.float64)
        rows[:, [position in there for position in self.positions]] = state[:, there].detach().cpu().double()
        return rows

    def prove(self, block: Block, left: Tensor) -> None:
        """Rows that are not finite prove nothing and are left to whoever watches."""
        gap = (left - sum(self.rows.values())).norm(dim=-1)
        largest = torch.stack([left, *self.rows.values()]).norm(dim=-1).amax(0)
        worst = float((gap / largest.clamp(min=torch.finfo(torch.float64).tiny)).nan_to_num(0.0).max())
        limit = ADDITIVE_TOLERANCE.get(self.subject.model.dtype, ADDITIVE_TOLERANCE[torch.bfloat16])
        if worst > limit:
            raise ProofError(
                f"block {block.index} leaves something else than its input plus attention and MLP: off by {worst:.1e} "
                f"of the largest of them, expected at most {limit:.1e}. `thalweg verify` shows what was taken for them."
            )

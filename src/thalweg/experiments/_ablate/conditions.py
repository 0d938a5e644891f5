"""What an ablation compares: the model as it is, without its MLPs' writing, and controls that could refute it.

There are two positive controls. Rescaling the sink's row takes its length away and keeps its direction, and a model
whose norms look at directions alone (RMSNorm) may go on sinking on it. Emptying its massive coordinates, too, leaves no
direction to find.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from thalweg.experiments._options import index_text
from thalweg.interventions import Intervention, Remove, Replace, Rescale
from thalweg.prompts import Prompt

INTACT, NOTHING = "intact", "nothing"
ORDINARY = 0.01
"""An MLP that writes less than this share of the sink's row, in either sign, is an ordinary one."""

Control = Literal["negative", "positive"]


@dataclass(frozen=True)
class Condition:
    """One way to run the model.

    Attributes:
        name: "intact"; "blocks 5", the MLPs of these blocks removed at the sink position; or a control.
        control: "negative" if it must leave compression and sinks, "positive" if it must remove them.
        seed: of what is drawn; None where nothing is.
        blocks: whose MLPs are removed.
        dims: massive coordinates that are set to zero.
        reason: why a control is not run, or not as asked; None otherwise.
    """

    name: str
    control: Control | None = None
    seed: int | None = None
    blocks: tuple[int, ...] = ()
    dims: tuple[int, ...] = ()
    reason: str | None = None

    @property
    def runs(self) -> bool:
        """False where the reason leaves nothing to change."""
        return self.reason is None or bool(self.blocks or self.dims)

    @property
    def columns(self) -> dict[str, Any]:
        """What names it in every table."""
        return {"condition": self.name, "seed": self.seed}

    @property
    def described(self) -> dict[str, Any]:
        """What it consists of."""
        return {**self.columns, "control": self.control, "blocks": index_text(self.blocks)}


def plan(blocks: tuple[int, ...], shares: Mapping[int, float], dims: tuple[int, ...], *, seeds: int) -> list[Condition]:
    """Every condition of an ablation, in the order in which they are shown.

    Args:
        blocks: whose MLPs are removed, each alone and all together.
        shares: block -> share of the massive row that its MLP wrote, for every block of the model; NaN if unknown.
        dims: the massive coordinates of the sink's row; empty where there are none.
        seeds: how many draws of each random control.
    """
    planned = [Condition(INTACT)]
    if len(blocks) > 1:
        planned += [Condition(f"blocks {block}", blocks=(block,)) for block in blocks]
    planned.append(Condition(f"blocks {index_text(blocks)}", blocks=blocks))
    planned.append(Condition(NOTHING, "negative", blocks=blocks))
    planned += [Condition("other position", "negative", seed, blocks) for seed in range(seeds)]
    planned += _other_blocks(blocks, shares, seeds)
    planned.append(Condition("rescaled", "positive"))
    none = None if dims else "the sink's row has no massive coordinates to empty"
    planned.append(Condition("emptied", "positive", dims=dims, reason=none))
    return planned


def interventions(
    condition: Condition, batch: Sequence[Prompt], *, blocks: int, sink_position: int
) -> tuple[Intervention, ...]:
    """What to change in the model for one batch.

    Args:
        condition: which.
        batch: the prompts; what is drawn for one does not depend on the others.
        blocks: of the model.
        sink_position: which row is the sink.
    """
    after_every_block, sink = range(1, blocks + 1), (sink_position,)
    if condition.name == INTACT:
        return ()
    if condition.name == "rescaled":
        return (Rescale(after_every_block, sink),)
    if condition.name == "emptied":
        return (Replace(after_every_block, 0.0, sink, condition.dims), Rescale(after_every_block, sink))
    if condition.name == NOTHING:  # past the end of every prompt: the hooks run and find no row
        return (Remove("mlp", condition.blocks, torch.tensor([[len(prompt)] for prompt in batch])),)
    if condition.name == "other position":
        drawn = [[_other_position(prompt, condition.seed, sink_position)] for prompt in batch]
        return (Remove("mlp", condition.blocks, torch.tensor(drawn)),)
    return (Remove("mlp", condition.blocks, sink),)


def _other_blocks(blocks: tuple[int, ...], shares: Mapping[int, float], seeds: int) -> Iterator[Condition]:
    """As many other blocks, drawn from those that write next to nothing of the massive row."""
    others = [block for block, share in sorted(shares.items()) if block not in blocks and abs(share) < ORDINARY]
    count, few = min(len(blocks), len(others)), None
    if len(others) < len(blocks):
        few = f"{len(others) or 'no'} other block{'s' * (len(others) != 1)} of {len(blocks)} to draw: the rest write"
        few += f" at least {ORDINARY:.0%} of the sink's row, or are removed"
    if not count:
        yield Condition("other blocks", "negative", reason=few)
        return
    drawn = list[tuple[int, ...]]()
    for seed in range(seeds):
        chosen = tuple(sorted(random.Random(f"other blocks {seed}").sample(others, count)))
        if chosen not in drawn:  # the same blocks again would show nothing more
            drawn.append(chosen)
            yield Condition("other blocks", "negative", seed, chosen, reason=few)


def _other_position(prompt: Prompt, seed: int | None, sink_position: int) -> int:
    """A position of the prompt that is not the sink; -1 where there is none."""
    count = len(prompt) - (sink_position < len(prompt))
    if not count:
        return -1
    drawn = random.Random(f"other position {seed} {prompt.row}").randrange(count)
    return drawn + (drawn >= sink_position)

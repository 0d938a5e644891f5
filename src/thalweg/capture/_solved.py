"""What is not looked up but solved for: the two summands of a block, and the scale of the logits.

Block output = input + a * attention + b * MLP. Sequential and parallel blocks, post-norms, residual multipliers and
residuals added inside a module differ only in which two modules those are and in a and b. So they are, among all
modules of a block whose output has the shape of the residual stream, the outermost pair among those whose outputs span
the block's contribution best.

Logits are final norm, unembedding, a scale and a soft cap where the family has them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from thalweg.capture._families import LOGIT_SOFTCAPS
from thalweg.capture._parts import Block, Parts, block_hooks, hooked, text_configuration, unwrap


@dataclass(frozen=True)
class AdditiveParts:
    """The summands of one block.

    Attributes:
        block: its index.
        attention, mlp: names, inside the block, of the modules whose outputs are added; None if no pair was found.
        attention_scale, mlp_scale: a and b; 1, or the model's residual multiplier.
        error: largest relative error of the sum over the tokens tried.
    """

    block: int
    attention: str | None
    mlp: str | None
    attention_scale: float
    mlp_scale: float
    error: float


@torch.no_grad()
def additive_parts(parts: Parts, tokens: Tensor) -> list[AdditiveParts]:
    """Find and measure the summands of every block on one forward pass over ``tokens``."""
    solved = list[AdditiveParts]()
    with hooked(chain.from_iterable(_Search(block, solved).hooks() for block in parts.blocks)):
        parts.body(input_ids=tokens, use_cache=False)
    return solved


class _Search:
    """Collects one block's candidates while it runs, solves for the pair when it is done, and lets go."""

    def __init__(self, block: Block, solved: list[AdditiveParts]) -> None:
        self.block, self.solved = block, solved
        self.entered: Tensor | None = None
        self.candidates = list[tuple[str, Tensor]]()

    def hooks(self) -> Iterator[RemovableHandle]:
        yield from block_hooks(self.block, self.enter, self.solve)
        for name, module in self.block.module.named_modules():
            if name:
                yield module.register_forward_hook(partial(self.collect, name))

    def enter(self, _: Block, state: Tensor) -> None:
        self.entered, self.candidates = state.clone(), []

    def collect(self, name: str, _: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        tensor = unwrap(output)
        if self.entered is not None and tensor is not None and tensor.is_floating_point():
            width = self.entered.shape[-1]
            if tensor.shape[-1:] == (width,) and tensor.numel() == self.entered.numel():
                self.candidates.append((name, tensor.detach().clone().reshape(-1, width)))

    def solve(self, _: Block, output: Any) -> None:
        left, entered = unwrap(output), self.entered
        if left is None or entered is None:
            return
        before, after = (state.reshape(-1, left.shape[-1]).double() for state in (entered, left))
        added = after - before
        # rounding is that of the larger of the two: a block may take a massive activation away
        reference = torch.maximum(before.norm(dim=-1), after.norm(dim=-1)).clamp(min=torch.finfo(torch.float64).tiny)
        best = AdditiveParts(self.block.index, None, None, torch.nan, torch.nan, torch.inf)
        outermost = sorted(enumerate(self.candidates), key=lambda entry: (entry[1][0].count("."), entry[0]))
        for pair in combinations(outermost, 2):
            (name, earlier), (other, later) = (candidate for _, candidate in sorted(pair, key=lambda entry: entry[0]))
            a, b = _solution(earlier.double(), later.double(), added)
            error = float(((a * earlier.double() + b * later.double() - added).norm(dim=-1) / reference).max())
            # an inner pair has to be clearly better: a projection gives what its attention gives
            if error < best.error / 2 and min(abs(a), abs(b)) > 1e-3:
                best = self.named(name, other, (a, b), error)
        self.solved.append(best)
        self.entered, self.candidates = None, []

    def named(self, earlier: str, later: str, solution: tuple[float, float], error: float) -> AdditiveParts:
        """Of the pair, the attention is the one inside the attention module, else the one that ran first."""
        scales = [round(s, 5) if abs(s - round(s, 5)) < 2e-7 else s for s in solution]
        names = {id(module): name for name, module in self.block.module.named_modules()}
        inside = names.get(id(self.block.attention), "\0")
        if later.startswith(inside) and not earlier.startswith(inside):
            earlier, later, scales = later, earlier, scales[::-1]
        return AdditiveParts(self.block.index, earlier, later, scales[0], scales[1], error)


def _solution(earlier: Tensor, later: Tensor, added: Tensor) -> tuple[float, float]:
    """Least squares for added = a * earlier + b * later, from the 2 x 2 normal equations."""
    aa, bb, ab = (earlier * earlier).sum(), (later * later).sum(), (earlier * later).sum()
    ac, bc = (earlier * added).sum(), (later * added).sum()
    determinant = aa * bb - ab * ab
    if float(determinant) <= 1e-12 * float(aa * bb):
        return 0.0, 0.0
    return float((bb * ac - ab * bc) / determinant), float((aa * bc - ab * ac) / determinant)


@dataclass(frozen=True)
class Unembedding:
    """How a state is read as logits.

    Attributes:
        norm: the final norm; None if the model has none.
        head: the matrix to the vocabulary.
        scale: factor on the logits (Cohere, Granite), solved for.
        softcap: bound of a tanh on the logits (Gemma 2), or None.
        error: largest relative error against the model's own logits over the tokens tried.
    """

    norm: nn.Module | None
    head: nn.Module
    scale: float
    softcap: float | None
    error: float

    def logits(self, state: Tensor, /) -> Tensor:
        """Logits of a state, X(l) before the final norm."""
        logits = self.head(state if self.norm is None else self.norm(state)) * self.scale
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap


def find_unembedding(
    model: PreTrainedModel, norm: nn.Module | None, head: nn.Module, state: Tensor, logits: Tensor
) -> Unembedding:
    """Solve for the scale and measure the error."""
    config = text_configuration(model)
    softcap = next((cap for name in LOGIT_SOFTCAPS if (cap := getattr(config, name, None))), None)
    bare = Unembedding(norm, head, 1.0, None, torch.nan).logits(state).double()
    target = logits.double() if softcap is None else torch.atanh((logits.double() / softcap).clamp(-1, 1)) * softcap
    # a soft cap that saturates has no inverse: only finite targets tell the scale
    usable = target.isfinite()
    scale = float((bare * target)[usable].sum() / (bare * bare)[usable].sum())
    unembedding = Unembedding(norm, head, round(scale, 5), softcap, torch.nan)
    gap = (unembedding.logits(state).double() - logits.double()).norm(dim=-1) / logits.double().norm(dim=-1)
    return replace(unembedding, error=float(gap.max()))

"""Which two modules of a block write what the block adds: block output = input + a * attention + b * MLP.

Sequential and parallel blocks, post-norms, residual multipliers and residuals added inside a module differ only in
which modules those are and in a and b. So they are not looked up but solved for: among all modules of a block whose
output has the shape of the residual stream, the outermost pair among those whose outputs span the block's contribution
best.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.capture._blocks import unwrap
from thalweg.capture._parts import Block, Parts


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


@dataclass(frozen=True)
class _Candidate:
    name: str
    output: Tensor


@torch.no_grad()
def additive_parts(parts: Parts, tokens: Tensor) -> list[AdditiveParts]:
    """Find and measure the summands of every block on one forward pass over ``tokens``."""
    found = list[AdditiveParts]()
    with ExitStack() as stack:
        for block in parts.blocks:
            for handle in _Search(block, found).hooks():
                stack.callback(handle.remove)
        parts.body(input_ids=tokens, use_cache=False)
    return found


class _Search:
    """Collects one block's candidates while it runs, solves for the pair when it is done, and lets go."""

    def __init__(self, block: Block, found: list[AdditiveParts]) -> None:
        self.block, self.found = block, found
        self.entered: Tensor | None = None
        self.candidates = list[_Candidate]()

    def hooks(self) -> Iterator[torch.utils.hooks.RemovableHandle]:
        yield self.block.module.register_forward_pre_hook(self.enter, with_kwargs=True)
        for name, module in self.block.module.named_modules():
            if name:
                yield module.register_forward_hook(self.collect(name))
        yield self.block.module.register_forward_hook(self.solve)

    def enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entered = args[0] if args else kwargs["hidden_states"]
        self.entered, self.candidates = entered.clone(), []

    def collect(self, name: str) -> Any:
        def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            tensor = unwrap(output)
            if self.entered is not None and tensor is not None and tensor.is_floating_point():
                width = self.entered.shape[-1]
                if tensor.shape[-1:] == (width,) and tensor.numel() == self.entered.numel():
                    self.candidates.append(_Candidate(name, tensor.detach().clone().reshape(-1, width)))

        return hook

    def solve(self, _: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        left, entered = unwrap(output), self.entered
        if left is None or entered is None:
            return
        width = left.shape[-1]
        before, after = (state.reshape(-1, width).double() for state in (entered, left))
        added = after - before
        # rounding is that of the larger of the two: a block may take a massive activation away
        reference = torch.maximum(before.norm(dim=-1), after.norm(dim=-1)).clamp(min=torch.finfo(torch.float64).tiny)
        best = AdditiveParts(self.block.index, None, None, torch.nan, torch.nan, torch.inf)
        ordered = sorted(enumerate(self.candidates), key=lambda entry: (entry[1].name.count("."), entry[0]))
        for (i, first), (j, second) in combinations(ordered, 2):
            one, two = (first, second) if i < j else (second, first)
            solution = _solution(one.output.double(), two.output.double(), added)
            fitted = solution[0] * one.output.double() + solution[1] * two.output.double()
            error = float(((fitted - added).norm(dim=-1) / reference).max())
            # an inner pair has to be clearly better: a projection gives what its attention gives
            if error < best.error / 2 and min(abs(s) for s in solution) > 1e-3:
                best = self.named(one.name, two.name, solution, error)
        self.found.append(best)
        self.entered, self.candidates = None, []

    def named(self, one: str, two: str, solution: tuple[float, float], error: float) -> AdditiveParts:
        """Of the pair, the attention is the one inside the attention module, else the one that ran first."""
        scales = [round(s, 5) if abs(s - round(s, 5)) < 2e-7 else s for s in solution]
        names = {id(module): name for name, module in self.block.module.named_modules()}
        inside = names.get(id(self.block.attention), "\0")
        if two.startswith(inside) and not one.startswith(inside):
            one, two, scales = two, one, scales[::-1]
        return AdditiveParts(self.block.index, one, two, scales[0], scales[1], error)


def _solution(one: Tensor, two: Tensor, added: Tensor) -> tuple[float, float]:
    """Least squares for added = a * one + b * two, from the 2 x 2 normal equations."""
    aa, bb, ab = (one * one).sum(), (two * two).sum(), (one * two).sum()
    ac, bc = (one * added).sum(), (two * added).sum()
    determinant = aa * bb - ab * ab
    if float(determinant) <= 1e-12 * float(aa * bb):
        return 0.0, 0.0
    return float((bb * ac - ab * bc) / determinant), float((aa * bc - ab * ac) / determinant)

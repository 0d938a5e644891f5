"""What is not looked up but solved for: the two summands of a block, and the scale of the logits.

Block output = input + a * attention + b * MLP. Sequential and parallel blocks, post-norms, residual multipliers and
residuals added inside a module differ only in which two modules those are and in a and b. So they are, among all
modules of a block whose output has the shape of the residual stream, the outermost pair among those whose outputs span
the block's contribution best.

Logits are final norm, unembedding, a scale and a soft cap where the family has them.

A factor is the one that is stated, 1 or a number of the configuration, wherever that holds to rounding, and is fitted
elsewhere. Beside a large row half precisions round a summand away, and its factor with it: so their blocks, and what
follows the unembedding, compute in float32 here.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, combinations, product
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from thalweg.capture._families import LOGIT_SOFTCAPS
from thalweg.capture._interface import attention_implementation
from thalweg.capture._parts import Block, block_hooks, hooked, rewrap, text_configuration, unwrap
from thalweg.capture._subject import Subject
from thalweg.errors import ProofError

HALF = (torch.bfloat16, torch.float16)
# A block rounds its two sums and, under a residual factor, two products, each by half an eps of what comes out. The
# first sum has at most twice the norm of the largest of input, output and summands: (2 + 1 + 1 + 1) / 2 eps < 3 eps.
# float32 and float64 have room for the fit's own rounding beside it.
ADDITIVE_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-6, torch.bfloat16: 3 * 2**-7, torch.float16: 3 * 2**-10}
# From the unembedding's output to the logits there are at most four roundings in float32: product, quotient, tanh,
# product. Each is half an eps of 1.2e-7.
SCALE_TOLERANCE = 1e-6
LOGITS, ACCELERATOR_LOGITS = 2**24, 2**26
"""Numbers of a piece of the logits, so that tokens x vocabulary is never held whole: 64 MiB of float32, or 256."""


def tolerance(dtype: torch.dtype, limits: dict[torch.dtype, float]) -> float:
    """What rounding may take in ``dtype``; coarser kinds of it count as bfloat16."""
    return limits.get(dtype, limits[torch.bfloat16])


def _stated(model: PreTrainedModel) -> list[float]:
    """Factors that a model may mean: 1, and every number of its configuration."""
    return [1.0, *(value for value in vars(text_configuration(model)).values() if isinstance(value, float) and value)]


@dataclass(frozen=True)
class AdditiveParts:
    """The summands of one block.

    Attributes:
        block: its index.
        attention, mlp: names, inside the block, of the modules whose outputs are added; None if no pair was found.
        attention_scale, mlp_scale: a and b; 1, or the model's residual multiplier.
        error: largest relative error of the sum over the tokens tried.
        limit: what rounding may take of it, in the precision in which it was tried.
        middle: name of the first module that reads the block's input plus its attention; None where none does, as in
            parallel blocks.
    """

    block: int
    attention: str | None
    mlp: str | None
    attention_scale: float
    mlp_scale: float
    error: float
    limit: float
    middle: str | None = None


@torch.no_grad()
def additive_parts(subject: Subject, tokens: Tensor) -> list[AdditiveParts]:
    """Find and measure the summands of every block on one forward pass over ``tokens``."""
    solved, stated, blocks = list[AdditiveParts](), _stated(subject.model), subject.parts.blocks
    widened = [_Widened(block.module) for block in blocks if _widens(block.module)]
    hooks = [_Search(block, stated, solved).hooks() for block in blocks] + [block.hooks() for block in widened]
    with ExitStack() as stack:
        for block in widened:
            stack.callback(block.narrow)
        if widened:  # some attention of a model's own choice knows no float32
            stack.enter_context(attention_implementation(subject.model, subject.implementation))
        stack.enter_context(hooked(chain.from_iterable(hooks)))
        subject.parts.body(input_ids=tokens, use_cache=False)
    return solved


def _widens(module: nn.Module) -> bool:
    """Whether a block is of half precision and can compute in float32: nothing packed, nothing kept elsewhere."""
    parameters, buffers = [*module.parameters()], [*module.buffers()]
    packed = any(buffer.ndim > 1 and buffer.dtype in (torch.int8, torch.int32) for buffer in buffers)
    plain = {parameter.dtype for parameter in parameters} <= {*HALF, torch.float32}
    here = all(tensor.device.type != "meta" for tensor in (*parameters, *buffers))
    return plain and here and not packed and any(parameter.dtype in HALF for parameter in parameters)


class _Widened:
    """Lets a block of half precision compute in float32, for the time in which it runs; its weights are put back."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.dtype = next(parameter.dtype for parameter in module.parameters() if parameter.dtype in HALF)
        self.own = list[tuple[Tensor, Tensor]]()

    def hooks(self) -> Iterator[RemovableHandle]:
        yield self.module.register_forward_pre_hook(self.enter, with_kwargs=True)
        yield self.module.register_forward_hook(self.leave)

    def enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        every = {id(tensor): tensor for tensor in chain(self.module.parameters(), self.module.buffers())}.values()
        self.own = [(tensor, tensor.data) for tensor in every if tensor.dtype in HALF]
        for tensor, data in self.own:
            tensor.data = data.float()
        return _widened(args), _widened(kwargs)

    def leave(self, _: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        self.narrow()
        state = unwrap(output)
        return output if state is None else rewrap(output, state.to(self.dtype))

    def narrow(self) -> None:
        for tensor, data in self.own:
            tensor.data = data
        self.own = []


def _widened(given: Any) -> Any:
    """What a block is given, every tensor of half precision in it in float32."""
    if isinstance(given, Tensor):
        return given.float() if given.dtype in HALF else given
    if isinstance(given, tuple | list) and type(given) in (tuple, list):
        return type(given)(_widened(each) for each in given)
    return {name: _widened(each) for name, each in given.items()} if type(given) is dict else given


class _Search:
    """Collects one block's candidates while it runs, solves for the pair when it is done, and lets go."""

    def __init__(self, block: Block, stated: list[float], solved: list[AdditiveParts]) -> None:
        self.block, self.stated, self.solved = block, stated, solved
        self.entered: Tensor | None = None
        self.candidates = list[tuple[str, Tensor]]()
        self.read = list[tuple[str, Tensor]]()

    def hooks(self) -> Iterator[RemovableHandle]:
        yield from block_hooks(self.block, self.enter, self.solve)
        for name, module in self.block.module.named_modules():
            if name:
                yield module.register_forward_pre_hook(partial(self.remember, name))
                yield module.register_forward_hook(partial(self.collect, name))

    def enter(self, _: Block, state: Tensor) -> None:
        self.entered, self.candidates, self.read = state.clone(), [], []

    def remember(self, name: str, _: nn.Module, args: tuple[Any, ...]) -> None:
        given = args[0] if args else None
        if self.entered is not None and isinstance(given, Tensor) and given.numel() == self.entered.numel():
            width = self.entered.shape[-1]
            self.read += [(name, given.detach().clone().reshape(-1, width))] * (given.shape[-1] == width)

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
        # what a block is given may come from the device of the one before it
        before, after = (state.to(left.device).reshape(-1, left.shape[-1]).double() for state in (entered, left))
        added = after - before
        # rounding is that of the larger of the two: a block may take a massive activation away
        reference = torch.maximum(before.norm(dim=-1), after.norm(dim=-1)).clamp(min=torch.finfo(torch.float64).tiny)
        limit = tolerance(left.dtype, ADDITIVE_TOLERANCE)
        best = AdditiveParts(self.block.index, None, None, torch.nan, torch.nan, torch.inf, limit)
        least = torch.inf
        outermost = sorted(enumerate(self.candidates), key=lambda entry: (entry[1][0].count("."), entry[0]))
        for pair in combinations(outermost, 2):
            (name, earlier), (other, later) = (candidate for _, candidate in sorted(pair, key=lambda entry: entry[0]))
            error = partial(_error, earlier.double(), later.double(), added, reference)
            fitted = _solution(earlier.double(), later.double(), added)
            # an inner pair has to be clearly better: a projection gives what its attention gives
            if error(fitted) < least / 2 and min(map(abs, fitted)) > 1e-3:
                least = error(fitted)
                scales = next((tried for tried in self.tried(fitted) if error(tried) <= limit), fitted)
                best = self.named(name, other, scales, error(scales), limit)
        self.solved.append(replace(best, middle=self.middle(best, before, reference)))
        self.entered, self.candidates, self.read = None, [], []

    def middle(self, best: AdditiveParts, before: Tensor, reference: Tensor) -> str | None:
        """The first module that is given the block's input plus what its attention adds."""
        added = dict(self.candidates).get(best.attention or "")
        if added is None:
            return None
        between = before + best.attention_scale * added.double()
        gaps = ((name, (given.double() - between).norm(dim=-1) / reference) for name, given in self.read)
        return next((name for name, gap in gaps if float(gap.max()) <= best.limit), None)

    def tried(self, fitted: tuple[float, float]) -> Iterator[tuple[float, float]]:
        """1 for both, then what is stated near to what was fitted, then one of the two as it was fitted."""
        rounded = [round(f, 5) if abs(f - round(f, 5)) < 2e-7 else f for f in fitted]
        one, other = ((1.0, min(self.stated, key=lambda number, f=f: abs(number - f)), f) for f in rounded)
        yield from sorted(product(one, other), key=lambda pair: (pair[0] == one[2]) + (pair[1] == other[2]))

    def named(self, earlier: str, later: str, scales: tuple[float, float], error: float, limit: float) -> AdditiveParts:
        """Of the pair, the attention is the one inside the attention module, else the one that ran first."""
        names = {id(module): name for name, module in self.block.module.named_modules()}
        inside = names.get(id(self.block.attention), "\0")
        if later.startswith(inside) and not earlier.startswith(inside):
            earlier, later, scales = later, earlier, (scales[1], scales[0])
        return AdditiveParts(self.block.index, earlier, later, *scales, error, limit)


def _error(earlier: Tensor, later: Tensor, added: Tensor, reference: Tensor, scales: tuple[float, float]) -> float:
    """How far the sum under these factors is off, relative to the row, at the worst token."""
    return float(((scales[0] * earlier + scales[1] * later - added).norm(dim=-1) / reference).max())


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

    @property
    def device(self) -> torch.device:
        """Where rows go in: an offloaded one runs elsewhere than its weight is kept."""
        head: Any = self.head
        elsewhere = getattr(getattr(head, "_hf_hook", None), "execution_device", None)
        return head.weight.device if elsewhere is None else torch.device(elsewhere)

    @property
    def rows_at_once(self) -> int:
        """How many rows make a piece of logits of a size that fits anywhere; an accelerator starves on small ones."""
        head: Any = self.head
        numbers = LOGITS if self.device.type == "cpu" else ACCELERATOR_LOGITS
        return max(1, numbers // head.weight.shape[0])

    def logits(self, state: Tensor, /) -> Tensor:
        """Logits of a state, X(l) before the final norm."""
        logits = self.head(state if self.norm is None else self.norm(state)) * self.scale
        return _capped(logits, self.softcap)


@torch.no_grad()
def find_unembedding(subject: Subject, tokens: Tensor) -> Unembedding:
    """Find the scale, and measure the error, on one forward pass over ``tokens``.

    Raises:
        ProofError: the model has no unembedding, or its last block returns no tensor.
    """
    model, parts = subject.model, subject.parts
    left, read = list[Tensor | None](), list[Tensor]()

    def widen(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
        read.append(output if output.dtype == torch.float64 else output.float())
        return read[-1]

    with ExitStack() as stack:
        stack.enter_context(parts.blocks[-1].module.register_forward_hook(lambda *call: left.append(unwrap(call[-1]))))
        if parts.unembedding is not None:
            stack.enter_context(parts.unembedding.register_forward_hook(widen))
        logits = model(input_ids=tokens, use_cache=False).logits.double()
    state = left[0] if left else None
    if parts.unembedding is None or state is None:
        raise ProofError("the model has no unembedding, or its last block returned no tensor.")
    bare = Unembedding(parts.final_norm, parts.unembedding, 1.0, None, math.nan)
    # a head that is used by its weight alone is heard by nobody
    plain = (read[-1] if read else bare.logits(state)).double()
    logits = logits.to(plain.device)
    config = text_configuration(model)
    softcap = next((cap for name in LOGIT_SOFTCAPS if (cap := getattr(config, name, None))), None)
    target = logits if softcap is None else torch.atanh((logits / softcap).clamp(-1, 1)) * softcap
    # a soft cap that saturates has no inverse: only finite targets tell the scale
    usable = target.isfinite()
    fitted = float((plain * target)[usable].sum() / (plain * plain)[usable].sum())
    near = {number: abs(number - fitted) for stated in _stated(model) for number in (stated, 1 / stated)}
    tried = (1.0, min(near, key=lambda number: near[number]), round(fitted, 5))
    holds = (scale for scale in tried if _gap(_capped(plain * scale, softcap), logits) <= SCALE_TOLERANCE)
    scale = next(holds, round(fitted, 5))
    unembedding = replace(bare, scale=scale, softcap=softcap)
    return replace(unembedding, error=_gap(unembedding.logits(state).double(), logits))


def _capped(logits: Tensor, softcap: float | None) -> Tensor:
    return logits if softcap is None else torch.tanh(logits / softcap) * softcap


def _gap(found: Tensor, logits: Tensor) -> float:
    return float(((found - logits).norm(dim=-1) / logits.norm(dim=-1)).max())

"""The two middle values of each prompt's magnitudes, by counting.

Conventions: those of ``_medians``. Read as integers, numbers that are not negative keep their order, so the value of
rank k is found digit by digit: with all higher digits known, it is counted how many values lie below each value of the
next one. `BITS` bits a pass, four passes for half precision and eight for float32. One more pass finds the next larger
value, which is the upper one of the two where the lower does not occur often enough.
"""

# triton carries no types for what it compiles.
# pyright: basic, reportMissingImports=false, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from thalweg.shapes import Float, Int

BITS = 4
DIGITS = 2**BITS
VALUES = 1024
BLOCKS = 16  # of so many values a program


@triton.jit
@no_type_check
def _prefix(COUNTS, rank, DONE: tl.constexpr, PASSES: tl.constexpr, BITS: tl.constexpr):
    """What is known of the value after some passes."""
    known = tl.zeros([], tl.int32)
    for each in tl.static_range(DONE):
        below = tl.load(COUNTS + each * 2**BITS + tl.arange(0, 2**BITS))
        digit = tl.sum((below <= rank).to(tl.int32), 0) - 1
        known += digit << (BITS * (PASSES - 1 - each))
    return known


@triton.jit
@no_type_check
def _count(
    NUMBERS, TOKENS, COUNTS, stride, WIDTH,
    DONE: tl.constexpr, PASSES: tl.constexpr, BITS: tl.constexpr, VALUES: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    prompt = tl.program_id(1).to(tl.int64)
    count = tl.load(TOKENS + prompt).to(tl.int64) * WIDTH
    NUMBERS, COUNTS = NUMBERS + prompt * stride, COUNTS + prompt * PASSES * 2**BITS
    known = _prefix(COUNTS, (count - 1) // 2, DONE, PASSES, BITS)
    limits = known + (tl.arange(0, 2**BITS) << (BITS * (PASSES - 1 - DONE)))
    limits = tl.where(limits < 0, 2**31 - 1, limits)  # no number has the sign's bit
    below = tl.zeros([2**BITS], tl.int32)
    first = tl.program_id(0).to(tl.int64) * VALUES * BLOCKS
    for block in range(BLOCKS):
        at = first + block * VALUES + tl.arange(0, VALUES)
        numbers = tl.load(NUMBERS + at, mask=at < count, other=-1).to(tl.int32)
        numbers = tl.where(at < count, numbers, 2**31 - 1)
        below += tl.sum((numbers[:, None] < limits[None, :]).to(tl.int32), 0)
    tl.atomic_add(COUNTS + DONE * 2**BITS + tl.arange(0, 2**BITS), below)


@triton.jit
@no_type_check
def _above(
    NUMBERS, TOKENS, COUNTS, NEXT, UP_TO, stride, WIDTH,
    PASSES: tl.constexpr, BITS: tl.constexpr, VALUES: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    prompt = tl.program_id(1).to(tl.int64)
    count = tl.load(TOKENS + prompt).to(tl.int64) * WIDTH
    NUMBERS, COUNTS = NUMBERS + prompt * stride, COUNTS + prompt * PASSES * 2**BITS
    known = _prefix(COUNTS, (count - 1) // 2, PASSES, PASSES, BITS)
    least, up_to = tl.full([VALUES], 2**31 - 1, tl.int32), tl.zeros([VALUES], tl.int32)
    first = tl.program_id(0).to(tl.int64) * VALUES * BLOCKS
    for block in range(BLOCKS):
        at = first + block * VALUES + tl.arange(0, VALUES)
        numbers = tl.load(NUMBERS + at, mask=at < count, other=0).to(tl.int32)
        real = at < count
        up_to += (real & (numbers <= known)).to(tl.int32)
        least = tl.where(real & (numbers > known), tl.minimum(least, numbers), least)
    tl.atomic_add(UP_TO + prompt, tl.sum(up_to, 0))
    tl.atomic_min(NEXT + prompt, tl.min(least, 0))


@triton.jit
@no_type_check
def _middle(TOKENS, COUNTS, NEXT, UP_TO, MIDDLE, WIDTH, PASSES: tl.constexpr, BITS: tl.constexpr):
    prompt = tl.program_id(0)
    count = tl.load(TOKENS + prompt).to(tl.int64) * WIDTH
    known = _prefix(COUNTS + prompt * PASSES * 2**BITS, (count - 1) // 2, PASSES, PASSES, BITS)
    upper = tl.where(tl.load(UP_TO + prompt) > count // 2, known, tl.load(NEXT + prompt))
    tl.store(MIDDLE + 2 * prompt, known.to(MIDDLE.dtype.element_ty))
    tl.store(MIDDLE + 2 * prompt + 1, upper.to(MIDDLE.dtype.element_ty))


def middle_values(
    magnitudes: Float[Tensor, "batch token width"], tokens: Int[Tensor, " batch"], /
) -> Float[Tensor, "batch two"]:
    """The values of rank (n - 1) // 2 and n // 2 of each prompt's n = T x d, in their own dtype.

    Args:
        magnitudes: float32 or half precision.
        tokens: T, on the same device.
    """
    batch, length, width = magnitudes.shape
    numbers = magnitudes.contiguous().view(torch.int32 if magnitudes.dtype.itemsize == 4 else torch.int16)
    passes = 8 * magnitudes.dtype.itemsize // BITS
    counts = torch.zeros(batch * (passes * DIGITS + 1), dtype=torch.int32, device=magnitudes.device)
    digits, up_to = counts[:-batch], counts[-batch:]
    larger = torch.full_like(up_to, 2**31 - 1)
    middle = numbers.new_empty(batch, 2)
    grid = (triton.cdiv(length * width, VALUES * BLOCKS), batch)
    how = {"PASSES": passes, "BITS": BITS}
    sizes = {"VALUES": VALUES, "BLOCKS": BLOCKS}
    for done in range(passes):
        _count[grid](numbers, tokens, digits, length * width, width, DONE=done, **how, **sizes)
    _above[grid](numbers, tokens, digits, larger, up_to, length * width, width, **how, **sizes)
    _middle[(batch,)](tokens, digits, larger, up_to, middle, width, **how)
    return middle.view(magnitudes.dtype)

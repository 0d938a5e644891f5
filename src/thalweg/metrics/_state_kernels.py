"""What ``_vectors`` says, by kernels.

Conventions: states are (batch, token, width), contiguous, float32 or half precision; tokens is T of each prompt. Sums
are float64.

The median: read as integers, magnitudes keep their order. A sample brackets the middle; one pass counts what lies below
the bracket and how much falls into each of `BINS` equal parts of it, and so on inside the part that holds the middle,
until a part is one number. Half precision takes one pass. Where the sample was wrong, all numbers are the next bracket,
so there are `ROUNDS` passes in all; those after the answer is known return at once. Counting goes to parts by atomic
additions, which are few since the bracket is narrow.
"""

# triton carries no types for what it compiles.
# pyright: basic, reportMissingImports=false, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from thalweg.shapes import Float, Int

ROW = 1024  # entries of a row at once
SAMPLE = 4096
DEVIATIONS = 4  # of the sample's middle rank, to either side
BINS, BIN_BITS = 1024, 10
ROUNDS = {2: 3, 4: 5}  # by the bytes of a number
VALUES, BLOCKS = 1024, 16  # numbers at once, and how often a program takes so many


@triton.jit
@no_type_check
def _rows(STATE, TOKENS, SQUARES, PEAKS, DIMS, T, WIDTH, ROW: tl.constexpr):
    token, prompt = tl.program_id(0), tl.program_id(1).to(tl.int64)
    at = prompt * T + token
    if token >= tl.load(TOKENS + prompt):
        tl.store(SQUARES + at, 0.0)
        tl.store(PEAKS + at, 0.0)
        tl.store(DIMS + at, 0)
        return
    STATE += at * WIDTH
    squares, best, dim = tl.zeros([ROW], tl.float64), -1.0, 0
    for start in range(0, WIDTH, ROW):
        place = start + tl.arange(0, ROW)
        values = tl.load(STATE + place, mask=place < WIDTH, other=0.0).to(tl.float32)
        wide = values.to(tl.float64)
        squares += wide * wide
        largest, where = tl.max(tl.abs(values), 0, return_indices=True, return_indices_tie_break_left=True)
        dim = tl.where(largest > best, start + where, dim)
        best = tl.maximum(largest, best)
    tl.store(SQUARES + at, tl.sum(squares, 0))
    tl.store(PEAKS + at, tl.load(STATE + dim))
    tl.store(DIMS + at, dim.to(tl.int64))


def row_vectors(
    state: Float[Tensor, "batch token width"], tokens: Int[Tensor, " batch"], /
) -> tuple[Float[Tensor, "batch token"], Float[Tensor, "batch token"], Int[Tensor, "batch token"]]:
    """Squared norms, largest entries and their dimensions."""
    batch, length, width = state.shape
    squares = torch.empty(batch, length, dtype=torch.float64, device=state.device)
    peaks, dims = state.new_empty(batch, length), torch.empty(batch, length, dtype=torch.long, device=state.device)
    _rows[(length, batch)](state, tokens, squares, peaks, dims, length, width, ROW=ROW)
    return squares, peaks, dims


@triton.jit
@no_type_check
def _above_threshold(STATE, PEAKS, LIMITS, TOKENS, COUNTS, T, WIDTH, ROW: tl.constexpr):
    token, prompt = tl.program_id(0), tl.program_id(1).to(tl.int64)
    at, limit = prompt * T + token, tl.load(LIMITS + prompt)
    peak = tl.abs(tl.load(PEAKS + at).to(tl.float32)).to(tl.float64)
    if (token >= tl.load(TOKENS + prompt)) | (peak <= limit):
        return
    found = tl.zeros([ROW], tl.int32)
    for start in range(0, WIDTH, ROW):
        place = start + tl.arange(0, ROW)
        values = tl.load(STATE + at * WIDTH + place, mask=place < WIDTH, other=0.0).to(tl.float32)
        found += (tl.abs(values).to(tl.float64) > limit).to(tl.int32)
    tl.atomic_add(COUNTS + prompt, tl.sum(found, 0).to(tl.int64))


def entries_above(
    state: Float[Tensor, "batch token width"],
    peaks: Float[Tensor, "batch token"],
    limits: Float[Tensor, " batch"],
    tokens: Int[Tensor, " batch"],
    /,
) -> Int[Tensor, " batch"]:
    """How many magnitudes exceed each prompt's limit; rows whose peak does not are not read."""
    batch, length, width = state.shape
    counts = torch.zeros(batch, dtype=torch.long, device=state.device)
    _above_threshold[(length, batch)](state, peaks, limits, tokens, counts, length, width, ROW=ROW)
    return counts


@triton.jit
@no_type_check
def _ranked(numbers, rank, TOP: tl.constexpr):
    """The number of a rank, bit by bit."""
    found = tl.zeros([], tl.int32)
    for step in range(TOP):
        larger = found + (1 << (TOP - 1 - step))
        found = tl.where(tl.sum((numbers < larger).to(tl.int32), 0) <= rank, larger, found)
    return found


@triton.jit
@no_type_check
def _bracket(
    NUMBERS, TOKENS, LOW, SHIFT, stride, WIDTH,
    TOP: tl.constexpr, SAMPLE: tl.constexpr, DEVIATIONS: tl.constexpr, BINS: tl.constexpr,
):  # fmt: skip
    prompt = tl.program_id(0).to(tl.int64)
    count = tl.load(TOKENS + prompt).to(tl.int64) * WIDTH
    step = tl.maximum(count // SAMPLE, 1)
    step += (step % 2 == 0) & (step > 1) & ((SAMPLE - 1) * (step + 1) < count)  # an odd one visits every column
    place = tl.arange(0, SAMPLE).to(tl.int64) * step
    there = place < count
    numbers = tl.load(NUMBERS + prompt * stride + place, mask=there, other=0).to(tl.int32) & ((1 << TOP) - 1)
    numbers = tl.where(there, numbers, 2**31 - 1)
    seen = tl.sum(there.to(tl.int32), 0)
    aside = (DEVIATIONS * tl.sqrt(seen.to(tl.float32)) / 2).to(tl.int32) + 1
    low = _ranked(numbers, tl.maximum((seen - 1) // 2 - aside, 0), TOP)
    high = _ranked(numbers, tl.minimum(seen // 2 + aside, seen - 1), TOP)
    shift = tl.zeros([], tl.int32)
    for _ in range(TOP):
        shift += ((high - low) >> shift >= BINS).to(tl.int32)
    tl.store(LOW + prompt, low)
    tl.store(SHIFT + prompt, shift)


@triton.jit
@no_type_check
def _count(
    NUMBERS, TOKENS, LOW, SHIFT, COUNTS, stride, WIDTH,
    TOP: tl.constexpr, BINS: tl.constexpr, VALUES: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    prompt = tl.program_id(1).to(tl.int64)
    shift = tl.load(SHIFT + prompt)
    if shift < 0:
        return
    count, low = tl.load(TOKENS + prompt).to(tl.int64) * WIDTH, tl.load(LOW + prompt)
    NUMBERS, COUNTS = NUMBERS + prompt * stride, COUNTS + prompt * (BINS + 1)
    below = tl.zeros([VALUES], tl.int32)
    first = tl.program_id(0).to(tl.int64) * VALUES * BLOCKS
    for block in range(BLOCKS):
        place = first + block * VALUES + tl.arange(0, VALUES)
        there = place < count
        numbers = tl.load(NUMBERS + place, mask=there, other=0).to(tl.int32) & ((1 << TOP) - 1)
        part = (numbers - low) >> shift
        below += (there & (numbers < low)).to(tl.int32)
        tl.atomic_add(COUNTS + part, 1, mask=there & (numbers >= low) & (part < BINS), sem="relaxed")
    tl.atomic_add(COUNTS + BINS, tl.sum(below, 0), sem="relaxed")


@triton.jit
@no_type_check
def _narrow(TOKENS, LOW, SHIFT, UPPER, COUNTS, WIDTH, TOP: tl.constexpr, BINS: tl.constexpr, BIN_BITS: tl.constexpr):
    """The next bracket; a shift of -1 where the lower middle number is known, and the upper one where it was seen."""
    prompt = tl.program_id(0).to(tl.int64)
    shift = tl.load(SHIFT + prompt)
    if shift < 0:
        return
    count, low = tl.load(TOKENS + prompt).to(tl.int64) * WIDTH, tl.load(LOW + prompt)
    COUNTS += prompt * (BINS + 1)
    part = tl.arange(0, BINS)
    inside, below = tl.load(COUNTS + part), tl.load(COUNTS + BINS)
    up_to = below + tl.cumsum(inside, 0)
    rank = (count - 1) // 2
    held = (below <= rank) & (below + tl.sum(inside, 0) > rank)
    own = tl.sum((up_to <= rank).to(tl.int32), 0)
    after = tl.min(tl.where((inside > 0) & (part > own), part, BINS), 0)
    through = tl.sum(tl.where(part == own, up_to, 0), 0)
    upper = tl.where(through > count // 2, own, after)
    known = held & (shift == 0)
    tl.store(UPPER + prompt, tl.where(known & (upper < BINS), low + upper, 2**31 - 1))
    tl.store(LOW + prompt, tl.where(held, low + (own << shift), 0))
    again = tl.where(held, tl.maximum(shift - BIN_BITS, 0), tl.maximum(TOP - BIN_BITS, 0))
    tl.store(SHIFT + prompt, tl.where(known, -1, again))


@triton.jit
@no_type_check
def _next_larger(
    NUMBERS, TOKENS, LOW, UPPER, LARGER, stride, WIDTH,
    TOP: tl.constexpr, VALUES: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    prompt = tl.program_id(1).to(tl.int64)
    if tl.load(UPPER + prompt) < 2**31 - 1:
        return
    count, low = tl.load(TOKENS + prompt).to(tl.int64) * WIDTH, tl.load(LOW + prompt)
    least = tl.full([VALUES], 2**31 - 1, tl.int32)
    first = tl.program_id(0).to(tl.int64) * VALUES * BLOCKS
    for block in range(BLOCKS):
        place = first + block * VALUES + tl.arange(0, VALUES)
        there = place < count
        numbers = tl.load(NUMBERS + prompt * stride + place, mask=there, other=0).to(tl.int32) & ((1 << TOP) - 1)
        least = tl.where(there & (numbers > low), tl.minimum(least, numbers), least)
    tl.atomic_min(LARGER + prompt, tl.min(least, 0))


def middle_values(
    state: Float[Tensor, "batch token width"], tokens: Int[Tensor, " batch"], /
) -> Float[Tensor, "batch two"]:
    """The magnitudes of rank (n - 1) // 2 and n // 2 of each prompt's n = T x d, in their own dtype."""
    batch, length, width = state.shape
    size, integer = state.dtype.itemsize, torch.int32 if state.dtype.itemsize == 4 else torch.int16
    numbers, top = state.view(integer), 8 * size - 1
    low, shift, upper, larger = torch.full((4, batch), 2**31 - 1, dtype=torch.int32, device=state.device)
    counts = torch.zeros(ROUNDS[size], batch, BINS + 1, dtype=torch.int32, device=state.device)
    where = (length * width, width)
    everywhere = (triton.cdiv(length * width, VALUES * BLOCKS), batch)
    sizes = {"TOP": top, "VALUES": VALUES, "BLOCKS": BLOCKS}
    _bracket[(batch,)](numbers, tokens, low, shift, *where, TOP=top, SAMPLE=SAMPLE, DEVIATIONS=DEVIATIONS, BINS=BINS)
    for own in counts:
        _count[everywhere](numbers, tokens, low, shift, own, *where, BINS=BINS, **sizes)
        _narrow[(batch,)](tokens, low, shift, upper, own, width, TOP=top, BINS=BINS, BIN_BITS=BIN_BITS)
    _next_larger[everywhere](numbers, tokens, low, upper, larger, *where, **sizes)
    pair = torch.stack([low, torch.minimum(upper, larger)], dim=1)
    return pair.to(integer).view(state.dtype)

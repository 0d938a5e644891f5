"""What ``_vectors`` says, by kernels.

Conventions: states are (batch, token, width), contiguous, float32 or half precision; tokens is T of each prompt. Sums
are float64.

The median: read as integers, magnitudes keep their order. A sample brackets the middle; one pass counts what lies below
the bracket and how much falls into each of `BINS` equal parts of it, and so on inside the part that holds the middle,
until a part is one number. Half precision takes one pass. Where the sample was wrong, all numbers are the next bracket,
so there are `ROUNDS` passes in all; those after the answer is known return at once. Counting goes to parts by atomic
additions, which are few since the bracket is narrow, and to `COPIES` of the parts, since they meet.
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
COPIES = 32
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
    dim = tl.minimum(dim, WIDTH - 1)  # what is largest of NaN may be behind the row
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
    TOP: tl.constexpr, BINS: tl.constexpr, COPIES: tl.constexpr, VALUES: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    prompt = tl.program_id(1).to(tl.int64)
    shift = tl.load(SHIFT + prompt)
    if shift < 0:
        return
    count, low = tl.load(TOKENS + prompt).to(tl.int64) * WIDTH, tl.load(LOW + prompt)
    copy = prompt * COPIES + tl.program_id(0) % COPIES
    NUMBERS, COUNTS = NUMBERS + prompt * stride, COUNTS + copy * 2 * BINS
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
def _narrow(
    TOKENS, LOW, SHIFT, UPPER, COUNTS, WIDTH,
    TOP: tl.constexpr, BINS: tl.constexpr, BIN_BITS: tl.constexpr, COPIES: tl.constexpr,
):  # fmt: skip
    """The next bracket; a shift of -1 where the lower middle number is known, and the upper one where it was seen."""
    prompt = tl.program_id(0).to(tl.int64)
    shift = tl.load(SHIFT + prompt)
    if shift < 0:
        return
    count, low = tl.load(TOKENS + prompt).to(tl.int64) * WIDTH, tl.load(LOW + prompt)
    part, inside, below = tl.arange(0, BINS), tl.zeros([BINS], tl.int32), tl.zeros([], tl.int32)
    for copy in range(COPIES):
        counts = COUNTS + (prompt * COPIES + copy) * 2 * BINS
        inside += tl.load(counts + part)
        below += tl.load(counts + BINS)
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


@triton.jit
@no_type_check
def _above_limit(
    STATE, TOKENS, PEAKS, LOW, UPPER, LARGER, MEDIANS, LIMITS, COUNTS, T, WIDTH, FLOOR, RATIO,
    INTEGER: tl.constexpr, ROW: tl.constexpr,
):  # fmt: skip
    """The median, and the entries of a row above the limit that follows from it; most rows have no such peak."""
    token, prompt = tl.program_id(0), tl.program_id(1).to(tl.int64)
    at = prompt * T + token
    upper = tl.minimum(tl.load(UPPER + prompt), tl.load(LARGER + prompt))
    middle = tl.load(LOW + prompt).to(INTEGER).to(STATE.dtype.element_ty, bitcast=True).to(tl.float64)
    middle = (middle + upper.to(INTEGER).to(STATE.dtype.element_ty, bitcast=True).to(tl.float64)) / 2
    limit = tl.maximum(RATIO * middle, FLOOR)
    if token == 0:
        tl.store(MEDIANS + prompt, middle)
        tl.store(LIMITS + prompt, limit)
    peak = tl.abs(tl.load(PEAKS + at).to(tl.float32)).to(tl.float64)
    if (token >= tl.load(TOKENS + prompt)) | (peak <= limit):
        return
    found = tl.zeros([ROW], tl.int32)
    for start in range(0, WIDTH, ROW):
        place = start + tl.arange(0, ROW)
        values = tl.load(STATE + at * WIDTH + place, mask=place < WIDTH, other=0.0).to(tl.float32)
        found += (tl.abs(values).to(tl.float64) > limit).to(tl.int32)
    tl.atomic_add(COUNTS + prompt, tl.sum(found, 0).to(tl.int64))


@triton.jit
@no_type_check
def _largest(STATE, TOKENS, PEAKS, LIMITS, ROWS, ENTRIES, T, WIDTH, SEEN, MANY: tl.constexpr, ROW: tl.constexpr):
    """The largest entries above the limit, one after the other, of the rows with the largest peaks."""
    prompt = tl.program_id(0).to(tl.int64)
    limit, tokens = tl.load(LIMITS + prompt), tl.load(TOKENS + prompt)
    none = tl.full([], -1, tl.int32)
    last, last_row, last_dim, more = tl.full([], float("inf"), tl.float32), none, none, limit < float("inf")
    for entry in range(MANY):
        best, best_row, best_dim = tl.full([], -1.0, tl.float32), none, none
        if more:
            for row in range(SEEN):
                token = tl.load(ROWS + prompt * SEEN + row)
                peak = tl.abs(tl.load(PEAKS + prompt * T + token).to(tl.float32))
                if (peak.to(tl.float64) > limit) & (token < tokens):
                    for start in range(0, WIDTH, ROW):
                        place = start + tl.arange(0, ROW)
                        own = STATE + (prompt * T + token) * WIDTH + place
                        size = tl.abs(tl.load(own, mask=place < WIDTH, other=0.0).to(tl.float32))
                        after = (row > last_row) | ((row == last_row) & (place > last_dim))
                        size = tl.where((size < last) | ((size == last) & after), size, -1.0)
                        most, dim = tl.max(size, 0, return_indices=True, return_indices_tie_break_left=True)
                        best_dim = tl.where(most > best, start + dim, best_dim)
                        best_row = tl.where(most > best, row, best_row)
                        best = tl.maximum(most, best)
        more = best.to(tl.float64) > limit
        if more:
            token = tl.load(ROWS + prompt * SEEN + best_row)
            value = tl.load(STATE + (prompt * T + token) * WIDTH + best_dim).to(tl.float64)
            own = ENTRIES + prompt * 3 * MANY + entry
            tl.store(own, token.to(tl.float64))
            tl.store(own + MANY, best_dim.to(tl.float64))
            tl.store(own + 2 * MANY, value)
        last, last_row, last_dim = best, best_row, best_dim


def median_and_entries(
    state: Float[Tensor, "batch token width"],
    tokens: Int[Tensor, " batch"],
    peaks: Float[Tensor, "batch token"],
    /,
    *,
    floor: float,
    ratio: float,
    many: int,
) -> tuple[Float[Tensor, " batch"], Int[Tensor, " batch"], Float[Tensor, "batch three many"]]:
    """Each prompt's median, and its entries above max(floor, ratio x median): how many, and the largest.

    Returns:
        Median, float64; number; position, dimension and value of as many as there are, largest first.
    """
    batch, length, width = state.shape
    low, upper, larger = _middle(state, tokens)
    known = torch.zeros(batch * (3 + 3 * many), dtype=torch.float64, device=state.device)
    medians, limits, counts, entries = known.split([batch, batch, batch, 3 * many * batch])
    counts = counts.view(torch.long)
    integer = tl.int32 if state.dtype.itemsize == 4 else tl.int16
    _above_limit[(length, batch)](
        state, tokens, peaks, low, upper, larger, medians, limits, counts, length, width, floor, ratio,
        INTEGER=integer, ROW=ROW,
    )  # fmt: skip
    rows = peaks.abs().topk(min(many, length)).indices
    _largest[(batch,)](state, tokens, peaks, limits, rows, entries, length, width, rows.shape[1], MANY=many, ROW=ROW)
    return medians, counts, entries.view(batch, 3, many)


def _middle(state: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lower middle magnitudes as integers, upper ones where they were met, and else the next larger ones."""
    batch, length, width = state.shape
    size, integer = state.dtype.itemsize, torch.int32 if state.dtype.itemsize == 4 else torch.int16
    numbers, top = state.view(integer), 8 * size - 1
    low, shift, upper, larger = torch.full((4, batch), 2**31 - 1, dtype=torch.int32, device=state.device)
    counts = torch.zeros(ROUNDS[size], batch, COPIES, 2 * BINS, dtype=torch.int32, device=state.device)
    where = (length * width, width)
    everywhere = (triton.cdiv(length * width, VALUES * BLOCKS), batch)
    sizes, parts = {"TOP": top, "VALUES": VALUES, "BLOCKS": BLOCKS}, {"BINS": BINS, "COPIES": COPIES}
    _bracket[(batch,)](numbers, tokens, low, shift, *where, TOP=top, SAMPLE=SAMPLE, DEVIATIONS=DEVIATIONS, BINS=BINS)
    for own in counts:
        _count[everywhere](numbers, tokens, low, shift, own, *where, **parts, **sizes)
        _narrow[(batch,)](tokens, low, shift, upper, own, width, TOP=top, BIN_BITS=BIN_BITS, **parts)
    _next_larger[everywhere](numbers, tokens, low, upper, larger, *where, **sizes)
    return low, upper, larger

"""Which part of which block writes the sink token's row, and into which dimensions.

Conventions: the sink's row of state 0 and everything that attention and MLPs add to it afterwards sum to its row of the
last state. The reference state r is the one of largest norm_ratio (lowest index on ties), v = x_0(r) / |x_0(r)|. Parts
come in the order embedding, attention of block 0, MLP of block 0, attention of block 1, ... A coordinate is massive for
a prompt if it holds at least 1% of the squared norm of the sink's row at r, and massive if it is for at least half of
the prompts. Arithmetic is float64. Undefined is NaN or empty, with a reason.
"""

# torch.linalg and Tensor.tolist carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.metrics._norms import sink_and_rest
from thalweg.metrics._view import first, median
from thalweg.options import MASSIVE_RATIO
from thalweg.shapes import Bool, Float, Int

RANKS = 4
HELD = 0.01
SHARE = 0.5


@dataclass(frozen=True, slots=True)
class SinkRow:
    """How the sink's row stands out of one state: what `norms` says of it, without the entries.

    Attributes:
        sink_norm: norm of the sink's row.
        rest_norm: mean norm of the other rows.
        norm_ratio: sink_norm / rest_norm.
        sink_ratio: sink_norm / median row norm; the sink is a massive row from 10 on.
        row_ratio: largest row norm / median row norm.
        row_position: position of the row of largest norm.
    """

    sink_norm: float
    rest_norm: float
    norm_ratio: float
    sink_ratio: float
    row_ratio: float
    row_position: int | None


@dataclass(frozen=True, slots=True)
class Attribution:
    """What wrote the sink's row of one prompt.

    Attributes:
        reference_state: r; None where no state has a norm_ratio.
        norm: norm of each contribution.
        along: its component along v.
        share: along / |x_0(r)|.
        cosine: along / norm.
        before: whether the part comes before the reference state; the shares of those that do sum to 1.
        dims: the dimensions of each contribution that are largest in magnitude, largest first.
        values: the contribution there, signed.
        state_along: component of the sink's row along v, by state.
        sum_error: distance of the sink's row from the sum of what came before, over the largest norm on the way.
        reason: why there is no reference state, or None.
    """

    reference_state: int | None
    norm: Float[Tensor, " part"]
    along: Float[Tensor, " part"]
    share: Float[Tensor, " part"]
    cosine: Float[Tensor, " part"]
    before: Bool[Tensor, " part"]
    dims: Int[Tensor, "part rank"]
    values: Float[Tensor, "part rank"]
    state_along: Float[Tensor, " state"]
    sum_error: Float[Tensor, " state"]
    reason: str | None


def sink_row(state: Float[Tensor, "token width"], /, *, sink_position: int = 0) -> SinkRow:
    """How the sink's row stands out of a state.

    Args:
        state: one prompt's state, real tokens only, activation units.
        sink_position: which row is the sink.

    Returns:
        The norms and ratios. NaN, as in `norms`: all for a state that is zero or not finite, those of the sink for a
        prompt that does not reach it, `rest_norm` and `norm_ratio` where there is no other row or all others are zero.

    Example:
        The rows (30, 40), (3, 4), (0, 5): sink 50, rest 5, norm ratio 10, sink and row ratio 10, at position 0.
    """
    rows = torch.linalg.vector_norm(state.cpu() if state.device.type == "mps" else state, dim=1, dtype=torch.float64)
    rows = rows.cpu()
    largest = float(rows.max())
    if not math.isfinite(largest) or largest == 0:
        return SinkRow(math.nan, math.nan, math.nan, math.nan, math.nan, None)
    sink, rest = sink_and_rest(rows, sink_position)
    middle = median(rows)
    return SinkRow(
        sink_norm=sink,
        rest_norm=rest,
        norm_ratio=sink / rest if rest > 0 else math.nan,
        sink_ratio=_over(sink, middle),
        row_ratio=_over(largest, middle),
        row_position=first(rows == largest),
    )


def attribution(
    contributions: Float[Tensor, "block 2 width"],
    /,
    *,
    rows: Float[Tensor, "state width"],
    norm_ratio: Float[Tensor, " state"],
    ranks: int = RANKS,
) -> Attribution:
    """How much of the sink's row each part wrote (the paper, Figure 19).

    Args:
        contributions: what attention (0) and MLP (1) of each block add to the sink's row, activation units.
        rows: the sink's row of every state, one more than there are blocks.
        norm_ratio: of every state; NaN where undefined.
        ranks: how many dimensions of each contribution to name.

    Returns:
        One value for each of 1 + 2 x blocks parts, and for each state.

    Example:
        The row (1, 0) to which block 0 adds (0, 0) and (99, 0), norm ratios 1 and 100: r = 1, the embedding wrote 0.01
        of the row, the MLP of block 0 wrote 0.99.
    """
    rows, parts = rows.double(), torch.cat([rows[:1].double(), contributions.double().flatten(0, 1)])
    norm = torch.linalg.vector_norm(parts, dim=1)
    reference, reason = _reference_state(rows, norm_ratio)
    direction = torch.full_like(rows[0], math.nan)
    size = math.nan
    if reference is not None:
        size = float(torch.linalg.vector_norm(rows[reference]))
        direction = rows[reference] / size
    along = parts @ direction
    largest = parts.abs().topk(min(ranks, parts.shape[1]), dim=1).indices
    return Attribution(
        reference_state=reference,
        norm=norm,
        along=along,
        share=along / size,
        cosine=along / norm,
        before=torch.arange(len(parts)) < (1 + 2 * reference if reference is not None else 0),
        dims=largest,
        values=parts.gather(1, largest),
        state_along=rows @ direction,
        sum_error=_sum_error(parts, rows),
        reason=reason,
    )


@dataclass(frozen=True, slots=True)
class SinkCoordinates:
    """The coordinates of the sink's row.

    Attributes:
        dims: the massive ones, in order; empty where the sink's row is not massive for at least half of the prompts.
        peak: largest magnitude of a massive coordinate, over states and prompts.
        ordinary: largest magnitude of another one.
    """

    dims: tuple[int, ...]
    peak: float
    ordinary: float


def sink_coordinates(
    rows: Sequence[Float[Tensor, "state width"]],
    stand_out: Sequence[Sequence[SinkRow]],
    /,
    *,
    massive_ratio: float = MASSIVE_RATIO,
) -> SinkCoordinates:
    """Tell the massive coordinates of the sink's row from the ordinary ones.

    Args:
        rows: for each prompt, the sink's row of every state, activation units.
        stand_out: for each prompt and state, how that row stands out.
        massive_ratio: the sink_ratio from which the sink's row is massive.

    Returns:
        The coordinates, over the prompts whose sink's row is massive at some state.

    Example:
        One prompt whose row is (1, 2, 0) and then (1, 3, 500), norm ratios 1 and 200: coordinate 2 is massive, peak
        500, ordinary 3.
    """
    known = list[tuple[Tensor, int]]()
    for row, states in zip(rows, stand_out, strict=True):
        ratios = torch.tensor([state.norm_ratio for state in states], dtype=torch.float64)
        reference, _ = _reference_state(row.double(), ratios)
        if reference is not None and any(state.sink_ratio >= massive_ratio for state in states):
            known.append((row.double(), reference))
    if not known or len(known) < SHARE * len(rows):
        return SinkCoordinates((), math.nan, math.nan)
    held = torch.stack([row[at].square() / row[at].square().sum() >= HELD for row, at in known])
    massive = held.double().mean(0) >= SHARE
    largest = torch.stack([row.abs().amax(0) for row, _ in known]).amax(0)
    peak, ordinary = (float(part.max()) if len(part) else math.nan for part in (largest[massive], largest[~massive]))
    return SinkCoordinates(tuple(massive.nonzero().flatten().tolist()), peak, ordinary)


def _reference_state(rows: Tensor, norm_ratio: Tensor) -> tuple[int | None, str | None]:
    """The state of largest norm ratio, or None and why there is none."""
    if not bool(rows.isfinite().all()):
        return None, "the sink token's row is missing or not finite"
    usable = norm_ratio.double().nan_to_num(-math.inf, posinf=-math.inf)
    if not bool(usable.isfinite().any()):
        return None, "no state has a norm ratio: there is no other row, or one that is not finite"
    reference = first(usable == usable.max())
    return (reference, None) if bool(rows[reference].any()) else (None, "the sink token's row is zero")


def _sum_error(parts: Tensor, rows: Tensor) -> Tensor:
    sums = parts.cumsum(0)
    largest = torch.maximum(torch.linalg.vector_norm(parts, dim=1), torch.linalg.vector_norm(sums, dim=1))
    way = largest.cummax(0).values[::2]
    gap = torch.linalg.vector_norm(rows - sums[::2], dim=1)
    return torch.where(gap == 0, 0.0, gap / way)


def _over(norm: float, middle: float) -> float:
    if middle > 0 or math.isnan(norm):
        return norm / middle if middle > 0 else math.nan
    return math.inf if norm > 0 else math.nan

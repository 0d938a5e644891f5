"""Which part of which block writes a row that stands out, and into which dimensions.

Conventions: a row s of state 0 and everything that attention and MLPs add to it afterwards sum to its row of the last
state. r is the state at which it is read, v = x_s(r) / |x_s(r)|. Parts come in the order embedding, attention of block
0, MLP of block 0, attention of block 1, ... A coordinate is massive if it holds at least 1% of the squared norm of the
row. Arithmetic is float64. Undefined is NaN or empty, with a reason.
"""

# torch.linalg and Tensor.tolist carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from thalweg.metrics._norms import median_norms, norms_columns
from thalweg.shapes import Float, Int

RANKS = 4
HELD = 0.01


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
    """What wrote one row of one prompt.

    Attributes:
        norm: norm of each contribution.
        along: its component along v.
        share: along / |x_s(r)|; those of the parts before r sum to 1.
        cosine: along / norm.
        dims: the dimensions of each contribution that are largest in magnitude, largest first.
        values: the contribution there, signed.
        state_along: component of the row along v, by state.
        sum_error: distance of the row from the sum of what came before, over the largest norm on the way.
        reason: why there is no direction v, or None.
    """

    norm: Float[Tensor, " part"]
    along: Float[Tensor, " part"]
    share: Float[Tensor, " part"]
    cosine: Float[Tensor, " part"]
    dims: Int[Tensor, "part rank"]
    values: Float[Tensor, "part rank"]
    state_along: Float[Tensor, " state"]
    sum_error: Float[Tensor, " state"]
    reason: str | None


def row_norms(state: Float[Tensor, "*batch token width"], /) -> Float[Tensor, "*batch token"]:
    """Norm of every row, float64, where the state is; on the processor for Apple's GPU, which has no float64.

    Example:
        >>> row_norms(torch.tensor([[3.0, 4.0], [0.0, 2.0]])).tolist()
        [5.0, 2.0]
    """
    rows = state.detach().cpu() if state.device.type == "mps" else state.detach()
    return torch.linalg.vector_norm(rows, dim=-1, dtype=torch.float64)


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
    tokens, sink = torch.tensor([len(state)]), sink_position if sink_position < len(state) else -1
    return sink_rows(row_norms(state)[None].cpu(), tokens, sink=torch.tensor([sink]))[0]


def sink_rows(
    norms: Float[Tensor, "batch token"], tokens: Int[Tensor, " batch"], /, *, sink: Int[Tensor, " batch"]
) -> list[SinkRow]:
    """The same of many states, from the norms of their rows.

    Args:
        norms: row norms, 0 at pads.
        tokens: T of each.
        sink: position of the sink's row in each; -1 where there is none.

    Example:
        >>> norms, tokens = torch.tensor([[50.0, 5.0, 5.0]]).double(), torch.tensor([3])
        >>> sink_rows(norms, tokens, sink=torch.tensor([0]))[0].norm_ratio
        10.0
    """
    median = median_norms(norms, tokens)
    columns = norms_columns(norms, median, tokens, sink=sink)
    columns["sink_ratio"] = columns["sink_norm"] / median
    lists = {each.name: columns[each.name].tolist() for each in fields(SinkRow)}
    lists["row_position"] = [None if position < 0 else position for position in lists["row_position"]]
    return [SinkRow(*values) for values in zip(*lists.values(), strict=True)]


def attribution(
    contributions: Float[Tensor, "block 2 width"],
    /,
    *,
    rows: Float[Tensor, "state width"],
    reference_state: int,
    ranks: int = RANKS,
) -> Attribution:
    """How much of a row each part wrote (the paper, Figure 19).

    Args:
        contributions: what attention (0) and MLP (1) of each block add to the row, activation units.
        rows: the row at every state, one more than there are blocks.
        reference_state: r.
        ranks: how many dimensions of each contribution to name.

    Returns:
        One value for each of 1 + 2 x blocks parts, and for each state.

    Example:
        The row (1, 0) to which block 0 adds (0, 0) and (99, 0), r = 1: the embedding wrote 0.01 of the row, the MLP of
        block 0 wrote 0.99.
    """
    rows, parts = rows.double(), torch.cat([rows[:1].double(), contributions.double().flatten(0, 1)])
    norm = torch.linalg.vector_norm(parts, dim=1)
    size, reason = torch.linalg.vector_norm(rows[reference_state]), _reason(rows, reference_state)
    if reason is not None:
        size = torch.full_like(size, math.nan)
    direction = rows[reference_state] / size
    along = parts @ direction
    largest = parts.abs().topk(min(ranks, parts.shape[1]), dim=1).indices
    return Attribution(
        norm=norm,
        along=along,
        share=along / size,
        cosine=along / norm,
        dims=largest,
        values=parts.gather(1, largest),
        state_along=rows @ direction,
        sum_error=_sum_error(parts, rows),
        reason=reason,
    )


def massive_coordinates(row: Float[Tensor, " width"], /) -> tuple[int, ...]:
    """The coordinates that hold at least 1% of the squared norm of a row, in order; none of a row that is zero.

    Example:
        >>> massive_coordinates(torch.tensor([1.0, 3.0, 500.0]))
        (2,)
    """
    squares = row.detach().cpu().double().square()
    return tuple((squares >= HELD * squares.sum()).nonzero().flatten().tolist()) if bool(squares.sum() > 0) else ()


def _reason(rows: Tensor, reference_state: int) -> str | None:
    """Why a row has no direction."""
    if not bool(rows.isfinite().all()):
        return "the row is missing or not finite"
    return None if bool(rows[reference_state].any()) else "the row is zero"


def _sum_error(parts: Tensor, rows: Tensor) -> Tensor:
    sums = parts.cumsum(0)
    largest = torch.maximum(torch.linalg.vector_norm(parts, dim=1), torch.linalg.vector_norm(sums, dim=1))
    way = largest.cummax(0).values[::2]
    gap = torch.linalg.vector_norm(rows - sums[::2], dim=1)
    return torch.where(gap == 0, 0.0, gap / way)

"""How large are the rows and entries of a state, and which are massive.

Conventions: Euclidean row norms in activation units; medians are ordinary ones (mean of the two middle values for an
even count); the sink is the row at `sink_position`. Ties go to the lowest position, then the lowest dimension.
Undefined is NaN, or None for a position.

- A massive entry (Sun et al. 2024): |x_ij| > 100 and > 1000 x the median magnitude.
- A massive row: norm >= `massive_ratio` x the median row norm, and not zero.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from thalweg.metrics._view import StateView
from thalweg.options import MASSIVE_RATIO
from thalweg.shapes import Float, Int

LIMIT = 16
"""Of the massive rows and entries of a state so many are told."""


@dataclass(frozen=True, slots=True)
class Norms:
    """Norms of one state; every field is a column of the ``layers`` table.

    Attributes:
        sink_norm: norm of the sink's row.
        rest_norm: mean norm of the other rows.
        norm_ratio: sink_norm / rest_norm.
        row_ratio: largest row norm / median row norm; inf where more than half of the rows are zero.
        median_norm: median row norm.
        row_position: position of the row of largest norm.
        peak_value: the entry largest in magnitude, signed.
        peak_position: its position.
        peak_dim: its dimension.
        median_abs: median magnitude of the entries.
        massive_entry_count: number of massive entries.
    """

    sink_norm: float
    rest_norm: float
    norm_ratio: float
    row_ratio: float
    median_norm: float
    row_position: int | None
    peak_value: float
    peak_position: int | None
    peak_dim: int | None
    median_abs: float
    massive_entry_count: int | None


@dataclass(frozen=True, slots=True)
class MassiveActivation:
    """One row of the ``massive`` table; `dim` and `value` belong to entries only."""

    kind: Literal["entry", "row"]
    position: int
    dim: int | None
    value: float | None
    row_norm: float


def norms(state: Float[Tensor, "token width"], /, *, sink_position: int = 0) -> Norms:
    """Row norms and the largest entry of one state (the paper, Figures 1 and 7; Sun et al. 2024).

    Args:
        state: one prompt's state, real tokens only, activation units.
        sink_position: which row is the sink.

    Returns:
        The norms. With one token, or with every other row zero, `rest_norm` and `norm_ratio` are NaN; without a token
        at the sink position `sink_norm` is NaN too. All are NaN for a state that is not finite or zero.

    Raises:
        ValueError: the state has no token or no dimension.

    Example:
        The rows (30, 40), (3, 4), (0, 5): sink 50, rest 5, norm ratio 10, row ratio 10 at position 0, peak 40 at (0,
        1).
    """
    return norms_of(StateView(state), sink_position)


def massive_activations(
    state: Float[Tensor, "token width"], /, *, massive_ratio: float = MASSIVE_RATIO, limit: int = LIMIT
) -> list[MassiveActivation]:
    """The massive rows and entries of one state, largest first, rows before entries.

    Where there are more than `limit`, rows and entries keep half each, and what one kind leaves over goes to the other:
    neither a state full of massive entries nor one full of massive rows hides the other kind.

    Args:
        state: one prompt's state, real tokens only.
        massive_ratio: row norm against the median row norm.
        limit: at most so many rows and entries together.

    Returns:
        Rows by norm, then entries by magnitude; empty for a state that is zero or not finite.

    Example:
        The rows (5000, 0), (0, 1), (1, 0), (0, 2): the row at 0 (norm 5000) and the entry (0, 0).
    """
    return massive_of(StateView(state), massive_ratio, limit)


def norms_of(view: StateView, sink_position: int) -> Norms:
    sink = torch.tensor(sink_position if sink_position < view.tokens else -1)
    columns = norms_columns(view.norms, view.norms.new_tensor(view.median_norm), view.shape[0], sink=sink)
    row_position = int(columns.pop("row_position"))
    ratios = {name: float(column) for name, column in columns.items()}
    if view.undefined:
        return Norms(
            **ratios,
            row_position=None,
            peak_value=math.nan,
            peak_position=None,
            peak_dim=None,
            median_abs=math.nan,
            massive_entry_count=None,
        )
    position, dim, value = view.peak
    return Norms(
        **ratios,
        row_position=row_position,
        peak_value=value,
        peak_position=position,
        peak_dim=dim,
        median_abs=view.median_abs,
        massive_entry_count=len(view.massive_entries),
    )


def norms_columns(
    norms: Float[Tensor, "*batch token"],
    median_norm: Float[Tensor, "*batch"],
    tokens: Int[Tensor, "*batch"],
    *,
    sink: Int[Tensor, "*batch"],
) -> dict[str, Tensor]:
    """What `Norms` says of row norms, for many states.

    Args:
        norms: row norms, 0 at pads.
        median_norm: the median row's.
        tokens: T.
        sink: position of the sink's row; -1 where there is none.

    Returns:
        One value for each state, NaN for a state that is zero or not finite, whose `row_position` is -1.
    """
    largest, position = norms.max(-1)
    undefined = ~largest.isfinite() | (largest == 0)
    at = sink.clamp_min(0)[..., None]
    sinks = norms.gather(-1, at)[..., 0].masked_fill(undefined | (sink < 0), math.nan)
    others = norms.scatter(-1, at, 0.0).sum(-1)
    rest = torch.where(others > 0, others / (tokens - 1), math.nan) + 0 * sinks
    median = median_norm.masked_fill(undefined, math.nan)
    return {
        "sink_norm": sinks,
        "rest_norm": rest,
        "norm_ratio": sinks / rest,
        "row_ratio": torch.where(median == 0, math.inf, largest / median),
        "median_norm": median,
        "row_position": position.masked_fill(undefined, -1),
    }


def massive_of(view: StateView, massive_ratio: float, limit: int = LIMIT) -> list[MassiveActivation]:
    if view.undefined:
        return []
    return massive_among(view.massive_rows(massive_ratio), view.norms, view.massive_entries, limit)


def massive_among(
    positions: Sequence[int],
    norms: Float[Tensor, " token"],
    entries: Sequence[tuple[int, int, float]],
    limit: int = LIMIT,
) -> list[MassiveActivation]:
    """What `massive_activations` says, of massive rows by their positions and of massive entries."""
    rows = sorted(positions, key=lambda position: -float(norms[position]))
    for_rows = min(len(rows), max(limit // 2, limit - len(entries)))
    return [
        *(MassiveActivation("row", i, None, None, float(norms[i])) for i in rows[:for_rows]),
        *(MassiveActivation("entry", i, dim, value, float(norms[i])) for i, dim, value in entries[: limit - for_rows]),
    ]


def median_norms(norms: Float[Tensor, "*batch token"], tokens: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Median row norm of each of many states, NaN where one is not finite; 0 at pads."""
    pads = torch.arange(norms.shape[-1], device=norms.device) >= tokens[..., None]
    ordered = norms.masked_fill(pads, math.inf).sort(-1).values
    middle = torch.stack([(tokens - 1) // 2, tokens // 2], dim=-1)
    return ordered.gather(-1, middle).mean(-1)

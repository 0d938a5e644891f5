"""Which coordinates of the sink's row are massive, and how large the ordinary ones are.

Conventions: the reference state of a prompt is the one of largest norm_ratio (lowest index on ties); a coordinate is
massive for a prompt if it holds at least 1% of the squared norm of the sink's row there, and massive if it is for at
least half of the prompts. Undefined is NaN or empty. float64.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.metrics._attribution import SinkRow, reference_state
from thalweg.options import MASSIVE_RATIO
from thalweg.shapes import Float

HELD = 0.01
SHARE = 0.5


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
        reference, _ = reference_state(row.double(), ratios)
        if reference is not None and any(state.sink_ratio >= massive_ratio for state in states):
            known.append((row.double(), reference))
    if not known or len(known) < SHARE * len(rows):
        return SinkCoordinates((), math.nan, math.nan)
    held = torch.stack([row[at].square() / row[at].square().sum() >= HELD for row, at in known])
    massive = held.double().mean(0) >= SHARE
    largest = torch.stack([row.abs().amax(0) for row, _ in known]).amax(0)
    dims = tuple(int(dim) for dim in massive.nonzero().flatten())
    return SinkCoordinates(dims, _largest(largest[massive]), _largest(largest[~massive]))


def _largest(values: Tensor) -> float:
    return float(values.max()) if len(values) else math.nan

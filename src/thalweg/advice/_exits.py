"""From which state on an early exit costs little, and in which phase a state lies."""

import math
from collections.abc import Sequence

from thalweg.advice._answer import Exit


def cheap_exits(
    values: Sequence[float], costs: Sequence[float], span: tuple[int, int] | None, *, surveyed: bool, falls: bool
) -> tuple[Exit, ...]:
    """Give for each cost the first state from which, to the last one, no state costs more.

    Args:
        values: what each state reaches, 0..L; the last is finite.
        costs: in per cent of the last state's value.
        span: the compress phase.
        surveyed: whether phases are known.
        falls: less is better, as for a perplexity.

    Returns:
        One exit a cost; the last state where no earlier one will do. A value that is not finite never does.

    Example:
        Accuracies 0.2, 0.5, 0.4, 0.48, 0.5 at a cost of 5%: 0.475 is reached from state 3 on; state 1 reaches it, but
        state 2 after it does not.
    """
    last = len(values) - 1
    found = list[Exit]()
    for cost in costs:
        state = last
        while state and _cheap(values[state - 1], values[last], cost, falls=falls):
            state -= 1
        found.append(Exit(cost, state, values[state], phase_of(state, span, surveyed=surveyed)))
    return tuple(found)


def phase_of(state: int, span: tuple[int, int] | None, *, surveyed: bool) -> str | None:
    """Name the phase of a state; None where there is no survey, "no compress phase" where it found none."""
    if span is None:
        return "no compress phase" if surveyed else None
    return "mix" if state < span[0] else "compress" if state <= span[1] else "refine"


def _cheap(value: float, final: float, cost: float, *, falls: bool) -> bool:
    limit = final * (1 + cost / 100) if falls else final * (1 - cost / 100)
    return math.isfinite(value) and (value <= limit if falls else value >= limit)

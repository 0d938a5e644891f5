"""How many faults are tried: ``make faults`` tries all of them, ``make test`` a twentieth."""

import os
from collections.abc import Sequence
from typing import TypeVar

SHARE = float(os.environ.get("THALWEG_TEST_FAULTS", "0.05"))
Each = TypeVar("Each")


def times(count: int) -> int:
    """So many of ``count`` faults, at least one."""
    return max(1, round(SHARE * count))


def some(faults: Sequence[Each], count: int | None = None) -> list[Each]:
    """As many of the faults in order, spread evenly: all of them, or of ``count``, times the share."""
    wanted = min(len(faults), times(len(faults) if count is None else count))
    return [faults[(2 * place + 1) * len(faults) // (2 * wanted)] for place in range(wanted)]

"""Everything a change of the model does, place by place and over the compress phase, in one table.

Conventions: those of `_effects.py`; a and b are the first and last massive state of the model as it is. No torch.
"""

from collections.abc import Sequence

import polars as pl

from thalweg.averages._boundaries import KEYS, boundaries
from thalweg.averages._effects import effects, measurements
from thalweg.averages._verdicts import compress_means, depth_means


def changes(
    states: pl.LazyFrame,
    blocks: pl.LazyFrame,
    losses: pl.LazyFrame,
    intact: pl.Expr,
    *,
    by: Sequence[str],
    massive_ratio: float = 10.0,
    changed: str = "ablated",
) -> pl.DataFrame:
    """The effect of every condition at every state and block, over the compress phase, over the depth, and on the loss.

    Args:
        states: rows by condition, prompt and state.
        blocks: rows by condition, prompt and block.
        losses: rows by condition and prompt.
        intact: picks the rows of the model as it is, in each of the three.
        by: the columns that name a condition.
        massive_ratio: the row ratio from which a row is massive.
        changed: what the model under a condition is called.

    Returns:
        As `effects`, with the sites "compress" and "depth" beside "state", "block" and "prompt", and `compress_first`
        and `compress_last`, null without a compress phase.

    Example:
        A model of 8 blocks, one prompt, two conditions: 142 rows by place, 8 of the compress phase, 6 of the depth.
    """
    ends = boundaries(states.filter(intact), massive_ratio=massive_ratio)
    measured = [
        measurements(states, blocks, losses, by=by),
        compress_means(states, blocks, ends, by=by),
        depth_means(states, blocks, by=by),
    ]
    table = effects(pl.concat(measured), intact, by=by, changed=changed)
    return table.join(ends.select(*KEYS, "compress_first", "compress_last"), on=KEYS, how="left", nulls_equal=True)

"""Did a change of the model remove compression and sinks, or did they stay?

Conventions: C and S as in `_effects.py`. *Removed*: the upper 95% bound of the mean after the change is at most a tenth
of the mean before; *reduced*, *increased*: the 95% interval of the paired difference excludes 0 on that side; else
*unchanged*. A difference whose interval lies within 1% of the mean before is unchanged however certain it is: prompt by
prompt, a shift in the sixth digit can be told from none. Undefined is null with a reason. No torch.
"""

import math
from typing import Any

import polars as pl

from thalweg.averages._effects import compress_means, effects
from thalweg.averages._profile import long
from thalweg.averages._segments import KEYS, SHARE, boundaries
from thalweg.options import MASSIVE_RATIO
from thalweg.ranges import ranges

REMOVED, NEGLIGIBLE = 0.1, 0.01
PHENOMENA = ("compression", "sinks")


def verdict(*, intact: float, ablated_high: float, low: float, high: float) -> str | None:
    """The verdict on one phenomenon.

    Args:
        intact: its mean before the change, above 0.
        ablated_high: upper 95% bound of its mean after the change.
        low: lower 95% bound of the paired difference, after - before.
        high: upper bound of it.

    Returns:
        "removed", "reduced", "increased" or "unchanged"; None where a number is NaN or there was nothing to remove.

    Example:
        Compression 0.7 falls to at most 0.07: removed. It falls by 0.1 to 0.2: reduced; by 0.001 to 0.002: unchanged.
    """
    if not intact > 0 or any(math.isnan(bound) for bound in (ablated_high, low, high)):
        return None
    if ablated_high <= REMOVED * intact:
        return "removed"
    if max(-low, high) <= NEGLIGIBLE * intact:
        return "unchanged"
    if high < 0:
        return "reduced"
    return "increased" if low > 0 else "unchanged"


def verdicts(
    states: pl.LazyFrame,
    blocks: pl.LazyFrame,
    losses: pl.LazyFrame,
    *,
    massive_ratio: float = MASSIVE_RATIO,
    sink_position: int = 0,
) -> pl.DataFrame:
    """The verdict on compression and on sinks under every condition, with what it cost and why compression stayed.

    Args:
        states: rows by condition, seed, prompt and state; the condition "intact" is the model as it is.
        blocks: rows by condition, seed, prompt and block.
        losses: rows by condition, seed and prompt.
        massive_ratio: the row ratio from which a row is massive.
        sink_position: which row is the sink.

    Returns:
        Two rows for each (model, revision, data, condition, seed), `phenomenon` "compression" and "sinks": `verdict`,
        `intact` and `ablated` (C or S) with `ablated_low` and `ablated_high`, `difference`, `low`, `high`, `n`;
        `loss_intact`, `loss_ablated`, `loss_change`, `loss_low`, `loss_high` (nats); `massive_states`,
        `massive_position` and `massive_position_share` (states that are massive for at least half of the prompts under
        this condition, the position of the largest row most often, in which share of them), `replacement` (why
        compression stayed); `compress_first`, `compress_last`; `reason`.

    Example:
        Two prompts whose C falls from 0.7 and 0.72 to 0.001 and 0.002: removed.
    """
    by = ["condition", "seed"]
    intact = pl.col("condition") == "intact"
    ends = boundaries(states.filter(intact), massive_ratio=massive_ratio)
    cost = effects(long(losses, [*KEYS, "prompt", *by], ["loss"], site="prompt"), intact, by=by).select(
        *KEYS, *by, **_LOSSES
    )
    table = effects(compress_means(states, blocks, ends, by=by), intact, by=by)
    rows = cost.filter(~intact).join(pl.DataFrame({"phenomenon": PHENOMENA}), how="cross")
    on = [*KEYS, *by]
    rows = rows.join(table, left_on=[*on, "phenomenon"], right_on=[*on, "metric"], how="left", nulls_equal=True)
    rows = rows.join(ends.select(*KEYS, *_PHASE), on=KEYS, how="left", nulls_equal=True)
    rows = rows.join(_massive(states.filter(~intact), massive_ratio, by), on=on, how="left", nulls_equal=True)
    judged = [{**row, **_judged(row, sink_position)} for row in rows.sort(*on, "phenomenon").iter_rows(named=True)]
    types: dict[str, Any] = {**rows.schema, **dict.fromkeys(("verdict", "reason", "replacement"), pl.String)}
    return pl.DataFrame(judged, schema=types).select(*KEYS, *by, *_COLUMNS)


def _massive(states: pl.LazyFrame, massive_ratio: float, by: list[str]) -> pl.DataFrame:
    """Where the massive rows of every condition are."""
    keys = [*KEYS, *by]
    ratio = pl.col("row_ratio").fill_nan(None)
    marked = states.select(*keys, "prompt", "state", "row_position", massive=ratio >= massive_ratio)
    shared = marked.group_by([*keys, "state"]).agg(often=(pl.col("massive").mean() >= SHARE).fill_null(value=False))
    rows = marked.join(shared.filter("often"), on=[*keys, "state"], nulls_equal=True).filter("massive")
    counted = (
        rows.group_by([*keys, "row_position"])
        .agg(count=pl.len())
        .sort("count", "row_position", descending=[True, False])
    )
    places = counted.group_by(keys, maintain_order=True).agg(
        massive_position=pl.col("row_position").first(),
        massive_position_share=pl.col("count").first() / pl.col("count").sum(),
    )
    at = rows.group_by(keys).agg(massive_states=pl.col("state").cast(pl.Int64).unique().sort())
    return places.join(at, on=keys, nulls_equal=True).collect()


def _judged(row: dict[str, Any], sink_position: int) -> dict[str, Any]:
    reason = _reason(row)
    numbers = ("ablated_high", "low", "high")
    judged = None if reason else verdict(intact=row["intact"], **{name: row[name] for name in numbers})
    stayed = row["phenomenon"] == "compression" and judged not in (None, "removed")
    return {
        "verdict": judged,
        "reason": reason,
        "massive_states": row["massive_states"] or [],
        "replacement": _replacement(row, sink_position) if stayed else None,
    }


def _reason(row: dict[str, Any]) -> str | None:
    """Why there is no verdict; None where there is one."""
    first, what = row["compress_first"], row["phenomenon"]
    if first is None:
        return "no massive state: no compress phase"
    if first == 0 and what == "compression":
        return "no mix phase to compare with: the first state is massive"
    if not row["n"]:
        return "no block of the compress phase has a sink rate" if what == "sinks" else "no prompt has an entropy there"
    if not row["intact"] > 0:
        return f"no {what} to remove: {row['intact']:.2g} in the model as it is"
    return "one prompt: no interval" if row["n"] == 1 else None


def _replacement(row: dict[str, Any], sink_position: int) -> str | None:
    states, position = row["massive_states"], row["massive_position"]
    if not states:
        return None
    where = f"at state{'s' * (len(states) > 1)} {ranges(states)}"
    if position == sink_position:
        return f"position {position} is still massive {where}"
    if row["massive_position_share"] >= SHARE:
        return f"position {position} is massive in its place {where}"
    return f"other positions are massive in its place {where}, {position} most often"


_NUMBERS = ("intact", "ablated", "ablated_low", "ablated_high", "difference", "low", "high")
_LOSSES = {
    "loss_intact": "intact",
    "loss_ablated": "ablated",
    "loss_change": "difference",
    "loss_low": "low",
    "loss_high": "high",
}
_MASSIVE = ("massive_states", "massive_position", "massive_position_share", "replacement")
_PHASE = ("compress_first", "compress_last")
_COLUMNS = ("phenomenon", "verdict", *_NUMBERS, "n", *_LOSSES, *_MASSIVE, *_PHASE, "reason")

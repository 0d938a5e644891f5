"""A few numbers a tracker can draw, from the profile of one step."""

import math
from collections.abc import Sequence

import polars as pl

SHOWN = 24
"""Curves of one metric at most; the run directory has every state and block."""
METRICS = (
    ("state", "entropy_normalized", min, "min"),
    ("state", "norm_ratio", max, "max"),
    ("block", "sink_rate", max, "max"),
)


def scalars(profile: pl.DataFrame, layers: pl.DataFrame) -> dict[str, float]:
    """Entropy and norm ratio by state, sink rate by block, the largest or least of each, the peak, the bound's slack.

    Args:
        profile: the profile's rows of one step.
        layers: the rows by prompt and state of the same step.

    Returns:
        ``entropy_normalized/state_03``, ``norm_ratio/max``, ``sink_rate/block_02``, ``peak_value/max`` (largest
        magnitude, with its sign), ``entropy_bound/slack`` (nats, least over states and prompts), ...; the extremes are
        over blocks, and over states that a block wrote. Of a deep model, evenly spaced states and blocks. What is
        undefined is left out.
    """
    means = {
        (site, metric, index): mean
        for site, metric, index, mean in profile.select("site", "metric", "index", "mean").iter_rows()
        if mean is not None and math.isfinite(mean)
    }
    found = dict[str, float]()
    for site, metric, choose, word in METRICS:
        shown = _spaced(sorted({index for place, _, index in means if place == site}))
        own = {index: mean for (place, name, index), mean in means.items() if (place, name) == (site, metric)}
        found |= {f"{metric}/{site}_{index:02d}": own[index] for index in shown if index in own}
        written = [mean for index, mean in own.items() if index > 0 or site == "block"]
        if written:
            found[f"{metric}/{word}"] = choose(written)
    peaks = layers["peak_value"].drop_nans().drop_nulls()
    if len(peaks):
        found["peak_value/max"] = float(max(peaks, key=abs))
    slack = (layers["entropy_bound_massive"] - layers["entropy"]).drop_nans().drop_nulls()
    if len(slack):
        found["entropy_bound/slack"] = float(min(slack))
    return found


def _spaced(indices: Sequence[int]) -> list[int]:
    """All of them, or ``SHOWN`` from the first to the last."""
    if len(indices) <= SHOWN:
        return list(indices)
    return [indices[round(at * (len(indices) - 1) / (SHOWN - 1))] for at in range(SHOWN)]

"""A few numbers a tracker can draw, from the profile of one step."""

import math

import polars as pl

__all__ = ["BY_BLOCK", "BY_STATE", "scalars"]

BY_STATE = ("entropy_normalized", "norm_ratio")
BY_BLOCK = ("sink_rate",)


def scalars(profile: pl.DataFrame, layers: pl.DataFrame) -> dict[str, float]:
    """Entropy and norm ratio by state, sink rate by block, the largest or least of each, the peak, the bound's slack.

    Args:
        profile: the profile's rows of one step.
        layers: the rows by prompt and state of the same step.

    Returns:
        ``entropy_normalized/state_3``, ``norm_ratio/max``, ``sink_rate/block_2``, ``peak_value/max`` (largest
        magnitude, with its sign), ``entropy_bound/slack`` (nats, least over states and prompts), ...; what is undefined
        is left out.
    """
    means = {
        (site, metric, index): mean
        for site, metric, index, mean in profile.select("site", "metric", "index", "mean").iter_rows()
        if math.isfinite(mean)
    }
    found = dict[str, float]()
    for site, names, best in (("state", BY_STATE, max), ("block", BY_BLOCK, max)):
        for name in names:
            own = {index: mean for (place, metric, index), mean in means.items() if (place, metric) == (site, name)}
            found |= {f"{name}/{site}_{index:02d}": mean for index, mean in sorted(own.items())}
            later = [mean for index, mean in own.items() if index > 0 or site == "block"]
            if later:
                choose, word = (min, "min") if name == "entropy_normalized" else (best, "max")
                found[f"{name}/{word}"] = choose(later)
    peaks = layers["peak_value"].drop_nans().drop_nulls()
    if len(peaks):
        found["peak_value/max"] = float(max(peaks, key=abs))
    slack = (layers["entropy_bound_massive"] - layers["entropy"]).drop_nans().drop_nulls()
    if len(slack):
        found["entropy_bound/slack"] = float(slack.min())  # pyright: ignore[reportArgumentType]
    return found

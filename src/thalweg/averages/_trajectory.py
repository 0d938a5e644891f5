"""One metric's averages by depth, read out of a profile.

Conventions: means that are not finite are left out, so an index that is missing is a gap. No torch.
"""

from typing import Literal

import polars as pl


def trajectory(profile: pl.DataFrame, site: Literal["state", "block"], metric: str, /) -> dict[int, float]:
    """Means of one metric by index, ascending.

    Args:
        profile: rows of one model.
        site: where the metric is measured.
        metric: its name.

    Returns:
        Finite means by state or block; empty where the profile has none.

    Example:
        A profile with entropies 2 and NaN at states 0 and 1: {0: 2.0}.
    """
    rows = profile.filter((pl.col("site") == site) & (pl.col("metric") == metric) & pl.col("mean").is_finite())
    return dict(rows.sort("index").select("index", "mean").iter_rows())

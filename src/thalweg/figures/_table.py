"""The depth profile as a table: what a person sees at the end of a survey."""

from typing import Any

import polars as pl

from thalweg.store import Run

DEPTH_COLUMNS = {
    "depth": None,
    "normalized entropy": ("state", "entropy_normalized"),
    "sink norm": ("state", "sink_norm"),
    "rest norm": ("state", "rest_norm"),
    "norm ratio": ("state", "norm_ratio"),
    "row ratio": ("state", "row_ratio"),
    "sink rate": ("block", "sink_rate"),
    "normalized mixing": ("block", "mixing_normalized"),
    "phase": None,
}


def depth_table(run: Run) -> list[tuple[str, list[list[Any]]]]:
    """Means over prompts by depth, one table for each model and data set.

    Args:
        run: a finished run.

    Returns:
        Title and rows; columns as in ``DEPTH_COLUMNS``. Row l holds state l and block l, which reads it; the last
        state is read by no block.
    """
    profile = run.profile.collect()
    tables = []
    for (model, data), part in profile.group_by("model", "data", maintain_order=True):
        values = {(row["site"], row["metric"], row["index"]): row["mean"] for row in part.iter_rows(named=True)}
        phases = dict(part.filter(pl.col("site") == "state").select("index", "phase").iter_rows())
        rows = [
            [depth, *(values.get((*key, depth)) for key in DEPTH_COLUMNS.values() if key), phases[depth]]
            for depth in sorted(phases)
        ]
        tables.append((f"{model} on {data}", rows))
    return tables

"""Values of heads as a map."""

import numpy as np
import polars as pl


def head_grid(values: pl.DataFrame, column: str, blocks: int) -> np.ndarray:
    """Give a value of every head as a grid, heads up and blocks across; what has no value is NaN.

    Args:
        values: one row a head: ``block head`` and the column.
        column: what is shown.
        blocks: of the model, whether or not there are heads in them.
    """
    heads = int(values["head"].max() or 0) + 1  # pyright: ignore[reportArgumentType]
    grid = np.full((heads, max(blocks, 1)), np.nan)
    grid[values["head"].to_numpy(), values["block"].to_numpy()] = values[column].to_numpy()
    return grid

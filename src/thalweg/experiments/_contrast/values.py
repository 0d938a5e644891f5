"""A run's heads as matrices: prompts down, heads across."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from thalweg.shapes import Float, Int
from thalweg.store import Run


@dataclass(frozen=True)
class HeadValues:
    """Metrics of every head for every prompt.

    Attributes:
        values: by metric; NaN where the run has no number.
        blocks: of every column.
        heads: of every column.
    """

    values: Mapping[str, Float[np.ndarray, "prompt head"]]
    blocks: Int[np.ndarray, " head"]
    heads: Int[np.ndarray, " head"]


def head_values(run: Run, key: Mapping[str, str], prompts: pl.Series, metrics: Sequence[str]) -> HeadValues:
    """Read some prompts of one model on one data set.

    Args:
        run: the run; its ``heads`` are enough.
        key: model, revision and data.
        prompts: which rows of the data, ascending.
        metrics: which columns.

    Raises:
        RunError: a file of the table is damaged.
    """
    rows = run.heads.filter(**key).select("prompt", "block", "head", *(pl.col(one).cast(pl.Float32) for one in metrics))
    table = rows.filter(pl.col("prompt").is_in(prompts.implode())).collect()
    places = table.select("block", "head").unique().sort("block", "head")
    blocks, heads = (places[name].to_numpy() for name in ("block", "head"))
    across = int(heads.max()) + 1 if len(heads) else 1
    column = np.zeros(int(blocks.max() + 1) * across if len(blocks) else 0, dtype=np.int64)
    column[blocks.astype(np.int64) * across + heads] = np.arange(len(blocks))
    at = column[table["block"].to_numpy().astype(np.int64) * across + table["head"].to_numpy()]
    row = np.searchsorted(prompts.to_numpy(), table["prompt"].to_numpy())
    values = dict[str, np.ndarray]()
    for metric in metrics:
        values[metric] = np.full((len(prompts), len(blocks)), np.nan, dtype=np.float32)
        values[metric][row, at] = table[metric].to_numpy()
    return HeadValues(values, blocks, heads)

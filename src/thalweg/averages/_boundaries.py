"""At which states is a model massive, for how many prompts.

Conventions: a state is massive for a prompt if `row_ratio` >= massive_ratio, and massive for the model if it is for at
least half of the prompts that have a row ratio. a is the first such state, b the last. No torch.
"""

from collections.abc import Mapping

import polars as pl

KEYS = ["model", "revision", "data"]
SHARE = 0.5


def boundaries(
    layers: pl.LazyFrame | pl.DataFrame, *, massive_ratio: float = 10.0, ratio: str = "row_ratio"
) -> pl.DataFrame:
    """First and last massive state of each model, and how far its prompts agree.

    Args:
        layers: rows by prompt and state, with ``ratio``.
        massive_ratio: the ratio from which a state is massive.
        ratio: the column that is compared with it: "row_ratio" of the largest row, or "sink_ratio" of the sink's.

    Returns:
        One row for each (model, revision, data): `states` (L, the last state), `prompts`, `compress_first` (a) and
        `compress_last` (b), null without massive states, `dips` (states between that are not massive), `agreement`
        (share of prompts whose own first massive state is a; null without a).

    Example:
        Two prompts, massive at states 1..3 and 2..3: every one of 1, 2, 3 is massive for half, a = 1, b = 3, agreement
        0.5.
    """
    massive = _massive(layers.lazy(), massive_ratio, ratio)
    by_state = massive.group_by([*KEYS, "state"]).agg((pl.col("massive").mean() >= SHARE).fill_null(value=False))
    hits = pl.col("state").filter(pl.col("massive"))
    between = (pl.col("state") > hits.min()) & (pl.col("state") < hits.max())
    ends = by_state.group_by(KEYS).agg(
        states=pl.col("state").max(),
        compress_first=hits.min(),
        compress_last=hits.max(),
        dips=pl.col("state").filter(~pl.col("massive") & between).sort(),
    )
    counts = massive.group_by(KEYS).agg(prompts=pl.col("prompt").n_unique().cast(pl.Int64))
    agreement = _agreement(massive, ends)
    ends = ends.join(counts, on=KEYS, nulls_equal=True).join(agreement, on=KEYS, how="left", nulls_equal=True)
    return ends.sort(KEYS).collect()


def is_of(key: Mapping[str, object], /) -> list[pl.Expr]:
    """What picks the rows of one model on one data set, for ``filter(*...)``.

    Args:
        key: model, revision and data, among others; a null is a value like any other.

    Example:
        ``profile.filter(*is_of(row))``: of a profile the rows that the row of `boundaries` is about.
    """
    return [pl.col(name).eq_missing(pl.lit(key[name])) for name in KEYS]


def _massive(layers: pl.LazyFrame, massive_ratio: float, ratio: str) -> pl.LazyFrame:
    """Whether each state is massive for each prompt; null where its ratio is undefined."""
    known = pl.col(ratio).cast(pl.Float64).fill_nan(None)
    return layers.select(*KEYS, "prompt", pl.col("state").cast(pl.Int64), massive=known >= massive_ratio)


def _agreement(massive: pl.LazyFrame, ends: pl.LazyFrame) -> pl.LazyFrame:
    firsts = (
        massive.filter(pl.col("massive").is_not_null())
        .group_by([*KEYS, "prompt"])
        .agg(first=pl.col("state").filter(pl.col("massive")).min())
    )
    same = pl.col("first").eq_missing(pl.col("compress_first"))
    return (
        firsts.join(ends.select(*KEYS, "compress_first"), on=KEYS, nulls_equal=True)
        .filter(pl.col("compress_first").is_not_null())
        .group_by(KEYS)
        .agg(agreement=same.mean())
    )

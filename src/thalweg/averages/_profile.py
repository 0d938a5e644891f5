"""What does a model do at each depth: every metric averaged over prompts.

Conventions: a prompt is one observation. Head metrics are averaged over the heads of a block first, rates are formed
per prompt first; then prompts are averaged (`_intervals.py`), values that are not finite left out, `n` given. Prompts
on which a uniform head would pass as a sink (`sink_uniform` >= tau, below 10 tokens at 0.3) have no sink rate and no
ColSum rate. Frames may be lazy; no torch, no loop over prompts.
"""

import math

import polars as pl

from thalweg.averages._boundaries import KEYS, boundaries
from thalweg.averages._intervals import STATISTICS, gathered, with_statistics
from thalweg.averages._long import long
from thalweg.catalogue import Site, metrics_at

RATES = {"sink_rate": "sink_score", "colsum_rate": "colsum_concentration"}


def profile(
    layers: pl.LazyFrame | pl.DataFrame,
    heads: pl.LazyFrame | pl.DataFrame,
    prompts: pl.LazyFrame | pl.DataFrame,
    *,
    tau: float = 0.3,
    massive_ratio: float = 10.0,
) -> pl.DataFrame:
    """Averages over prompts by state and by block, one row for each metric.

    Args:
        layers: rows by prompt and state, with the columns of `measure_state` or some of them.
        heads: rows by prompt, block and head; may have no rows, as for models without attention.
        prompts: rows by prompt, with `sink_uniform`.
        tau: threshold of the rates.
        massive_ratio: `row_ratio` from which a state is massive, for the column `phase`.

    Returns:
        Columns model, revision, data, site ("state" | "block"), index, phase ("mix" | "compress" | "refine" | null),
        metric, mean, std, low, high, n, geometric; sorted. Block l belongs to the phase of the state it reads, l.

    Example:
        Three prompts whose entropies at state 1 are 1, 2 and NaN: mean 1.5, std 0.7071, interval 1.5 +- 6.353, n 2.
    """
    numbers = pl.concat([_of_states(layers.lazy()), _of_blocks(heads.lazy(), prompts.lazy(), tau)])
    geometric = [row.name for row in metrics_at("state") if row.kind == "geometric"]
    groups = [*KEYS, "site", "index", "metric", "geometric"]
    table = (
        numbers.with_columns(pl.col("metric").is_in(geometric).alias("geometric"))
        .group_by(groups)
        .agg(gathered("value", "geometric"))
        .sort(groups)
        .collect()
    )
    table = with_statistics(table, "geometric")
    return _with_phase(table, boundaries(layers, massive_ratio=massive_ratio)).select(
        *KEYS, "site", "index", "phase", "metric", *STATISTICS, "geometric"
    )


def short_prompts(prompts: pl.LazyFrame | pl.DataFrame, *, tau: float = 0.3) -> int:
    """Number of prompts that are left out of sink_rate and colsum_rate because a uniform head would pass.

    Args:
        prompts: rows by prompt, with `sink_uniform`.
        tau: threshold of the rates.

    Returns:
        A count.

    Example:
        At tau 0.3, prompts of 9 and of 10 tokens: 1.
    """
    return prompts.lazy().filter(pl.col("sink_uniform") >= tau).select(pl.len()).collect().item()


def _present(frame: pl.LazyFrame, site: Site) -> list[str]:
    """The averaged metrics of a site that the frame has."""
    columns = set(frame.collect_schema().names())
    averaged = [row.name for row in metrics_at(site) if row.kind in ("mean", "geometric")]
    return [name for name in averaged if name in columns]


def _of_states(layers: pl.LazyFrame) -> pl.LazyFrame:
    return long(layers, [*KEYS, "prompt"], _present(layers, "state"), site="state", index="state")


def _of_blocks(heads: pl.LazyFrame, prompts: pl.LazyFrame, tau: float) -> pl.LazyFrame:
    keys = [*KEYS, "prompt"]
    blocks = _per_block(heads, prompts, tau, _present(heads, "head"))
    metrics = [name for name in blocks.collect_schema().names() if name not in (*keys, "block")]
    return long(blocks, keys, metrics, site="block", index="block")


def _per_block(heads: pl.LazyFrame, prompts: pl.LazyFrame, tau: float, names: list[str]) -> pl.LazyFrame:
    """One row for each prompt and block: means over heads, and the three rates."""
    # As precise as the scores are: the last bits of a sum in double precision depend on the order of rows.
    means = [_finite(name).mean().cast(pl.Float32).alias(name) for name in names]
    # Scores are float32 on disk: compared with tau in float32, a score of exactly tau counts.
    threshold = pl.lit(tau, dtype=pl.Float32)
    rates = [
        (_finite(source).cast(pl.Float32) >= threshold).mean().alias(rate)
        for rate, source in RATES.items()
        if source in names
    ]
    kept = [pl.col(rate) for rate, source in RATES.items() if source in names]
    columns = heads.collect_schema().names()
    dormant = [pl.col("dormant").mean().alias("dormant_rate")] if "dormant" in columns else []
    keys = [*KEYS, "prompt"]
    short = pl.col("sink_uniform").fill_nan(None) >= tau
    return (
        heads.group_by([*keys, "block"])
        .agg(means + rates + dormant)
        .join(prompts.select(*keys, "sink_uniform"), on=keys, how="left", nulls_equal=True)
        .with_columns(pl.when(short).then(math.nan).otherwise(rate).name.keep() for rate in kept)
        .drop("sink_uniform")
    )


def _finite(name: str) -> pl.Expr:
    value = pl.col(name).cast(pl.Float64)
    return value.filter(value.is_finite())


def _with_phase(table: pl.DataFrame, ends: pl.DataFrame) -> pl.DataFrame:
    first, last, index = pl.col("compress_first"), pl.col("compress_last"), pl.col("index")
    phase = pl.when(index < first).then(pl.lit("mix")).when(index <= last).then(pl.lit("compress"))
    # Without a compress phase both ends are null, every comparison is null, and so is the phase.
    phase = phase.when(index > last).then(pl.lit("refine")).otherwise(None)
    joined = table.join(
        ends.select(*KEYS, "compress_first", "compress_last"),
        on=KEYS,
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )
    return joined.with_columns(phase.alias("phase"))

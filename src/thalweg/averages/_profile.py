"""What do many prompts say together: mean, spread and 95% interval, and with them every metric at each depth.

Conventions: a prompt is one observation; values that are not finite are left out and `n` counts the rest. Standard
deviation with ddof 1; the interval is mean +- t(n - 1) std / sqrt(n) at 97.5%. Geometric rows are averaged as
logarithms: `mean`, `low`, `high` are exponentials, `std` stays that of the logarithms. Without two values `std`, `low`
and `high` are NaN, without one the mean is NaN too. Head metrics are averaged over the heads of a block first, rates
are formed per prompt first; then prompts are averaged. Prompts on which a uniform head would pass as a sink
(`sink_uniform` >= tau, below 10 tokens at 0.3) have no sink rate and no ColSum rate. Frames may be lazy; no torch, no
loop over prompts.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import polars as pl
from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs]

from thalweg.averages._courses import KEYS, courses
from thalweg.catalogue import Site, metrics_at
from thalweg.options import MASSIVE_RATIO, TAU

STATISTICS = ("mean", "std", "low", "high", "n")
LOGGED = ("mean", "low", "high")
VALUES = "values"
GROUPS = (*KEYS, "site", "index", "metric", "geometric")
AT_ONCE = 2**17
"""Numbers that are averaged together; changes none."""
ROWS_AT_ONCE = 2**15
"""Rows of heads; changes none either, since those of a prompt stay together."""
RATES = {"sink_rate": "sink_score", "colsum_rate": "colsum_concentration"}
GEOMETRIC = [row.name for row in metrics_at("state") if row.kind == "geometric"]


def gathered(value: str, *, geometric: bool = False) -> pl.Expr:
    """All finite values of a group as a list `values`; for ``group_by(...).agg``.

    Args:
        value: name of the column of values.
        geometric: their logarithms.

    Example:
        Of 1, NaN and 3: the list 1, 3.
    """
    number = pl.col(value).cast(pl.Float64)
    number = number.log() if geometric else number
    return number.filter(number.is_finite()).alias(VALUES)


def with_statistics(frame: pl.DataFrame, geometric: str | None = None) -> pl.DataFrame:
    """Replace the lists that `gathered` makes by their `statistics`.

    Args:
        frame: with the column `values`.
        geometric: as for `gathered`.

    Example:
        The list 1, 3: mean 2, std 1.4142, interval 2 +- 12.706, n 2.
    """
    averages = statistics(frame[VALUES], None if geometric is None else frame[geometric])
    return pl.concat([frame.drop(VALUES), averages], how="horizontal")


def statistics(lists: pl.Series, geometric: pl.Series | None = None) -> pl.DataFrame:
    """`mean`, `std`, `low`, `high` and `n` of every list, NaN for what is undefined.

    Sums are exact before they are rounded, so they do not depend on the order of rows: two runs over the same prompts
    compare bit by bit.

    Args:
        lists: of finite values, of logarithms where ``geometric`` is true.
        geometric: of as many booleans; None for no list.

    Example:
        The list 1, 3: mean 2, std 1.4142, interval 2 +- 12.706, n 2.
    """
    moments = [_moments(values.to_numpy()) for values in lists]
    mean, std, count = (np.array(column) for column in zip(*moments, strict=True)) if moments else (np.empty(0),) * 3
    half = std * t_quantile(count) / np.sqrt(np.maximum(count, 1))
    table = pl.DataFrame(
        {"mean": mean, "std": std, "low": mean - half, "high": mean + half, "n": count},
        schema={**dict.fromkeys(STATISTICS, pl.Float64), "n": pl.Int64},
    )
    if geometric is None:
        return table
    powers = [pl.when(geometric).then(pl.col(name).exp()).otherwise(pl.col(name)).alias(name) for name in LOGGED]
    return table.with_columns(powers)


def t_quantile(counts: int | np.ndarray, /) -> np.ndarray:
    """Student's t at 97.5% with one degree of freedom less than there are values; NaN below two.

    Args:
        counts: numbers of values.

    Example:
        Two values: 12.706.
    """
    return np.asarray(stdtrit(np.asarray(counts) - 1, 0.975))


def _moments(values: np.ndarray) -> tuple[float, float, int]:
    count = len(values)
    mean = math.fsum(values) / count if count else math.nan
    spread = math.sqrt(math.fsum((values - mean) ** 2) / (count - 1)) if count > 1 else math.nan
    return mean, spread, count


def long(
    frame: pl.LazyFrame, keys: Sequence[str], metrics: Sequence[str], *, site: str, index: str | None = None
) -> pl.LazyFrame:
    """One row for each row and metric: ``keys``, site, index, metric, value (NaN where nothing was measured).

    The index is the column of this name; null where there is one row a key.
    """
    at = (pl.lit(None, pl.Int64) if index is None else pl.col(index).cast(pl.Int64)).alias("index")
    numbers = [pl.col(name).cast(pl.Float64).fill_null(math.nan) for name in metrics]
    return (
        frame.select(*keys, at, *numbers)
        .unpivot(index=[*keys, "index"], on=metrics, variable_name="metric", value_name="value")
        .select(*keys, pl.lit(site).alias("site"), "index", "metric", "value")
    )


def profile(
    layers: pl.LazyFrame | pl.DataFrame,
    heads: pl.LazyFrame | pl.DataFrame,
    prompts: pl.LazyFrame | pl.DataFrame,
    *,
    tau: float = TAU,
    massive_ratio: float = MASSIVE_RATIO,
) -> pl.DataFrame:
    """Averages over prompts by state and by block, one row for each metric.

    Args:
        layers: rows by prompt and state, with the columns of `measure_state` or some of them.
        heads: rows by prompt, block and head; may have no rows, as for models without attention.
        prompts: rows by prompt, with `sink_uniform`.
        tau: threshold of the rates.
        massive_ratio: `row_ratio` from which a state is massive, for the column `phase`.

    Returns:
        Columns model, revision, data, site ("state" | "block"), index, phase ("mix" | "compress" | "refine" | "wave" |
        null), metric, mean, std, low, high, n, geometric; sorted. Block l belongs to the phase of state l.

    Example:
        Three prompts whose entropies at state 1 are 1, 2 and NaN: mean 1.5, std 0.7071, interval 1.5 +- 6.353, n 2.
    """
    of_blocks, in_blocks = block_values(heads.lazy(), prompts.lazy(), tau)
    averaged = [
        *_averaged(layers.lazy(), _present(layers.lazy(), "state"), site="state"),
        *_averaged(of_blocks.lazy(), in_blocks, site="block"),
    ]
    table = pl.concat(averaged).sort(GROUPS)
    return _with_phase(table, layers, massive_ratio).select(
        *KEYS, "site", "index", "phase", "metric", *STATISTICS, "geometric"
    )


def short_prompts(prompts: pl.LazyFrame | pl.DataFrame, *, tau: float = TAU) -> int:
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


def _averaged(frame: pl.LazyFrame, names: Sequence[str], *, site: Literal["state", "block"]) -> Iterator[pl.DataFrame]:
    """Statistics of some columns at a time, of as many as do not take much memory as rows of their own."""
    size = max(1, AT_ONCE // max(1, frame.select(pl.len()).collect().item()))
    for start in range(0, len(names), size):
        lists = {name: gathered(name, geometric=name in GEOMETRIC) for name in names[start : start + size]}
        places = frame.group_by(*KEYS, index=pl.col(site).cast(pl.Int64)).agg(**lists).collect()
        rows = places.unpivot(list(lists), index=[*KEYS, "index"], variable_name="metric", value_name=VALUES)
        rows = rows.with_columns(site=pl.lit(site), geometric=pl.col("metric").is_in(GEOMETRIC))
        yield with_statistics(rows, "geometric").select(*GROUPS, *STATISTICS)


def block_values(heads: pl.LazyFrame, prompts: pl.LazyFrame, tau: float) -> tuple[pl.DataFrame, list[str]]:
    """By prompt and block, means over the heads and the rates, and the names of these columns."""
    keys, names = [*KEYS, "prompt"], _present(heads, "head")
    # As precise as the scores are: the last bits of a sum in double precision depend on the order of rows.
    means = [_finite(name).mean().cast(pl.Float32).alias(name) for name in names]
    # Scores are float32 on disk: compared with tau in float32, a score of exactly tau counts.
    threshold = pl.lit(tau, dtype=pl.Float32)
    sources = {rate: source for rate, source in RATES.items() if source in names}
    rates = [(_finite(source).cast(pl.Float32) >= threshold).mean().alias(rate) for rate, source in sources.items()]
    dormant = ["dormant_rate"] if "dormant" in heads.collect_schema().names() else []
    shares = [pl.col("dormant").mean().alias(rate) for rate in dormant]
    short = pl.col("sink_uniform").fill_nan(None) >= tau
    blocks = (
        by_prompts(heads, lambda some: some.group_by([*keys, "block"]).agg(means + rates + shares))
        .lazy()
        .join(prompts.select(*keys, "sink_uniform"), on=keys, how="left", nulls_equal=True)
        .with_columns(pl.when(short).then(math.nan).otherwise(rate).alias(rate) for rate in sources)
    )
    return blocks.collect(), [*names, *sources, *dormant]


def by_prompts(rows: pl.LazyFrame, averaged: Callable[[pl.LazyFrame], pl.LazyFrame]) -> pl.DataFrame:
    """Average what has many rows a prompt, of some prompts at a time: all rows at once are what takes the memory."""
    counts = rows.group_by("prompt").len().sort("prompt").collect(engine="streaming")
    place = (counts["len"].cum_sum() - 1) // ROWS_AT_ONCE
    ends = counts.group_by(place.alias("place"), maintain_order=True).agg(
        pl.col("prompt").min().alias("first"), pl.col("prompt").max().alias("last")
    )
    some = [
        rows.filter(pl.col("prompt").is_between(first, last))
        for first, last in ends.select("first", "last").iter_rows()
    ]
    return pl.concat([averaged(each).collect() for each in some or [rows]])


def ratio_of_sums(sums: np.ndarray, counts: np.ndarray) -> dict[str, float | int]:
    """Average over tokens with its interval over prompts: that of a ratio of two sums.

    With S_i the sum of prompt i over n_i tokens, m = sum S / sum n and e_i = S_i - m n_i: m -+ t(N - 1)
    sqrt(N / (N - 1) sum e_i^2) / sum n at 97.5%, NaN without two prompts. A sum that is not finite is left out.

    Args:
        sums: S, one a prompt.
        counts: n, the tokens of each.

    Returns:
        ``value`` (m), ``low``, ``high``, ``scored`` (tokens that entered) and ``n`` (prompts).

    Example:
        Sums 2 and 3 over 1 and 3 tokens: m = 5 / 4, e = (0.75, -0.75), half = 12.706 sqrt(2 * 1.125) / 4 = 4.76.
    """
    usable = np.isfinite(sums)
    sums, counts, prompts = sums[usable], counts[usable], int(usable.sum())
    scored = math.fsum(counts)
    mean = math.fsum(sums) / scored if prompts else math.nan
    half = math.nan
    if prompts > 1:
        spread = math.fsum((sums - mean * counts) ** 2) * prompts / (prompts - 1)
        half = float(t_quantile(prompts)) * math.sqrt(spread) / scored
    return {"value": mean, "low": mean - half, "high": mean + half, "scored": int(scored), "n": prompts}


def _finite(name: str) -> pl.Expr:
    value = pl.col(name).cast(pl.Float64)
    return value.filter(value.is_finite())


def _with_phase(table: pl.DataFrame, layers: pl.LazyFrame | pl.DataFrame, massive_ratio: float) -> pl.DataFrame:
    phases = [
        pl.DataFrame({"index": range(course.last + 1), "phase": course.phases()}, schema=_PHASES).with_columns(
            pl.lit(value, pl.String).alias(name) for name, value in course.key.items()
        )
        for course in courses(layers, massive_ratio=massive_ratio)
    ]
    known = pl.concat(phases) if phases else pl.DataFrame(schema={**_PHASES, **dict.fromkeys(KEYS, pl.String)})
    return table.join(known, on=[*KEYS, "index"], how="left", nulls_equal=True, maintain_order="left")


_PHASES: dict[str, pl.DataType | type[pl.DataType]] = {"index": pl.Int64, "phase": pl.String}

"""What a run knows of every head of a model, for a page that shows the numbers of one."""

import shlex
from dataclasses import dataclass

import polars as pl

from thalweg.catalogue import Metric, metrics_at
from thalweg.experiments._views import Pair, heading, pairs
from thalweg.store import Run

_METRICS = metrics_at("head", variants=False)


@dataclass(frozen=True)
class HeadNumbers:
    """The numbers of every head of one model on one data set.

    Attributes:
        title: of what, as ``gpt2 on gsm8k``.
        about: what the numbers are averages of.
        blocks: how many there are.
        heads: in each.
        numbers: by name with its unit; the heads of block 0 come first, None where there is no number.
        command: what adds the maps of one head to the run, without its block, its head and the run.
        out: the end of the command.
    """

    title: str
    about: str
    blocks: int
    heads: int
    numbers: dict[str, list[float | int | None]]
    command: str
    out: str


def head_numbers(run: Run, key: tuple[str, str, str]) -> HeadNumbers:
    """Give what a survey measured of every head, averaged over the prompts with which a uniform head does not sink.

    Args:
        run: with a survey.
        key: model, revision and data set.
    """
    pair = next(pair for pair in pairs(run) if pair.key == key)
    heads = run.header.by_name[pair.model, pair.revision].heads
    prompts = run.prompts.filter(pair.rows)
    long_enough = prompts.filter(pl.col("sink_uniform") < run.header.thresholds.tau).select("prompt")
    rows = _means(run.heads.filter(pair.rows).join(long_enough, on="prompt", how="semi"), pair.blocks, heads)
    kept, every = (frame.select(pl.len()).collect().item() for frame in (long_enough, prompts))
    return HeadNumbers(
        heading(run, pair),
        f"Means over {kept:,} of {every:,} prompts, those in which a uniform head does not sink; of the most attended "
        "token the most frequent position.",
        pair.blocks,
        heads,
        {metric.label: list(map(_short, rows[metric.name])) for metric in _METRICS},
        *_how_to_map(run, pair),
    )


def _how_to_map(run: Run, pair: Pair) -> tuple[str, str]:
    """The command, and its end; a run of one model on one data set stands for both and for how they are read."""
    if len(run.header.models) == len(run.header.data) == 1:
        return shlex.join(["thalweg", "heads", str(run.path), "--prompt", "0"]), ""
    given = next(data.given or data.name for data in run.header.data if data.name == pair.data)
    revision = () if pair.revision == "main" else ("--revision", pair.revision)
    return shlex.join(["thalweg", "heads", pair.model, *revision, "--data", given, "--prompt", "0"]), f" {run.as_out}"


def _means(rows: pl.LazyFrame, blocks: int, heads: int) -> pl.DataFrame:
    """One row for every head, measured or not, by block."""
    means, of = rows.group_by("block", "head").agg(*map(_mean, _METRICS)), {"block": blocks, "head": heads}
    types = means.collect_schema()
    block, head = (pl.LazyFrame({name: range(of[name])}, schema={name: types[name]}) for name in of)
    every = block.join(head, how="cross").join(means, on=["block", "head"], how="left")
    return every.sort("block", "head").collect()


def _mean(metric: Metric) -> pl.Expr:
    column = pl.col(metric.name)
    if metric.kind == "place":
        return column.filter(column >= 0).mode().min().cast(pl.Float64)
    return column.cast(pl.Float64).fill_nan(None).mean()


def _short(value: float | None) -> float | int | None:
    """Three digits, which is what a person reads and what keeps a page of many heads small."""
    if value is None:
        return None
    short = float(f"{value:.3g}")
    return int(short) if short == int(short) else short

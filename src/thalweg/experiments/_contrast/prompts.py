"""What a contrast is asked, the prompts of one length that it compares, and their heads."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field

from thalweg.catalogue import metrics_at
from thalweg.errors import RunError, UsageError
from thalweg.shapes import Float, Int
from thalweg.store import Coverage, Run
from thalweg.validated import Says, meets, validated

SHARE, LEAST = 0.1, 5
ANY = "any"
COMPARED = ("sink_score", "mixing")
RANKING = tuple(metric.name for metric in metrics_at("head") if metric.kind != "place")


@validated
class Asked:
    """What changes a number, checked before anything is read."""

    by: Annotated[
        str,
        meets(RANKING.__contains__),
        Says(f"--by {{got}} is no metric of heads that prompts can be ranked by: {', '.join(RANKING)}."),
    ]
    length: int | Literal["any"] | None
    top: Annotated[
        int | None,
        Field(ge=1, le=sys.maxsize),
        Says("--top is a number of prompts a side, 1 or more; got {got}."),
    ]
    fdr: Annotated[
        float,
        Field(gt=0, lt=1),
        Says("--fdr is a share of the heads said to change, above 0 and below 1; got {got}."),
    ]
    seed: Annotated[int, Field(ge=0), Says("--seed counts from 0; got {got}.")]

    @property
    def compared(self) -> tuple[str, ...]:
        """The metrics that are compared."""
        return tuple(dict.fromkeys((*COMPARED, self.by)))

    def per_side(self, prompts: int) -> int:
        """Prompts a side, of so many."""
        return max(LEAST, round(SHARE * prompts)) if self.top is None else self.top


@dataclass(frozen=True)
class Selected:
    """The prompts of one model on one data set that have one length, or why there are too few."""

    pair: Coverage
    length: int | None
    prompts: pl.DataFrame
    other_length: int
    reason: str | None

    @property
    def key(self) -> dict[str, str]:
        """Its key columns."""
        return {"model": self.pair.model, "revision": self.pair.revision, "data": self.pair.data}


@dataclass(frozen=True)
class HeadValues:
    """A run's heads as matrices, prompts down and heads across; NaN where the run has no number."""

    values: Mapping[str, Float[np.ndarray, "prompt head"]]
    blocks: Int[np.ndarray, " head"]
    heads: Int[np.ndarray, " head"]


def length_asked(length: int | str | None) -> int | Literal["any"] | None:
    """Give the length as a number, if it is one."""
    if length is None or length == ANY:
        return length  # pyright: ignore[reportReturnType]
    try:
        number = int(length)
    except ValueError:
        number = 0
    if not 2 <= number <= sys.maxsize:
        raise UsageError(f"--length is a number of tokens, 2 or more, or any; got {length}.")
    return number


def select(run: Run, pair: Coverage, asked: Asked) -> Selected:
    """Give the prompts of one model on one data set that have the length asked for."""
    key = {"model": pair.model, "revision": pair.revision, "data": pair.data}
    every = run.prompts.filter(**key).select("prompt", "tokens").collect()
    if every.height != pair.prompts_kept:
        raise RunError(
            f"{run.path} is damaged: it holds {every.height:,} of the {pair.prompts_kept:,} prompts of {pair.model} on "
            f"{pair.data} that are counted. The same `thalweg survey` command with `{run.as_out}` measures the "
            "others again."
        )
    lengths = every["tokens"].value_counts().sort("count", "tokens", descending=True)
    length = None if asked.length == ANY else asked.length
    if asked.length is None:  # that of most prompts, the longest of several: where many were cut, the run's longest
        length = lengths["tokens"][0] if lengths.height else 0
    chosen = every if length is None else every.filter(tokens=length)
    reason = _too_few(pair, every, lengths, chosen.height, length, asked)
    return Selected(pair, length, chosen, every.height - chosen.height, reason)


def head_values(run: Run, key: Mapping[str, str], prompts: pl.Series, metrics: Sequence[str]) -> HeadValues:
    """Read some metrics of some prompts, ascending, of one model on one data set; a run's ``heads`` are enough."""
    rows = run.heads.filter(**key).select(
        "prompt", "block", "head", *(pl.col(name).cast(pl.Float32) for name in metrics)
    )
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


def _too_few(
    pair: Coverage, every: pl.DataFrame, lengths: pl.DataFrame, count: int, length: int | None, asked: Asked
) -> str | None:
    """Why so many prompts of one length are not enough; None if they are."""
    side = asked.top or LEAST
    if count >= 2 * side:
        return None
    of_length = "" if length is None else f" of {length:,} tokens"
    place = f"{pair.model} on {pair.data}"
    said = f"expected at least {2 * side:,} prompts{of_length}, {side:,} a side; {place} has {count:,}"
    if every.height < 2 * side:
        most = every.height // 2
        return f"{said}. Measure more prompts" + (f", or ask for --top {most:,} at most." if most else ".")
    some = ", ".join(f"{tokens:,} ({prompts:,} prompts)" for tokens, prompts in lengths.head(5).iter_rows())
    return f"{said}. Most have these lengths: {some}. {_advice(every, lengths, 2 * side)}"


def _advice(every: pl.DataFrame, lengths: pl.DataFrame, wanted: int) -> str:
    if lengths["count"][0] >= wanted:
        return f"Ask for --length {lengths['tokens'][0]}; --length any compares prompts of different lengths."
    reached = int(every["tokens"].sort(descending=True)[max(wanted, every.height // 2) - 1])
    return (
        f"Survey again with --max-length {reached}, which cuts at least half of them to one length, and another --out; "
        "--length any compares prompts of different lengths."
    )

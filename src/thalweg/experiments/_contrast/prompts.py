"""What a contrast is asked, and the prompts of one length that it compares."""

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import polars as pl
from pydantic import Field

from thalweg.catalogue import metrics_at
from thalweg.errors import RunError, UsageError
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


def length_asked(length: int | str | None) -> int | Literal["any"] | None:
    """Give the length as a number, if it is one.

    Raises:
        UsageError: it is neither a number of tokens nor "any".
    """
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
    """Give the prompts of one model on one data set that have the length asked for.

    Raises:
        RunError: prompts are missing.
    """
    own = (pl.col("model") == pair.model) & (pl.col("revision") == pair.revision) & (pl.col("data") == pair.data)
    every = run.prompts.filter(own).select("prompt", "tokens").collect()
    if every.height != pair.prompts_kept:
        raise RunError(
            f"{run.path} is damaged: it holds {every.height:,} of the {pair.prompts_kept:,} prompts of {pair.model} on "
            f"{pair.data} that are counted. The same `thalweg survey` command with `--out {run.path}` measures the "
            "others again."
        )
    if asked.length == ANY:
        reason = _too_few(pair, every, every, None, asked)
        return Selected(pair, None, every, 0, reason)
    length = _most_common(every) if asked.length is None else asked.length
    chosen = every.filter(pl.col("tokens") == length)
    reason = _too_few(pair, every, chosen, length, asked)
    return Selected(pair, length, chosen, every.height - chosen.height, reason)


def _most_common(prompts: pl.DataFrame) -> int:
    """The length of most prompts, the longest of several: where many were cut, the run's longest."""
    counts = prompts["tokens"].value_counts().sort("count", "tokens", descending=True)
    return int(counts["tokens"][0]) if counts.height else 0


def _too_few(pair: Coverage, every: pl.DataFrame, chosen: pl.DataFrame, length: int | None, asked: Asked) -> str | None:
    side = asked.top or LEAST
    if chosen.height >= 2 * side:
        return None
    of_length = "" if length is None else f" of {length:,} tokens"
    place = f"{pair.model} on {pair.data}"
    said = f"expected at least {2 * side:,} prompts{of_length}, {side:,} a side; {place} has {chosen.height:,}"
    if every.height < 2 * side:
        most = every.height // 2
        return f"{said}. Measure more prompts" + (f", or ask for --top {most:,} at most." if most else ".")
    counts = every["tokens"].value_counts().sort("count", "tokens", descending=True)
    lengths = ", ".join(f"{tokens:,} ({count:,} prompts)" for tokens, count in counts.head(5).iter_rows())
    return f"{said}. Most have these lengths: {lengths}. {_advice(every, counts, 2 * side)}"


def _advice(every: pl.DataFrame, counts: pl.DataFrame, wanted: int) -> str:
    if counts["count"][0] >= wanted:
        return f"Ask for --length {counts['tokens'][0]}; --length any compares prompts of different lengths."
    reached = int(every["tokens"].sort(descending=True)[max(wanted, every.height // 2) - 1])
    return (
        f"Survey again with --max-length {reached}, which cuts at least half of them to one length, and another --out; "
        "--length any compares prompts of different lengths."
    )

"""Which parts write the row of each segment and which erase it: attribution averaged over prompts, and smallest sets.

Conventions: r is the segment's reference state, f the first state of the next segment, or L. Writers are MLPs of blocks
before r, erasers attention or MLPs of the blocks from r to before f. Averages are over the prompts whose row is massive
at some state of the segment, where that is at least half of them, else over all; prompts without such a row are left
out, `n` given. No torch.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import polars as pl

from thalweg.averages import KEYS, STATISTICS, gathered, is_of, with_statistics
from thalweg.options import MASSIVE_RATIO

THRESHOLD = 0.9
HELD = 0.01
SHARE = 0.5
SEGMENT = [*KEYS, "segment"]
PART = ["block", "part"]
AVERAGED = ["norm", "along", "share", "cosine"]
NO_MASSIVE = "no massive activation"
Key = TypeVar("Key", int, tuple[int, str])


@dataclass(frozen=True, slots=True)
class Writers:
    """The blocks whose MLPs write a massive row.

    Attributes:
        blocks: in order of depth; empty where there are none to name.
        share: of <x_s, v> at the reference state, what their MLPs wrote; where `blocks` is empty, what all MLPs that
            raise it wrote together, NaN where nothing is known.
        reason: why `blocks` is empty, or None.
    """

    blocks: tuple[int, ...]
    share: float
    reason: str | None


@dataclass(frozen=True, slots=True)
class Erasers:
    """The parts that take a massive row away again.

    Attributes:
        parts: block and part, in order of depth.
        share: of <x_s, v> at the reference state, what they take away.
        whole: the same for all parts that lower it.
    """

    parts: tuple[tuple[int, str], ...]
    share: float
    whole: float


def smallest_set(shares: Mapping[Key, float], goal: float, /) -> tuple[Key, ...]:
    """The fewest keys whose values above 0 sum to a goal, in order; all of them where they fall short.

    Taken by size, largest first, no set of as many reaches more; on ties the lower key comes first.

    Example:
        >>> smallest_set({0: 0.05, 1: 0.7, 2: -0.1, 3: 0.25}, 0.9)
        (1, 3)
    """
    raising = sorted((key for key in shares if shares[key] > 0), key=lambda key: (-shares[key], key))
    counts = (n for n in range(len(raising) + 1) if math.fsum(shares[key] for key in raising[:n]) >= goal)
    return tuple(sorted(raising[: next(counts, len(raising))]))


def writing_blocks(shares: Mapping[int, float], /, *, threshold: float = THRESHOLD) -> Writers:
    """The smallest set of blocks whose MLPs write at least a threshold of the row, or why there is none.

    Example:
        {0: 0.05, 1: 0.7, 2: -0.1, 3: 0.25} gives blocks 1 and 3, which write 0.95.
    """
    if not shares or not all(math.isfinite(share) for share in shares.values()):
        return Writers((), math.nan, "no prompt has such a row")
    chosen = smallest_set(shares, threshold)
    reached = math.fsum(shares[block] for block in chosen)
    if reached >= threshold:
        return Writers(chosen, reached, None)
    return Writers((), reached, f"all MLPs that raise it write {reached:.0%} of the massive row, below {threshold:.0%}")


def erasing_parts(shares: Mapping[tuple[int, str], float], /, *, threshold: float = THRESHOLD) -> Erasers:
    """The smallest set of parts that take at least a threshold of all that is taken away.

    Example:
        Of what two MLPs add, -0.7 and -0.1, and an attention, 0.3, the first takes 0.7 of 0.8: not enough, so both.
    """
    taken = {part: -share for part, share in shares.items()}
    whole = math.fsum(share for share in taken.values() if share > 0)
    chosen = smallest_set(taken, threshold * whole)
    return Erasers(chosen, math.fsum(taken[part] for part in chosen), whole)


def writers(
    states: pl.LazyFrame | pl.DataFrame,
    contributions: pl.LazyFrame | pl.DataFrame,
    segments: pl.LazyFrame | pl.DataFrame,
    *,
    massive_ratio: float = MASSIVE_RATIO,
    threshold: float = THRESHOLD,
) -> pl.DataFrame:
    """What writes and what erases the row of each segment that was measured, and how far prompts agree on it.

    ``states`` are rows by prompt, segment and state, with `row_position` and `sink_ratio`; ``contributions`` rows by
    prompt, segment, block and part, with `share` and `before`; ``segments`` those of the plan.

    Example:
        Two prompts with a massive row, the MLP of block 1 wrote 0.97 and 0.99 of it: block 1, share 0.98, agreement 1.
    """
    plan, marked = segments.lazy().collect(), _marked(states.lazy(), segments.lazy(), massive_ratio)
    used = _used_parts(contributions.lazy(), marked)
    measured = marked.select(*SEGMENT).unique()
    rows = list[dict[str, Any]]()
    for target in plan.join(
        measured.collect(),
        left_on=[*KEYS, "name"],
        right_on=SEGMENT,
        how="semi",
        nulls_equal=True,
        maintain_order="left",
    ).iter_rows(named=True):
        of_target = [*is_of(target), pl.col("segment") == target["name"]]
        later = plan.filter(*is_of(target), pl.col("first") > (target["first"] or 0))["first"].min()
        rows.append(
            _row(target, later, marked.filter(*of_target).collect(), used.filter(*of_target).collect(), threshold)
        )
    return pl.DataFrame(rows, schema=_SCHEMA)


def attribution_profile(
    states: pl.LazyFrame | pl.DataFrame,
    contributions: pl.LazyFrame | pl.DataFrame,
    dimensions: pl.LazyFrame | pl.DataFrame,
    segments: pl.LazyFrame | pl.DataFrame,
    writing: pl.DataFrame,
    *,
    massive_ratio: float = MASSIVE_RATIO,
) -> pl.DataFrame:
    """What each part of each block adds to the row of each segment, averaged over prompts.

    Beside what `writers` takes and returns: `norm`, `along` and `cosine` of the contributions; ``dimensions`` are rows
    by prompt, segment, block, part and rank, with `dim` and `value`.

    Example:
        One prompt whose block 0's MLP adds (3, 0, 4) along (0, 0, 1): norm 5, along 4, cosine 0.8, dims 2 and 0.
    """
    parts = _used_parts(contributions.lazy(), _marked(states.lazy(), segments.lazy(), massive_ratio))
    groups = [*SEGMENT, *PART, "metric"]
    table = (
        parts.unpivot(index=[*SEGMENT, "prompt", *PART], on=AVERAGED, variable_name="metric", value_name="value")
        .group_by(groups)
        .agg(gathered("value"))
        .sort(groups)
        .collect()
    )
    table = with_statistics(table).with_columns(pl.col("block").cast(pl.Int64))
    on = [*SEGMENT, *PART]
    for known in (*_named(writing), _held(parts, dimensions.lazy())):
        table = table.join(known, on=on, how="left", nulls_equal=True, maintain_order="left")
    filled = pl.col("writes", "erases").fill_null(value=False), pl.col("dims").fill_null([])
    return table.with_columns(*filled).select(*groups, *STATISTICS, "writes", "erases", "dims")


def _marked(states: pl.LazyFrame, segments: pl.LazyFrame, massive_ratio: float) -> pl.LazyFrame:
    """By prompt and segment, whether its row is massive there, at which of the states the largest row is elsewhere."""
    spans = segments.select(*KEYS, "first", "last", segment="name")
    inside = pl.col("state").is_between("first", "last").fill_null(value=True)
    massive = inside & (pl.col("sink_ratio").fill_nan(None) >= massive_ratio).fill_null(value=False)
    largest = inside & (pl.col("row_ratio").fill_nan(None) >= massive_ratio).fill_null(value=False)
    return (
        states.join(spans, on=SEGMENT, how="left", nulls_equal=True)
        .group_by([*SEGMENT, "prompt"])
        .agg(is_massive=massive.any(), places=pl.col("row_position").filter(largest))
    )


def _used_parts(contributions: pl.LazyFrame, marked: pl.LazyFrame) -> pl.LazyFrame:
    """The rows of prompts that averages are over."""
    massive = pl.col("is_massive")
    used = marked.filter(massive | (massive.mean().over(SEGMENT) < SHARE))
    known = contributions.filter(pl.col("share").is_not_nan())
    return known.join(used, on=[*SEGMENT, "prompt"], how="semi", nulls_equal=True)


def _row(
    target: dict[str, Any], later: Any, prompts: pl.DataFrame, parts: pl.DataFrame, threshold: float
) -> dict[str, Any]:
    mlps = parts.filter(pl.col("before"), part="mlp").with_columns(key="block")
    until = pl.lit(True) if later is None else pl.col("block") < later
    after = parts.filter(~pl.col("before"), until).with_columns(key=pl.struct(*PART))
    chosen = writing_blocks(_means(mlps), threshold=threshold)
    erased = erasing_parts(_means(after), threshold=threshold)
    massive = int(prompts["is_massive"].sum())
    if target["first"] is None:
        chosen = Writers((), math.nan, NO_MASSIVE)
    elif massive < SHARE * len(prompts):
        chosen = Writers((), math.nan, _elsewhere(target, prompts, massive))
    elif chosen.reason is not None and math.isfinite(chosen.share):
        chosen = Writers((), chosen.share, f"{chosen.reason}; {_others(parts)}")
    known = target["first"] is not None and massive >= SHARE * len(prompts) and after.height > 0
    if not known:
        erased = Erasers((), math.nan, math.nan)
    return {
        **{name: target[name] for name in (*KEYS, "first", "last", "reference_state")},
        "segment": target["name"],
        "writing_blocks": list(chosen.blocks),
        "writing_share": chosen.share,
        "writing_threshold": threshold,
        "writing_agreement": _agreement(
            mlps, chosen.blocks, lambda shares: writing_blocks(shares, threshold=threshold).blocks
        ),
        "erasing_parts": [f"{part} {block}" for block, part in erased.parts],
        "erasing_share": erased.share,
        "erased_share": erased.whole,
        "erasing_agreement": _agreement(
            after, erased.parts, lambda shares: erasing_parts(shares, threshold=threshold).parts
        ),
        "prompts": len(prompts),
        "massive_prompts": massive,
        "reason": chosen.reason,
    }


def _means(parts: pl.DataFrame) -> dict[Any, float]:
    """Mean share by key; its sum is exact, so that it does not depend on the order of rows."""
    lists = parts.group_by("key").agg("share")
    return {_plain(key): math.fsum(shares) / len(shares) for key, shares in lists.iter_rows()}


def _plain(key: Any) -> Any:
    return tuple(key.values()) if isinstance(key, dict) else key


def _agreement(
    parts: pl.DataFrame, chosen: tuple[Any, ...], own: Callable[[dict[Any, float]], tuple[Any, ...]]
) -> float:
    """Share of prompts whose own smallest set is the chosen one."""
    if not chosen:
        return math.nan
    by_prompt = (
        {_plain(key): share for key, share in prompt.select("key", "share").iter_rows()}
        for _, prompt in parts.group_by("prompt")
    )
    same = [own(shares) == chosen for shares in by_prompt]
    return sum(same) / len(same)


def _elsewhere(target: dict[str, Any], prompts: pl.DataFrame, massive: int) -> str:
    """Why nothing is said of a row that is massive in fewer than half of the prompts."""
    places = prompts["places"].explode().drop_nulls()
    if target["sink_position"] is None or not len(places):
        return f"its row is massive in {massive} of {len(prompts)} prompts, fewer than half"
    place = places.mode().min()
    return (
        f"the massive row is not at position {target['sink_position']}, but at position {place} most often; leave out "
        "--sink-position"
    )


def _others(parts: pl.DataFrame) -> str:
    """What embedding and attention wrote, for the sentence that says why the MLPs do not suffice."""
    summed = parts.filter("before").group_by("prompt", key="part").agg(pl.col("share").sum())
    shares = {"embedding": 0.0, "attention": 0.0, **_means(summed)}
    return f"the embedding writes {shares['embedding']:.0%}, attention {shares['attention']:.0%}"


def _named(writing: pl.DataFrame) -> Iterable[pl.DataFrame]:
    """The parts that write and those that erase."""
    wrote = writing.select(*SEGMENT, block="writing_blocks", part=pl.lit("mlp"), writes=pl.lit(value=True))
    erased = writing.select(*SEGMENT, named="erasing_parts", erases=pl.lit(value=True)).explode("named")
    pieces = pl.col("named").str.split(" ")
    yield wrote.explode("block").drop_nulls("block")
    yield erased.drop_nulls("named").select(
        *SEGMENT, "erases", part=pieces.list.first(), block=pieces.list.last().cast(pl.Int64)
    )


def _held(parts: pl.LazyFrame, dimensions: pl.LazyFrame) -> pl.DataFrame:
    """The dimensions in which a part writes most, by part."""
    groups = [*SEGMENT, *PART]
    keys = [*groups, "prompt"]
    norms = parts.filter(pl.col("norm").fill_nan(None) > 0).select(*keys, "norm")
    prompts = norms.group_by(groups).agg(prompts=pl.len())
    held = dimensions.join(norms, on=keys, how="inner", nulls_equal=True)
    held = held.group_by([*groups, "dim"]).agg(held=((pl.col("value") / pl.col("norm")) ** 2).sum().round(9))
    held = held.join(prompts, on=groups, nulls_equal=True).filter(pl.col("held") >= HELD * pl.col("prompts"))
    ordered = held.sort(["held", "dim"], descending=[True, False])
    dims = ordered.group_by(groups, maintain_order=True).agg(dims=pl.col("dim").cast(pl.Int64))
    return dims.with_columns(pl.col("block").cast(pl.Int64)).collect()


_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(KEYS, pl.String),
    "segment": pl.String,
    **dict.fromkeys(("first", "last", "reference_state"), pl.Int64),
    "writing_blocks": pl.List(pl.Int64),
    **dict.fromkeys(("writing_share", "writing_threshold", "writing_agreement"), pl.Float64),
    "erasing_parts": pl.List(pl.String),
    **dict.fromkeys(("erasing_share", "erased_share", "erasing_agreement"), pl.Float64),
    **dict.fromkeys(("prompts", "massive_prompts"), pl.Int64),
    "reason": pl.String,
}

"""What is told of each segment: the row that makes it, where it is, and how it ends.

Conventions: segments as in `_courses.py`. End: from the peak to the state e of the lowest row ratio before the next
segment, m the norm of the segment's row and q the median norm: ln(m/q at the peak) - ln(m/q at e) = ln(m_peak / m_e) +
ln(q_e / q_peak). The row is *removed* where the first term is at least three quarters of the fall, the others *caught
up* where the second is, else *both*. A fall not above 0 is no end, and a segment that reaches the last state has none.
No torch.
"""

import math
from typing import Any, Literal

import polars as pl

from thalweg.averages._courses import KEYS, Course, Segment, courses, is_of
from thalweg.options import MASSIVE_RATIO

MOSTLY = 0.75


def segments(
    layers: pl.LazyFrame | pl.DataFrame,
    rows: pl.LazyFrame | pl.DataFrame | None = None,
    massive: pl.LazyFrame | pl.DataFrame | None = None,
    *,
    massive_ratio: float = MASSIVE_RATIO,
) -> pl.DataFrame:
    """The compress phase and the waves of each model, with the row that makes them and how they end.

    Args:
        layers: rows by prompt and state, with `row_ratio`, `row_position` and, for the end, `median_norm`.
        rows: rows by prompt, position and state, with `norm`: of every row that stands out at some state, its norm at
            all; None leaves the ends open.
        massive: rows by prompt, state and position, with `token`: texts of massive tokens; None names none.
        massive_ratio: the row ratio from which a state is massive.

    Returns:
        One row for each segment, in order of depth: the columns of `Segment`, `first_depth` and `last_depth` (shares of
        L), `peak_ratio`, `massive_prompts` (share of prompts that are massive at the peak), `position` (of the
        segment's row, most frequent) with `position_share` and `tokens` (most frequent first), `end_state`, `end`
        ("removed" | "caught up" | "both" | null), `row_factor` (m_e / m_peak), `others_factor` (q_e / q_peak) and
        `end_prompts` (prompts that they are known of).

    Example:
        Row ratios 1, 1, 100, 100, 1 in every prompt, the largest row at position 0, whose norm is divided by 100 at
        state 4: compress, 2 to 3, peak 100 at 2, removed at 4.
    """
    found = list[dict[str, Any]]()
    for course in courses(layers, massive_ratio=massive_ratio):
        of_model = layers.lazy().filter(*is_of(course.key), pl.col("prompt").is_in(course.prompts.tolist()))
        texts = None if massive is None else massive.lazy().filter(*is_of(course.key))
        norms = None if rows is None else rows.lazy().filter(*is_of(course.key))
        found += (_segment_row(course, segment, of_model, norms, texts) for segment in course.segments)
    return pl.DataFrame(found, schema=_SCHEMA)


def segment_rows(
    layers: pl.LazyFrame | pl.DataFrame, found: pl.DataFrame, *, sink_position: int | None = None
) -> pl.LazyFrame:
    """The row of each segment in each prompt: the one that is largest at the segment's peak.

    Args:
        layers: rows by prompt and state, with `row_position`.
        found: what `segments` returns.
        sink_position: a position given by hand, which takes the place of every segment's row.

    Returns:
        Columns model, revision, data, name (of the segment), prompt and position.

    Example:
        Compress with its peak at state 2, where the largest row of prompt 0 is at position 3: compress, 0, 3.
    """
    at_peak = found.lazy().select(*KEYS, "name", state="peak")
    positions = layers.lazy().select(*KEYS, "prompt", pl.col("state").cast(pl.Int64), position="row_position")
    joined = at_peak.join(positions, on=[*KEYS, "state"], nulls_equal=True)
    if sink_position is not None:
        joined = joined.with_columns(position=pl.lit(sink_position, pl.Int64))
    return joined.select(*KEYS, "name", "prompt", pl.col("position").cast(pl.Int64))


def _segment_row(
    course: Course,
    segment: Segment,
    layers: pl.LazyFrame,
    rows: pl.LazyFrame | None,
    massive: pl.LazyFrame | None,
) -> dict[str, Any]:
    at_peak = layers.filter(state=segment.peak).select("prompt", position="row_position").collect()
    counts = at_peak["position"].value_counts().sort(["count", "position"], descending=[True, False])
    position, most = counts.row(0)
    return {
        **course.key,
        **{field: getattr(segment, field) for field in _FIELDS},
        "dips": list(segment.dips),
        "shoulders": list(segment.shoulders),
        "first_depth": segment.first / course.last,
        "last_depth": segment.last / course.last,
        "peak_ratio": float(course.mean[segment.peak]),
        "massive_prompts": float((course.ratios[:, segment.peak] >= course.massive_ratio).mean()),
        "position": position,
        "position_share": most / len(at_peak),
        "tokens": [] if massive is None else _tokens(massive, segment.peak, position),
        **_end(course, segment, layers, rows),
    }


def _tokens(massive: pl.LazyFrame, state: int, position: int) -> list[str]:
    rows = massive.filter(state=state, position=position).select("prompt", "token").unique()
    return rows.group_by("token").len().sort("len", "token", descending=[True, False]).collect()["token"].to_list()


def _end(course: Course, segment: Segment, layers: pl.LazyFrame, rows: pl.LazyFrame | None) -> dict[str, Any]:
    later = [other.first for other in course.segments if other.first > segment.first]
    behind = range(segment.last + 1, min(later, default=course.last + 1))
    nothing = {"end_state": None, "end": None, "row_factor": math.nan, "others_factor": math.nan, "end_prompts": 0}
    if not behind or rows is None:
        return nothing
    end = min(range(segment.peak + 1, behind.stop), key=lambda state: course.mean[state])
    row, others = pl.col("end_norm") / pl.col("norm"), pl.col("end_median") / pl.col("median_norm")
    peak = layers.filter(state=segment.peak).select("prompt", "median_norm", position="row_position")
    known = (
        peak.join(rows.filter(state=segment.peak).select("prompt", "position", "norm"), on=["prompt", "position"])
        .join(rows.filter(state=end).select("prompt", "position", end_norm="norm"), on=["prompt", "position"])
        .join(layers.filter(state=end).select("prompt", end_median="median_norm"), on="prompt")
        .select(row=row.cast(pl.Float64).log(), others=others.cast(pl.Float64).log())
        .filter(pl.all_horizontal(pl.all().is_finite()))
        .collect()
    )
    if not known.height:
        return nothing
    fallen, risen = (math.fsum(known[name]) / known.height for name in ("row", "others"))
    return {
        "end_state": end,
        "end": _how(-fallen, risen),
        "row_factor": math.exp(fallen),
        "others_factor": math.exp(risen),
        "end_prompts": known.height,
    }


def _how(removed: float, caught_up: float) -> Literal["removed", "caught up", "both"] | None:
    fall = removed + caught_up
    if not fall > 0:
        return None
    return "removed" if removed >= MOSTLY * fall else "caught up" if caught_up >= MOSTLY * fall else "both"


_FIELDS = ("name", "first", "last", "peak", "run_first", "until")
_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(KEYS, pl.String),
    "name": pl.String,
    **dict.fromkeys(("first", "last", "peak", "run_first", "until"), pl.Int64),
    **dict.fromkeys(("dips", "shoulders"), pl.List(pl.Int64)),
    **dict.fromkeys(("first_depth", "last_depth", "peak_ratio", "massive_prompts"), pl.Float64),
    "position": pl.Int64,
    "position_share": pl.Float64,
    "tokens": pl.List(pl.String),
    "end_state": pl.Int64,
    "end": pl.String,
    **dict.fromkeys(("row_factor", "others_factor"), pl.Float64),
    "end_prompts": pl.Int64,
}

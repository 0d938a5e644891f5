"""Where does a model mix, compress and refine, and is each of them as the paper says.

Conventions: segments as in `_courses.py`, claims as in `_claims.py`. Mix = the states before compress, without a
massive state 0; refine = the states after it. Means of either leave out waves, from their first state until the row
ratio is below half the threshold. Block l belongs to the phase of the state it reads, l. Depths are shares of L, the
last state. No torch.
"""

import math
from typing import Any, Literal

import polars as pl

from thalweg.averages._claims import PHASES, phase_marks, row_effect
from thalweg.averages._courses import (
    KEYS,
    LINES,
    SHARE,
    THRESHOLDS,
    Course,
    Segment,
    courses,
    is_of,
    moved,
)
from thalweg.options import MASSIVE_RATIO

INSIDE: dict[str, Literal["state", "block"]] = {
    "mixing": "block",
    "mixing_normalized": "block",
    "sink_rate": "block",
    "entropy_normalized": "state",
}


def phases(
    layers: pl.LazyFrame | pl.DataFrame,
    profile: pl.DataFrame,
    claims: pl.DataFrame,
    *,
    massive_ratio: float = MASSIVE_RATIO,
    sink_position: int = 0,
) -> pl.DataFrame:
    """The phases of each model, with what happens inside them (the paper, section 4).

    Args:
        layers: rows by prompt and state, with `row_ratio` and `massive_entry_count`.
        profile: what `profile` returns for the same run.
        claims: what `claims` returns for it.
        massive_ratio: the row ratio from which a state is massive.
        sink_position: the sink's.

    Returns:
        One row for each (model, revision, data): states (L), blocks, prompts (that count), left_out (that do not),
        massive_share_threshold, has_massive_activations, massive_at_embedding (state 0 is massive), compress_first,
        compress_last, their depths, peak_state, peak_ratio, has_refine, dips, shoulders; agreement_first and
        agreement_last (share of prompts whose own compress begins, ends there); compress_first_low, compress_last_low,
        compress_first_high, compress_last_high (with the line at the peak's power 0.4, 0.6), line_matters, runs_at_5,
        runs_at_10, runs_at_20 (runs of massive states that overlap compress, first and last in turn); rise_state and
        fall_state (largest rise and fall of the logarithm of norm_ratio from the state before), rest_norm_rise_state
        (first state after the peak with twice the least rest_norm of the compress phase), sun_prompt_share; the means
        inside each phase (NaN for a phase that is not there) and its mark; what `row_effect` returns; and the reason
        for what is missing.

    Example:
        States 0..6 with row ratios 1, 1, 50, 50, 50, 1, 1 in every prompt: compress at 2 to 4, all three phases,
        agreement 1.
    """
    sun = _sun_share(layers.lazy())
    rows = [
        _row(course, profile.filter(*is_of(course.key)), sun)
        | {f"{phase}_mark": mark for phase, mark in phase_marks(claims.filter(*is_of(course.key))).items()}
        | row_effect(course, layers, sink_position=sink_position)
        for course in courses(layers, massive_ratio=massive_ratio)
    ]
    return pl.DataFrame(rows, schema=_SCHEMA)


def trajectory(profile: pl.DataFrame, site: Literal["state", "block"], metric: str, /) -> dict[int, float]:
    """Means of one metric by index, ascending; what is not finite is left out, so an index that is missing is a gap."""
    rows = profile.filter((pl.col("site") == site) & (pl.col("metric") == metric) & pl.col("mean").is_finite())
    return dict(rows.sort("index").select("index", "mean").iter_rows())


def of_written_states(profile: pl.DataFrame, metric: str, /) -> dict[int, float]:
    """Means of one metric by state, but for state 0, which no block has written."""
    return {state: mean for state, mean in trajectory(profile, "state", metric).items() if state > 0}


def _row(course: Course, profile: pl.DataFrame, sun: dict[tuple[Any, ...], float]) -> dict[str, Any]:
    jumps = _jumps(trajectory(profile, "state", "norm_ratio"))
    return {
        **course.key,
        "states": course.last,
        "blocks": profile.filter(pl.col("site") == "block")["index"].n_unique(),
        "prompts": len(course.prompts),
        "left_out": course.left_out,
        "massive_share_threshold": SHARE,
        "has_massive_activations": course.compress is not None,
        "massive_at_embedding": bool(course.massive[0]),
        **_of_compress(course, course.compress),
        "rise_state": max((state for state in jumps if jumps[state] > 0), key=jumps.__getitem__, default=None),
        "fall_state": min((state for state in jumps if jumps[state] < 0), key=jumps.__getitem__, default=None),
        "rest_norm_rise_state": _doubling(trajectory(profile, "state", "rest_norm"), course.compress),
        "sun_prompt_share": sun.get(tuple(course.key[key] for key in KEYS), math.nan),
        **{f"{phase}_{metric}": _inside(profile, phase, metric) for phase in PHASES for metric in INSIDE},
        "reason": _reason(course),
    }


def _of_compress(course: Course, compress: Segment | None) -> dict[str, Any]:
    if compress is None:
        missing: dict[str, Any] = dict.fromkeys((*_DEPTHS, "peak_ratio", *_AGREEMENTS), math.nan)
        return missing | {"has_refine": False, "dips": [], "shoulders": [], "line_matters": False}
    low, high = (course.lines(power) for power in LINES)
    lines = {"low": low, "high": high}
    return {
        "compress_first": compress.first,
        "compress_last": compress.last,
        "compress_first_depth": compress.first / course.last,
        "compress_last_depth": compress.last / course.last,
        "peak_state": compress.peak,
        "peak_ratio": float(course.mean[compress.peak]),
        "has_refine": compress.last < course.last,
        "dips": list(compress.dips),
        "shoulders": list(compress.shoulders),
        **dict(zip(_AGREEMENTS, course.agreement(), strict=True)),
        **{f"compress_first_{name}": line[0] for name, line in lines.items() if line},
        **{f"compress_last_{name}": line[1] for name, line in lines.items() if line},
        "line_matters": any(moved(line, compress) for line in lines.values()),
        **{
            f"runs_at_{threshold:g}": [state for run in course.overlapping_runs(threshold) for state in run]
            for threshold in THRESHOLDS
        },
    }


def _jumps(ratio: dict[int, float]) -> dict[int, float]:
    """Change of the logarithm from the state before, by state."""
    known = {state: math.log(value) for state, value in ratio.items() if value > 0}
    return {state: known[state] - known[state - 1] for state in known if state - 1 in known}


def _doubling(rest: dict[int, float], compress: Segment | None) -> int | None:
    """The first state after the peak whose mean norm of the others exceeds twice the least inside compress."""
    inside = [norm for state, norm in rest.items() if compress is not None and state in compress.states]
    if compress is None or not inside:
        return None
    return next((state for state, norm in rest.items() if state > compress.peak and norm > 2 * min(inside)), None)


def _inside(profile: pl.DataFrame, phase: str, metric: str) -> float:
    means = trajectory(profile.filter(pl.col("phase") == phase), INSIDE[metric], metric)
    return math.fsum(means.values()) / len(means) if means else math.nan


def _sun_share(layers: pl.LazyFrame) -> dict[tuple[Any, ...], float]:
    """Share of prompts with a massive entry in some state."""
    if "massive_entry_count" not in layers.collect_schema().names():
        return {}
    counted = layers.filter(pl.col("massive_entry_count").is_not_null())
    prompts = counted.group_by([*KEYS, "prompt"]).agg(any=(pl.col("massive_entry_count") > 0).any())
    shares = prompts.group_by(KEYS).agg(pl.col("any").mean()).collect()
    return {row[:-1]: row[-1] for row in shares.iter_rows()}


def _reason(course: Course) -> str | None:
    if course.compress is None:
        return "no massive state: no compress phase"
    phases = course.phases()
    missing = [f"no {phase} phase: no state is left for it" for phase in ("mix", "refine") if phase not in phases]
    return "; ".join(missing) or None


_DEPTHS = ("compress_first_depth", "compress_last_depth")
_AGREEMENTS = ("agreement_first", "agreement_last")
_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(KEYS, pl.String),
    **dict.fromkeys(("states", "blocks", "prompts", "left_out"), pl.Int64),
    "massive_share_threshold": pl.Float64,
    **dict.fromkeys(("has_massive_activations", "massive_at_embedding"), pl.Boolean),
    **dict.fromkeys(("compress_first", "compress_last"), pl.Int64),
    **dict.fromkeys(_DEPTHS, pl.Float64),
    "peak_state": pl.Int64,
    "peak_ratio": pl.Float64,
    "has_refine": pl.Boolean,
    **dict.fromkeys(("dips", "shoulders"), pl.List(pl.Int64)),
    **dict.fromkeys(_AGREEMENTS, pl.Float64),
    **{f"compress_{edge}_{line}": pl.Int64 for line in ("low", "high") for edge in ("first", "last")},
    "line_matters": pl.Boolean,
    **{f"runs_at_{threshold:g}": pl.List(pl.Int64) for threshold in THRESHOLDS},
    **dict.fromkeys(("rise_state", "fall_state", "rest_norm_rise_state"), pl.Int64),
    "sun_prompt_share": pl.Float64,
    **{f"{phase}_{metric}": pl.Float64 for phase in PHASES for metric in INSIDE},
    **{f"{phase}_mark": pl.String for phase in PHASES},
    **dict.fromkeys(("row_norm_share", "row_aligned_share"), pl.Float64),
    "row_explains": pl.String,
    **dict.fromkeys(("given_back", "given_back_low", "given_back_high"), pl.Float64),
    "given_back_n": pl.Int64,
    "row_compresses": pl.String,
    "reason": pl.String,
}

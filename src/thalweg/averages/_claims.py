"""Is each phase as the paper says, and does the massive row make the compression?

Conventions: everything is formed per prompt at the model's boundaries (`_courses.py`): means over the states of a
phase, and over the blocks that read them; then mean and 95% t interval over prompts. Values that are not finite are
left out, `n` counts the rest. An interval wholly on the claim's side (the bound counts for at least and at most) is "as
the paper says", wholly on the other "not here", else, and for fewer than two prompts, "cannot be told".

The claims (the paper, sections 3 and 4):

- mix: heads mix more than in compress; fewer than a tenth of them sink.
- compress: the normalized entropy is at most half of mix's; at least 0.3 of the heads of its blocks sink.
- refine: at least a third of the entropy that was lost comes back, asked only where there was a drop; fewer heads sink
  than in compress. Whether more heads are sharp (attention to itself or to the previous token at least 0.3) is a remark
  that decides nothing.

A phase is as the paper says if all its claims are, not here if it is empty or one of them is, else it cannot be told.
What no block reads (a phase of the last state alone) has no sinks and no mixing: such claims are left out, with the
last block's values beside.

What the row does for the compression is a diagnosis, no claim of the paper. s is the largest row. The share of
sigma_1^2 that its norm alone explains is (|x_s|^2 / F2) / p_1; with alignment (|X x_s|^2 / (|x_s|^2 F2)) / p_1, for
several massive rows that of their span. What is given back is (entropy without the massive rows - entropy) / (mix -
entropy), normalized. No torch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl
from polars import selectors as cs

from thalweg.averages._courses import KEYS, Course, courses, is_of
from thalweg.averages._profile import block_values, by_prompts, statistics
from thalweg.options import MASSIVE_RATIO, TAU

PHASES = ("mix", "compress", "refine")
AS_SAID, NOT_HERE, UNTOLD = "as the paper says", "not here", "cannot be told"
FEW_SINK, SINKS, HALVED, RECOVERED = 0.1, 0.3, 0.5, 1 / 3
SHARP = 0.3
EXPLAINS = 0.9
GIVEN_BACK, KEPT = 0.5, 0.1

Side = Literal["above", "below", "at least", "at most"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement about a phase.

    Attributes:
        phase: which it is about.
        name: what is claimed, in a word or two.
        metric: what is averaged inside the phases.
        against: the phase it is compared with; None for a bound alone.
        form: "value", "difference" or "ratio" to the other phase, or "recovered", the share of the drop from mix.
        side: where the bound is.
        bound: what is compared with.
    """

    phase: str
    name: str
    metric: str
    against: str | None
    form: Literal["value", "difference", "ratio", "recovered"]
    side: Side
    bound: float
    decides: bool = True


CLAIMS = (
    Claim("mix", "mixes more than compress", "mixing_normalized", "compress", "difference", "above", 0.0),
    Claim("mix", "hardly sinks", "sink_rate", None, "value", "below", FEW_SINK),
    Claim("compress", "entropy halved", "entropy_normalized", "mix", "ratio", "at most", HALVED),
    Claim("compress", "sinks", "sink_rate", None, "value", "at least", SINKS),
    Claim("refine", "entropy comes back", "entropy_normalized", "compress", "recovered", "at least", RECOVERED),
    Claim("refine", "sinks less than compress", "sink_rate", "compress", "difference", "below", 0.0),
    Claim("refine", "sharper heads", "sharp_rate", "compress", "difference", "above", 0.0, decides=False),
)


def claims(
    layers: pl.LazyFrame | pl.DataFrame,
    heads: pl.LazyFrame | pl.DataFrame,
    prompts: pl.LazyFrame | pl.DataFrame,
    *,
    tau: float = TAU,
    massive_ratio: float = MASSIVE_RATIO,
) -> pl.DataFrame:
    """What the paper says of each phase, checked.

    Args:
        layers: rows by prompt and state, with `row_ratio` and `entropy_normalized`.
        heads: rows by prompt, block and head.
        prompts: rows by prompt, with `sink_uniform`.
        tau: threshold of the sink rate.
        massive_ratio: the row ratio from which a state is massive.

    Returns:
        For each (model, revision, data) with phases one row a claim: phase, claim, metric, `form`, `side` and `bound`;
        `mean`, `low`, `high` and `n` of what is compared with the bound; `here` and `there` (means in the phase, and in
        the one it is compared with, NaN for none); `mark` ("as the paper says" | "not here" | "cannot be told", null
        for a claim that is left out); `decides` (false for a remark); `reason`.

    Example:
        Two prompts whose sink rates are 0.8 and 0.9 in compress: at least 0.3 cannot be told (two values: 0.85 +-
        0.64); of ten such prompts it is as the paper says.
    """
    found = list[dict[str, Any]]()
    for course in courses(layers, massive_ratio=massive_ratio):
        if course.compress is not None:
            values = phase_values(course, layers, heads, prompts, tau=tau)
            found += ({**course.key, **row} for row in _rows(course, values))
    return pl.DataFrame(found, schema=_SCHEMA)


def phase_values(
    course: Course,
    layers: pl.LazyFrame | pl.DataFrame,
    heads: pl.LazyFrame | pl.DataFrame,
    prompts: pl.LazyFrame | pl.DataFrame,
    *,
    tau: float,
) -> pl.DataFrame:
    """Per prompt that counts, the mean of each metric over each phase, and of the last block.

    Returns:
        Columns prompt, phase ("mix", "compress", "refine", "last block", "wave" or null), metric and value.

    Example:
        Normalized entropies 0.9, 0.7, 0.1 at states 0, 1, 2, compress at 2: 0.8 for mix, 0.1 for compress.
    """
    mine, counts = is_of(course.key), pl.col("prompt").is_in(course.prompts.tolist())
    of_heads = heads.lazy().filter(*mine, counts)
    needed = of_heads.select(*KEYS, "prompt", "block", cs.by_name("mixing_normalized", "sink_score", require_all=False))
    blocks, names = block_values(needed, prompts.lazy().filter(*mine), tau)
    at_block = blocks.lazy().select("prompt", pl.col("block").cast(pl.Int64).alias("index"), *names)
    measured = {
        "entropy_normalized": layers.lazy()
        .filter(*mine, counts)
        .select("prompt", index=pl.col("state").cast(pl.Int64), value=_ENTROPY),
        **{name: at_block.select("prompt", "index", value=_number(name)) for name in names if name != "sink_score"},
        "sharp_rate": _sharp(of_heads),
    }
    # One after the other, since all at once take several times as much memory.
    return pl.concat([_by_phase(rows, course, metric) for metric, rows in measured.items()])


def _by_phase(rows: pl.LazyFrame, course: Course, metric: str) -> pl.DataFrame:
    """Per prompt, means over each phase, and over the last block where it is a block's metric."""
    rows = rows.collect().lazy()
    phases = pl.LazyFrame({"index": range(course.last + 1), "phase": course.phases()}, schema=_PLACES)
    parts = [rows.join(phases, on="index")]
    if metric != "entropy_normalized":
        last = rows.filter(pl.col("index") == pl.col("index").max())
        parts.append(last.with_columns(phase=pl.lit("last block")))
    # In order, so that means are the same to the last bit however rows were cut.
    ordered = pl.concat([part.select("prompt", "phase", "index", "value") for part in parts]).sort(
        "prompt", "phase", "index"
    )
    means = ordered.group_by("prompt", "phase", maintain_order=True).agg(pl.col("value").mean())
    return means.select("prompt", "phase", pl.lit(metric).alias("metric"), "value").collect()


def _number(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Float64).fill_null(math.nan)


def _sharp(heads: pl.LazyFrame) -> pl.LazyFrame:
    """Share of heads, by prompt and block, that look at the token itself or at the one before."""
    if not {"diagonal", "previous"} <= set(heads.collect_schema().names()):
        schema = {"prompt": pl.Int64, "index": pl.Int64, "value": pl.Float64}
        return pl.LazyFrame(schema=schema)
    sharp = pl.max_horizontal(pl.col("diagonal", "previous").fill_nan(None)) >= pl.lit(SHARP, dtype=pl.Float32)
    places = ["prompt", pl.col("block").cast(pl.Int64).alias("index")]
    shares = by_prompts(heads, lambda some: some.group_by(places).agg(value=sharp.mean()))
    return shares.lazy().select("prompt", "index", value=_number("value"))


def _rows(course: Course, values: pl.DataFrame) -> Iterator[dict[str, Any]]:
    phases = course.phases()
    for claim in CLAIMS:
        row = {
            "phase": claim.phase,
            "claim": claim.name,
            **{name: getattr(claim, name) for name in ("metric", "form", "side", "bound", "decides")},
        }
        yield row | _checked(claim, values, phases)


def _checked(claim: Claim, values: pl.DataFrame, phases: list[str | None]) -> dict[str, Any]:
    nothing = {**dict.fromkeys(("mean", "low", "high", "here", "there"), math.nan), "n": 0, "mark": None}
    for phase in (claim.phase, claim.against, "mix" if claim.form == "recovered" else None):
        if phase is not None and phase not in phases:
            return nothing | {"mark": NOT_HERE if phase == claim.phase else UNTOLD, "reason": f"no {phase} state"}
        if phase is not None and claim.metric != "entropy_normalized" and phase not in phases[:-1]:
            beside = _mean(values, "last block", claim.metric)
            word = f"no block reads the {phase} phase; the last block has {beside:.2f}"
            return nothing | {"here" if phase == claim.phase else "there": beside, "reason": word}
    number, reason = _compared(claim, values), None
    summary = statistics(pl.Series([number])).row(0, named=True)
    found = mark(claim.side, claim.bound, summary["low"], summary["high"])
    if claim.form == "recovered" and not _drop(values) > 0:
        found, reason = NOT_HERE, "no drop"
    elif not summary["n"]:
        reason = "no prompt has a value"
    return {
        **{name: summary[name] for name in ("mean", "low", "high", "n")},
        "here": _mean(values, claim.phase, claim.metric),
        "there": math.nan if claim.against is None else _mean(values, claim.against, claim.metric),
        "mark": found,
        "reason": reason,
    }


def _compared(claim: Claim, values: pl.DataFrame) -> list[float]:
    """What is compared with the bound, by prompt."""
    wide = _wide(values, claim.metric)
    here = pl.col(claim.phase)
    there = pl.col(claim.against) if claim.against else pl.lit(0.0)
    number = {
        "value": here,
        "difference": here - there,
        "ratio": here / there,
        "recovered": (here - there) / pl.when(pl.col("mix") > there).then(pl.col("mix") - there),
    }[claim.form]
    return _finite(wide.select(number.alias("value"))["value"])


def _wide(values: pl.DataFrame, metric: str) -> pl.DataFrame:
    """Of one metric a row a prompt and a column a phase, null for what is not there."""
    rows = values.filter(metric=metric)
    wide = rows.filter(pl.col("phase").is_in(PHASES)).pivot(on="phase", index="prompt", values="value").sort("prompt")
    missing = [pl.lit(None, pl.Float64).alias(phase) for phase in PHASES if phase not in wide.columns]
    return wide.with_columns(missing)


def _finite(values: pl.Series) -> list[float]:
    return values.filter(values.is_finite().fill_null(value=False)).to_list()


def _mean(values: pl.DataFrame, phase: str, metric: str) -> float:
    return _average(_finite(values.filter(phase=phase, metric=metric)["value"]))


def _average(numbers: list[float]) -> float:
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def _drop(values: pl.DataFrame) -> float:
    """Lower bound of the drop of the entropy from mix to compress."""
    wide = _wide(values, "entropy_normalized")
    return statistics(pl.Series([_finite(wide["mix"] - wide["compress"])]))["low"][0]


def mark(side: Side, bound: float, low: float, high: float) -> str:
    """On which side of a bound an interval lies.

    Args:
        side: of the bound, on which the claim is.
        bound: of the claim.
        low: lower end of the interval.
        high: upper end; NaN for fewer than two prompts.

    Example:
        At least 0.3: [0.3, 0.5] is as the paper says, [0.1, 0.29] is not here, [0.2, 0.4] cannot be told.
    """
    if math.isnan(low) or math.isnan(high):
        return UNTOLD
    if side in ("below", "at most"):
        side, bound, low, high = ("above" if side == "below" else "at least"), -bound, -high, -low
    if side == "above":
        return AS_SAID if low > bound else NOT_HERE if high <= bound else UNTOLD
    return AS_SAID if low >= bound else NOT_HERE if high < bound else UNTOLD


def phase_marks(found: pl.DataFrame) -> dict[str, str]:
    """The mark of each phase, from the claims of one model on one data set; none without claims."""
    marks = dict[str, str]()
    for phase in PHASES:
        own = set(found.filter(pl.col("decides") & (pl.col("phase") == phase))["mark"].drop_nulls())
        if own:
            marks[phase] = NOT_HERE if NOT_HERE in own else UNTOLD if UNTOLD in own else AS_SAID
    return marks


def row_effect(course: Course, layers: pl.LazyFrame | pl.DataFrame, *, sink_position: int = 0) -> dict[str, Any]:
    """What the largest row does for the compression of one model on one data set.

    Args:
        course: of its row ratios.
        layers: rows by prompt and state.
        sink_position: the sink's, whose alignment is known where no row is massive.

    Returns:
        `row_norm_share` (of sigma_1^2, explained by the row's norm alone) and `row_aligned_share` (with alignment),
        means over compress; `row_explains` ("norm" | "alignment" | "neither", null without numbers); `given_back` with
        `given_back_low`, `given_back_high` and `given_back_n`; `row_compresses` ("yes" | "no" | "partly", null).

    Example:
        Entropies 0.1 in compress and 0.5 in mix, 0.46 without the massive row: 0.9 of the drop is given back.
    """
    columns = set(layers.collect_schema().names())
    if course.compress is None or not columns >= _NEEDED:
        return {
            **dict.fromkeys(("row_norm_share", "row_aligned_share", *_GIVEN_BACK), math.nan),
            "given_back_n": 0,
            **dict.fromkeys(("row_explains", "row_compresses")),
        }
    mine = layers.lazy().filter(*is_of(course.key), pl.col("prompt").is_in(course.prompts.tolist()))
    inside = pl.col("state").is_between(course.compress.first, course.compress.last)
    norm, aligned = _row_shares(mine.filter(inside), sink_position)
    explains = [name for name, share in (("norm", norm), ("alignment", aligned)) if share >= EXPLAINS]
    mix = pl.col("state").is_in([state for state, phase in enumerate(course.phases()) if phase == "mix"])
    back = statistics(pl.Series([_finite(_given_back(mine, mix, inside))])).row(0, named=True)
    low, high = back["low"], back["high"]
    return {
        "row_norm_share": norm,
        "row_aligned_share": aligned,
        "row_explains": next(iter(explains), None if math.isnan(norm) else "neither"),
        "given_back": back["mean"],
        "given_back_low": low,
        "given_back_high": high,
        "given_back_n": back["n"],
        "row_compresses": None if math.isnan(low) else "yes" if low > GIVEN_BACK else "no" if high < KEPT else "partly",
    }


def _row_shares(compress: pl.LazyFrame, sink_position: int) -> tuple[float, float]:
    """Of sigma_1^2, what the row's norm alone explains, and with alignment."""
    whole = pl.col("frobenius_sq") * pl.col("anisotropy")
    aligned = (
        pl.when(pl.col("massive_row_count") > 0)
        .then(pl.col("massive_share"))
        .when(pl.col("row_position") == sink_position)
        .then(pl.col("anisotropy_bound"))
    )
    shares = compress.select(
        norm=((pl.col("row_ratio") * pl.col("median_norm")) ** 2 / whole), aligned=aligned / pl.col("anisotropy")
    ).collect()
    return _average(_finite(shares["norm"])), _average(_finite(shares["aligned"]))


def _given_back(rows: pl.LazyFrame, mix: pl.Expr, compress: pl.Expr) -> pl.Series:
    """By prompt, the share of the entropy's drop that is gone without the massive rows; null without a drop."""
    without = pl.col("entropy_without_massive_normalized").fill_null(math.nan)
    per_prompt = (
        rows.sort("prompt", "state")
        .group_by("prompt", maintain_order=True)
        .agg(
            mix=_ENTROPY.filter(mix).mean(),
            entropy=_ENTROPY.filter(compress).mean(),
            without=without.filter(compress).mean(),
        )
    )
    drop = pl.when(pl.col("mix") > pl.col("entropy")).then(pl.col("mix") - pl.col("entropy"))
    return per_prompt.select(back=(pl.col("without") - pl.col("entropy")) / drop).collect()["back"]


_ENTROPY = _number("entropy_normalized")
_GIVEN_BACK = ("given_back", "given_back_low", "given_back_high")
_NEEDED = {
    "median_norm",
    "frobenius_sq",
    "anisotropy",
    "anisotropy_bound",
    "massive_share",
    "massive_row_count",
    "row_position",
    "entropy_without_massive_normalized",
}
_PLACES: dict[str, Any] = {"index": pl.Int64, "phase": pl.String}
_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(KEYS, pl.String),
    **dict.fromkeys(("phase", "claim", "metric", "form", "side"), pl.String),
    **dict.fromkeys(("bound", "mean", "low", "high"), pl.Float64),
    "n": pl.Int64,
    **dict.fromkeys(("here", "there"), pl.Float64),
    "mark": pl.String,
    "decides": pl.Boolean,
    "reason": pl.String,
}

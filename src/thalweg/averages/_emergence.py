"""When do massive activations, sinks and the valley appear in training.

Conventions: a checkpoint is a (model, revision); values are means over prompts, as in the profile (of ratios the
geometric mean). State 0 is no extreme, since no block has written it: the largest norm ratio and the least entropy are
those of states 1..L, the largest sink rate that of blocks 0..L-1. It counts among the states before the least entropy,
which block 0 may write. A phenomenon emerges at the first checkpoint from
which its condition holds to the last one; a checkpoint where the value is undefined does not fulfil it. The thresholds
are those of the definition, whatever tau and massive ratio a run was measured with. No torch.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from thalweg.averages._courses import KEYS
from thalweg.averages._phases import of_written_states, trajectory
from thalweg.options import MASSIVE_RATIO

NUMBERED = re.compile(r"(?:step|checkpoint|ckpt|iter(?:ation)?)[-_ ]?(\d+)(?![\d.]*[A-Za-z.])", re.IGNORECASE)
BARE = re.compile(r"(\d+)")
LAST = "main"


@dataclass(frozen=True, slots=True)
class _Phenomenon:
    """What is looked for, in which metric of the curves, and from which value on it is there."""

    name: str
    metric: str
    definition: str
    threshold: float
    rises: bool = True

    def is_there(self, value: float) -> bool:
        return value >= self.threshold if self.rises else value <= self.threshold


MASSIVE = _Phenomenon("massive activations", "max_norm_ratio", f"max norm ratio >= {MASSIVE_RATIO:g}", MASSIVE_RATIO)
SINKS = _Phenomenon("sinks", "max_sink_rate", "max sink rate >= 0.3", 0.3)
VALLEY = _Phenomenon(
    "valley", "entropy_ratio", "min normalized entropy <= half of the largest at an earlier state", 0.5, rises=False
)


def training_step(revision: str, /) -> int | None:
    """The number of optimizer steps that a revision's or a directory's name says.

    Args:
        revision: such as "step143000", "checkpoint-500", "global_step100", "step1000-tokens2B" or "500".

    Returns:
        The number; None where the name has none that must be it, as "main", "v1.0" or "step1k".

    Example:
        "checkpoint-500": 500.
    """
    number = NUMBERED.search(revision) or BARE.fullmatch(revision)
    return int(number[1]) if number else None


def training_order(revisions: Sequence[str], /) -> list[str]:
    """Revisions in the order of training: by step, "main" last.

    Args:
        revisions: of one model.

    Returns:
        The same; in the order given if one of them, beside "main", names no step.

    Example:
        "main", "step10", "step2": "step2", "step10", "main".
    """
    steps = {revision: training_step(revision) for revision in revisions}
    if any(step is None and revision != LAST for revision, step in steps.items()):
        return list(revisions)
    return sorted(revisions, key=lambda revision: (revision == LAST, steps[revision] or 0))


def checkpoint_curves(profile: pl.DataFrame) -> pl.DataFrame:
    """What each checkpoint reaches anywhere in depth, a value a metric.

    Args:
        profile: what `profile` returns, of several checkpoints or models.

    Returns:
        Columns model, revision, data, step (null where the name says none), order (0.. in the order of training),
        metric, index (the state or block where it is reached; the first of several), value; both are undefined
        (null, NaN) where the profile has no value. Metrics: max_norm_ratio, max_sink_norm, min_entropy_normalized,
        peak_value (largest magnitude, with its sign) over states 1..L; max_sink_rate over blocks;
        earlier_entropy_normalized, the largest at the states before the least one's, 0 included; entropy_ratio =
        min_entropy_normalized / earlier_entropy_normalized.

    Example:
        Normalized entropies 0.9, 0.8, 0.2, 0.6 at states 0..3: min_entropy_normalized 0.2 at 2, entropy_ratio 0.22.
    """
    rows = list[dict[str, object]]()
    for (model, data), training in profile.group_by("model", "data", maintain_order=True):
        by_revision = {str(revision): rows for (revision,), rows in training.group_by("revision", maintain_order=True)}
        for order, revision in enumerate(training_order(list(by_revision))):
            place = {"model": model, "revision": revision, "data": data}
            key = {**place, "step": training_step(revision), "order": order}
            reached = _reached(by_revision[revision])
            rows += [{**key, "metric": name, "index": at, "value": value} for name, (at, value) in reached.items()]
    return pl.DataFrame(rows, schema=_CURVES)


def emergence(curves: pl.DataFrame) -> pl.DataFrame:
    """The checkpoint at which each phenomenon emerges (the paper, Fig. 2), for models with several checkpoints.

    Args:
        curves: what `checkpoint_curves` returns.

    Returns:
        Columns model, data, phenomenon ("massive activations" | "sinks" | "valley"), revision, step, order (all null
        if it is not there at the last checkpoint), metric (of the curves), threshold, definition, reason (why never, or
        what to know about it, else null).

    Example:
        max_norm_ratio 12, 3, 40, 50 at steps 0, 10, 20, 30: massive activations from step 20 on, and the reason "it was
        there at step0 and lost again".
    """
    rows = list[dict[str, object]]()
    for (model, data), training in curves.group_by("model", "data", maintain_order=True):
        if training["revision"].n_unique() > 1:
            place = {"model": model, "data": data}
            rows += [{**place, **_emerged(phenomenon, training)} for phenomenon in (MASSIVE, SINKS, VALLEY)]
    return pl.DataFrame(rows, schema=_EMERGENCE)


_Place = tuple[int | None, float]
_NOWHERE: _Place = (None, math.nan)


def _reached(profile: pl.DataFrame) -> dict[str, _Place]:
    """The extreme of each metric, and where."""
    named = ("norm_ratio", "sink_norm", "peak_value", "entropy_normalized")
    norm_ratio, sink_norm, peak_value, entropy = (of_written_states(profile, name) for name in named)
    every, least = trajectory(profile, "state", "entropy_normalized"), _extreme(entropy, min)
    earlier = _extreme({state: value for state, value in every.items() if state < (least[0] or 0)}, max)
    ratio = least[1] / earlier[1] if earlier[1] > 0 else math.nan
    return {
        "max_norm_ratio": _extreme(norm_ratio, max),
        "max_sink_norm": _extreme(sink_norm, max),
        "peak_value": _extreme(peak_value, lambda values: max(values, key=abs)),
        "max_sink_rate": _extreme(trajectory(profile, "block", "sink_rate"), max),
        "min_entropy_normalized": least,
        "earlier_entropy_normalized": earlier,
        "entropy_ratio": (None if math.isnan(ratio) else least[0], ratio),
    }


def _extreme(values: dict[int, float], choose: Callable[[list[float]], float]) -> _Place:
    if not values:
        return _NOWHERE
    best = choose(list(values.values()))
    return next(index for index, value in values.items() if value == best), best


def _emerged(wanted: _Phenomenon, curves: pl.DataFrame) -> dict[str, object]:
    curve = curves.filter(pl.col("metric") == wanted.metric).sort("order")
    values = curve["value"].to_list()
    there = [wanted.is_there(value) for value in values]
    lost = max((at for at, is_there in enumerate(there) if not is_there), default=-1)
    first = curve.row(lost + 1, named=True) if lost + 1 < curve.height else None
    remarks = [_before(curve, there, lost), _why_never(wanted, curves, values[-1]) if first is None else None]
    return {
        "phenomenon": wanted.name,
        **{name: None if first is None else first[name] for name in ("revision", "step", "order")},
        "metric": wanted.metric,
        "threshold": wanted.threshold,
        "definition": wanted.definition,
        "reason": "; ".join(filter(None, remarks)) or None,
    }


def _before(curve: pl.DataFrame, there: list[bool], lost: int) -> str | None:
    """What came before the last checkpoint without it."""
    if lost < 0:
        return "it is there at the first checkpoint measured, and may be older"
    seen = [at for at in range(lost) if there[at]]
    return f"it was there at {curve['revision'][seen[-1]]} and lost again" if seen else None


def _why_never(wanted: _Phenomenon, curves: pl.DataFrame, value: float) -> str:
    if math.isnan(value):
        return "it is undefined at the last checkpoint"
    last = curves.filter(pl.col("order") == curves["order"].max())
    reached = dict(last.select("metric", "value").iter_rows())
    if wanted is VALLEY:
        return (
            f"at the last checkpoint the least is {reached['min_entropy_normalized']:.3g} "
            f"and the largest before it {reached['earlier_entropy_normalized']:.3g}"
        )
    return f"at the last checkpoint it is {value:.3g}"


_CURVES = {
    **dict.fromkeys(KEYS, pl.String),
    **dict.fromkeys(("step", "order"), pl.Int64),
    "metric": pl.String,
    "index": pl.Int64,
    "value": pl.Float64,
}
_EMERGENCE = {
    **dict.fromkeys(("model", "data", "phenomenon", "revision"), pl.String),
    **dict.fromkeys(("step", "order"), pl.Int64),
    "metric": pl.String,
    "threshold": pl.Float64,
    **dict.fromkeys(("definition", "reason"), pl.String),
}

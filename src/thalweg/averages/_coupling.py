"""Do norms, compression and sinks change together from layer to layer.

Conventions: trajectories are means over prompts: b = sink_norm and e = entropy at states 1..L, s = sink_rate at blocks
0..L-1. Each is z-scored, first differences are taken, r is Pearson's. (Scaling changes no correlation; it is done as
the paper says.) Pairs with a gap are left out. No torch.
"""

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from thalweg.averages._courses import KEYS
from thalweg.averages._phases import of_written_states, trajectory

COLUMNS = ("coupling_entropy", "coupling_sink", "coupling_sink_next")
LARGEST = 1 - 1e-12
FLAT = 1e-12


@dataclass(frozen=True, slots=True)
class Correlation:
    """A correlation, or NaN with the reason."""

    r: float
    reason: str | None = None


def coupling(profile: pl.DataFrame) -> pl.DataFrame:
    """Correlations of the changes of norm, entropy and sink rate over depth (the paper, section 3.1 and Appendix B).

    Args:
        profile: what `profile` returns.

    Returns:
        One row for each (model, revision, data): coupling_entropy = r(db_l, de_l), l = 2..L; coupling_sink = r(db_l,
        ds_l), state l with the block that reads it, l = 2..L-1; coupling_sink_next = r(db_l, ds_l+1); `..._std` NaN;
        reason. For several models on one data set a row "all models": Fisher averages, and the standard deviations of
        r.

    Example:
        b = 1, 2, 4, 5 against e = 8, 6, 2, 0 over states 1..4: db = 1, 2, 1, de = -2, -4, -2, coupling_entropy -1.
    """
    rows = [_row(key, group) for key, group in profile.group_by(KEYS, maintain_order=True)]
    frame = pl.DataFrame(rows, schema=_SCHEMA)
    by_data = frame.group_by("data", maintain_order=True)
    totals = [_total(group) for _, group in by_data if group["model"].n_unique() > 1]
    return pl.concat([frame, pl.DataFrame(totals, schema=_SCHEMA)])


def step_correlation(first: dict[int, float], second: dict[int, float], /, *, shift: int = 0) -> Correlation:
    """Pearson r of the first differences of two z-scored trajectories, step l against step l + shift.

    Args:
        first: values by index.
        second: values by index.
        shift: what is added to the index of the second.

    Returns:
        r in [-1, 1]; NaN with the reason for fewer than three pairs or a flat trajectory.

    Example:
        1, 2, 4, 5 against itself: 1.
    """
    for values in (first, second):
        if values and np.ptp(list(values.values())) <= FLAT * max(map(abs, values.values())):
            return Correlation(math.nan, "flat trajectory")
    steps, others = _steps(first), _steps(second)
    pairs = [(steps[index], others[index + shift]) for index in steps if index + shift in others]
    if len(pairs) < 3:
        return Correlation(math.nan, "fewer than three pairs")
    x, y = np.array(pairs).T
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    # Changes are in units of a standard deviation: rounding is 1e-15.
    if min(float(x @ x), float(y @ y)) < 1e-24:
        return Correlation(math.nan, "constant change")
    return Correlation(float(np.clip(x @ y / scale, -1, 1)))


def fisher_mean(correlations: list[float], /) -> float:
    """Average of correlations by Fisher's z, |r| clipped to 1 - 1e-12.

    Args:
        correlations: in [-1, 1]; NaN ones are left out.

    Returns:
        In (-1, 1); NaN for none.

    Example:
        0 and 0.8: tanh(atanh(0.8) / 2) = 0.5.
    """
    known = [r for r in correlations if not math.isnan(r)]
    return float(np.tanh(np.arctanh(np.clip(known, -LARGEST, LARGEST)).mean())) if known else math.nan


def _steps(values: dict[int, float]) -> dict[int, float]:
    """First differences of the z-scored trajectory, by the index they lead to."""
    scale = float(np.std(list(values.values()))) if values else math.nan
    return {index: (values[index] - values[index - 1]) / scale for index in values if index - 1 in values}


def _row(key: tuple[object, ...], profile: pl.DataFrame) -> dict[str, object]:
    norm, entropy = (of_written_states(profile, name) for name in ("sink_norm", "entropy"))
    sinks = trajectory(profile, "block", "sink_rate")
    correlations = {
        "coupling_entropy": step_correlation(norm, entropy),
        "coupling_sink": step_correlation(norm, sinks),
        "coupling_sink_next": step_correlation(norm, sinks, shift=1),
    }
    reasons = [f"{name}: {value.reason}" for name, value in correlations.items() if value.reason]
    return {
        **dict(zip(KEYS, key, strict=True)),
        **{name: value.r for name, value in correlations.items()},
        **{f"{name}_std": math.nan for name in COLUMNS},
        "reason": "; ".join(reasons) or None,
    }


def _total(rows: pl.DataFrame) -> dict[str, object]:
    known = {name: rows[name].drop_nans() for name in COLUMNS}
    return {
        "model": "all models",
        "revision": None,
        "data": rows["data"][0],
        **{name: fisher_mean(rows[name].to_list()) for name in COLUMNS},
        **{f"{name}_std": float(np.std(r.to_numpy(), ddof=1)) if len(r) > 1 else math.nan for name, r in known.items()},
        "reason": f"over {min(len(r) for r in known.values())} to {rows.height} models",
    }


_SCHEMA = {
    **dict.fromkeys(KEYS, pl.String),
    **dict.fromkeys(COLUMNS, pl.Float64),
    **{f"{name}_std": pl.Float64 for name in COLUMNS},
    "reason": pl.String,
}

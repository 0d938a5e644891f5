"""Which state embeds best: by MTEB, or by what a linear probe reads."""

import math
from typing import Any

import polars as pl

from thalweg.advice._answer import Answer
from thalweg.advice._exits import phase_of
from thalweg.shown import ranges
from thalweg.store import Findings, ModelFacts, Run

EMBEDDINGS = "which state for embeddings"


def best_embedding(run: Run, model: ModelFacts, span: tuple[int, int] | None, *, surveyed: bool) -> Answer | None:
    """Answer by the scores on most tasks of MTEB, else by the probe on most test examples, the latest of equal ones.

    None where there is neither.
    """
    own = (pl.col("model") == model.name) & (pl.col("revision") == model.revision)
    of_all = own & (pl.col("type") == "all")
    mtebs, probes = (list(reversed(run.experiments(name))) for name in ("mteb", "probe"))
    scored = [(findings, rows) for findings in mtebs if (rows := _rows(findings, "means", of_all))]
    scored = [pair for pair in scored if any(row["best"] for row in pair[1])]
    if scored:
        return _by_mteb(*max(scored, key=lambda pair: pair[1][0]["n"]), span, surveyed=surveyed)
    probed = [(findings, rows) for findings in probes if (rows := _rows(findings, "accuracy", own))]
    probed = [pair for pair in probed if _test(pair[1])]
    if probed:
        return _by_probe(*max(probed, key=lambda pair: _test(pair[1])[0]["n"]), span, surveyed=surveyed)
    return None


def _by_mteb(
    experiment: Findings, rows: list[dict[str, Any]], span: tuple[int, int] | None, *, surveyed: bool
) -> Answer:
    best, last = next(row for row in rows if row["best"]), rows[-1]
    unknown = any(row["tied"] is None for row in rows)
    tied = None if unknown else tuple(row["state"] for row in rows if row["tied"] and row is not best)
    counted = "1 task" if best["n"] == 1 else f"{best['n']} tasks"
    phase = phase_of(best["state"], span, surveyed=surveyed)
    interval = _interval(best["low"], best["high"])
    said = f"mean main score {best['mean']:.3f}{interval} over {counted} of MTEB{_pooled(experiment)}"
    if last is not best:
        said += f"; the last state {last['mean']:.3f}"
    return Answer(
        EMBEDDINGS,
        f"{_placed(best['state'], last['state'], phase)}: {said}; {_ties(tied, counted)}",
        f"mteb/{experiment.header.key}/means",
        best["state"],
        best["mean"],
        _finite(best["low"]),
        _finite(best["high"]),
        tied,
        phase,
    )


def _by_probe(
    experiment: Findings, rows: list[dict[str, Any]], span: tuple[int, int] | None, *, surveyed: bool
) -> Answer:
    """The best by validation accuracy where there is any, so that the test accuracy is not the luckiest one."""
    test = _test(rows)
    by = [row for row in rows if row["split"] == "validation" and math.isfinite(row["accuracy"])] or test
    known = {row["state"]: row for row in test}
    state = max((row for row in by if row["state"] in known), key=lambda row: row["accuracy"])["state"]
    best, last = known[state], test[-1]
    overlapping = [row for row in test if row["high"] >= best["low"] and row["low"] <= best["high"]]
    tied = tuple(row["state"] for row in overlapping if row is not best)
    phase = phase_of(state, span, surveyed=surveyed)
    chosen = "validation" if by is not test else "test"
    said = (
        f"chosen by the {chosen} accuracy of a linear probe on {best['data']}{_pooled(experiment)}, for want of MTEB: "
        f"test accuracy {best['accuracy']:.3f}{_interval(best['low'], best['high'])} on {best['n']:,} answers"
    )
    if last is not best:
        said += f"; the last state {last['accuracy']:.3f}"
    return Answer(
        EMBEDDINGS,
        f"{_placed(state, last['state'], phase)}: {said}; {_ties(tied, 'intervals')}",
        f"probe/{experiment.header.key}/accuracy",
        state,
        best["accuracy"],
        _finite(best["low"]),
        _finite(best["high"]),
        tied,
        phase,
    )


def _test(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["split"] == "test" and math.isfinite(row["accuracy"])]


def _rows(experiment: Findings, table: str, own: pl.Expr) -> list[dict[str, Any]]:
    return experiment.table(table).filter(own).sort("state").collect().to_dicts()


def _pooled(experiment: Findings) -> str:
    pooling = experiment.header.settings["pooling"]
    return "" if pooling == "mean" else f" ({pooling} token)"


def _placed(state: int, last: int, phase: str | None) -> str:
    where = "" if phase is None else f", {phase}"
    return f"state {state} of {last} ({state / max(last, 1):.0%} of depth{where})"


def _ties(tied: tuple[int, ...] | None, by: str) -> str:
    if tied is None:
        return f"{by} cannot tell which states are as good"
    if not tied:
        return f"by {by} no other state is as good"
    return f"by {by} not to be told from {'state' if len(tied) == 1 else 'states'} {ranges(tied)}"


def _interval(low: float | None, high: float | None) -> str:
    return f" [{low:.3f}, {high:.3f}]" if _finite(low) is not None and _finite(high) is not None else ""


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

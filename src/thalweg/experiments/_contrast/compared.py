"""The tables of a contrast: what differs between the ends of a ranking, for one model on one data set."""

from pathlib import Path

import numpy as np
import polars as pl

from thalweg.engines import progress_bar
from thalweg.experiments._contrast.formulas import Contrast, comparable, contrast, permutations_needed
from thalweg.experiments._contrast.prompts import ANY, Asked, Selected
from thalweg.experiments._contrast.tables import TABLES
from thalweg.experiments._contrast.values import HeadValues, head_values
from thalweg.store import Run

NAME = "contrast"
UNDEFINED = "undefined in more than half of the prompts"


def compare(run: Run, selected: Selected, asked: Asked, *, shown: bool) -> dict[str, pl.DataFrame]:
    """Give the rows of every table; where nothing can be compared, the reason in ``rankings`` alone."""
    if selected.reason is not None:
        return _nothing(selected, asked, selected.reason)
    found = head_values(run, selected.key, selected.prompts["prompt"], asked.compared)
    whole = comparable(found.values, by=asked.by)
    heads, prompts = int(whole.heads[asked.by].sum()), int(whole.prompts.sum())
    count = asked.per_side(prompts)
    undefined = selected.prompts.height - prompts
    if heads < 2:
        return _nothing(selected, asked, f"{heads} heads have a {asked.by}: there is no other head to rank by")
    if 2 * count > prompts:
        reason = f"{undefined:,} of {selected.prompts.height:,} prompts have heads whose scores are undefined"
        return _nothing(selected, asked, reason, undefined=undefined)
    values = {
        metric: np.where(whole.heads[metric], own[whole.prompts], np.float32("nan"))
        for metric, own in found.values.items()
    }
    permutations = permutations_needed(heads, asked.fdr)
    title = f"contrast: {Path(selected.pair.model).name} on {selected.pair.data}"
    with progress_bar(title, len(values) * permutations, shown=shown) as progress:
        result = contrast(
            values, by=asked.by, count=count, permutations=permutations, seed=asked.seed, advance=progress.rows
        )
    table = _heads(selected, found, values, result, asked, count)
    row = {
        "prompts": prompts,
        "per_side": count,
        "undefined": undefined,
        "heads": heads,
        "changed": table.filter(metric=asked.by)["changes"].sum(),
        "permutations": result.permutations,
        "exact": result.exact,
        "least_p": result.least_p,
        "reason": _remark(result, heads, count, asked),
    }
    return {
        "heads": table,
        "prompts": _prompts(selected, selected.prompts.filter(pl.Series(whole.prompts)), result),
        "rankings": _ranking(selected, asked, row),
    }


def _heads(
    selected: Selected,
    found: HeadValues,
    values: dict[str, np.ndarray],
    result: Contrast,
    asked: Asked,
    count: int,
) -> pl.DataFrame:
    ends = result.overall.top[:, 0], result.overall.bottom[:, 0]
    frames = list[pl.DataFrame]()
    for metric, changes in result.changes.items():
        above, below = (values[metric][rows].mean(axis=0, dtype=np.float64) for rows in ends)
        columns = {
            "block": found.blocks,
            "head": found.heads,
            **vars(changes),
            "changes": np.nan_to_num(changes.q, nan=1.0) <= asked.fdr,
            "overall_top": above,
            "overall_bottom": below,
            "overall_difference": above - below,
        }
        reason = pl.when(pl.col("q").is_nan()).then(pl.lit(UNDEFINED)).alias("reason")
        same = {**selected.key, "metric": metric, "per_side": count, "prompts": len(result.score)}
        frames.append(pl.DataFrame(columns).with_columns(reason, **{name: pl.lit(one) for name, one in same.items()}))
    return pl.concat(frames)


def _prompts(selected: Selected, prompts: pl.DataFrame, result: Contrast) -> pl.DataFrame:
    scored = prompts.with_columns(score=result.score)
    frames = [
        scored[rows[:, 0]].with_columns(pl.lit(side).alias("side"), pl.int_range(pl.len()).alias("rank"))
        for side, rows in (("top", result.overall.top), ("bottom", result.overall.bottom))
    ]
    key = [pl.lit(value).alias(name) for name, value in selected.key.items()]
    return pl.concat(frames).with_columns(key)


def _ranking(selected: Selected, asked: Asked, row: dict[str, object]) -> pl.DataFrame:
    known = {**selected.key, "by": asked.by, "length": selected.length, "fdr": asked.fdr}
    columns = TABLES["rankings"].schema
    whole = {**dict.fromkeys(columns), **known, "other_length": selected.other_length, **row}
    return pl.DataFrame([whole], schema=columns)


def _nothing(selected: Selected, asked: Asked, reason: str, *, undefined: int = 0) -> dict[str, pl.DataFrame]:
    row = {"prompts": 0, "undefined": undefined, "heads": 0, "changed": 0, "reason": reason}
    empty = {table: pl.DataFrame(schema=TABLES[table].schema) for table in ("heads", "prompts")}
    return {**empty, "rankings": _ranking(selected, asked, row)}


def _remark(result: Contrast, heads: int, count: int, asked: Asked) -> str | None:
    """What to know about it."""
    remarks = ["prompts of different lengths are compared, and sink scores fall with length"] * (asked.length == ANY)
    if count == 1:
        remarks.append("one prompt a side shows what differs and proves little: ask for a larger --top")
    if result.least_p > asked.fdr / heads:
        most = f"p cannot fall below {result.least_p:.2g} with {len(result.score):,} prompts, {count:,} a side"
        few = "no head can be found" if result.least_p > asked.fdr else "a few heads alone cannot be found"
        remarks.append(f"{most}: {few}; cut to a shorter --max-length, more prompts of a survey have one length")
    return "; ".join(remarks) or None

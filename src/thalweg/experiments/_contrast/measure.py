"""Contrast: prompts where heads sink most against those where they sink least (the paper, Figs. 5, 26, 27)."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import polars as pl

from thalweg.engines import progress_bar
from thalweg.errors import RunError, UsageError
from thalweg.experiments._contrast.formulas import Contrast, comparable, contrast, permutations_needed
from thalweg.experiments._contrast.prompts import ANY, SHARE, Asked, Selected, head_values, select
from thalweg.experiments._contrast.tables import TABLES
from thalweg.experiments._options import (
    BUNDLED_DATA,
    Data,
    Model,
    SurveyOptions,
    ThresholdOptions,
    is_name,
    survey_options,
)
from thalweg.experiments._session import command_line, versions
from thalweg.experiments._survey import survey
from thalweg.paths import is_directory
from thalweg.store import Findings, Run, Session, is_run, open_findings, open_run

NAME = "contrast"
LENGTH = 64
UNDEFINED = "undefined in more than half of the prompts"


def contrasted(
    model_or_run: Model,
    data: Data | None,
    out: str | Path | None,
    options: ThresholdOptions | None,
    asked: Asked,
) -> Findings:
    """Compare the prompts of a run, or of a model that is surveyed first."""
    if is_name(model_or_run) and is_run(model_or_run):
        _refuse_what_is_a_models(data, out, options)
        run = open_run(model_or_run)
        _require_finished(run)
    else:
        asked = replace(asked, length=LENGTH if asked.length is None else asked.length)
        run = _surveyed(model_or_run, data, out, options, asked.length)
    return _contrasted(run, asked, shown=options is None or options.progress)


def _contrasted(run: Run, asked: Asked, *, shown: bool) -> Findings:
    selections = [select(run, pair, asked) for pair in run.coverage]
    if all(selected.reason for selected in selections):
        raise UsageError(f"{run.path}: {selections[0].reason}" if selections else f"{run.path} holds no prompts.")
    settings = {**vars(asked), "share": SHARE}
    session = Session(command=command_line(), versions=versions())
    with open_findings(run.path, run.header, NAME, settings, TABLES, session=session) as writer:
        results = [_compared(run, selected, asked, shown=shown) for selected in selections]
        if not any(tables["heads"].height for tables in results):
            raise UsageError(f"{run.path}: nothing can be compared; {results[0]['rankings']['reason'][0]}.")
        for table in ("heads", "prompts", "rankings"):
            writer.write_table(table, pl.concat([tables[table] for tables in results], how="diagonal_relaxed"))
        writer.update(status="finished")
    return writer.reading()


def _refuse_what_is_a_models(data: object, out: object, options: ThresholdOptions | None) -> None:
    plain = SurveyOptions()
    given = [] if options is None else [field.name for field in fields(options)]
    changed = [name for name in given if name != "progress" and getattr(options, name) != getattr(plain, name)]
    names = ["data"] * (data is not None) + ["out"] * (out is not None) + changed
    if names:
        listed = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        raise UsageError(
            f"{listed}: a run is contrasted as it was measured. Leave it out, or pass a model instead of a run."
        )


def _require_finished(run: Run) -> None:
    again = f"`thalweg survey` command with `{run.as_out}`"
    if run.status != "finished":
        raise RunError(
            f"{run.path} is not finished: its status is {run.status}. The same {again} goes on where it stopped."
        )
    if not any(pair.prompts_kept for pair in run.coverage):
        raise RunError(
            f"{run.path} holds no scores of heads. A {again} and the same model, data and options measures them."
        )


def _surveyed(
    model: Model,
    data: Data | None,
    out: str | Path | None,
    options: ThresholdOptions | None,
    length: int | str | None,
) -> Run:
    from thalweg.experiments._prepare import named, prepare  # imports torch, which a run needs not

    name = named(model)[0]
    folder = Path(name)
    if is_name(model) and is_directory(folder) and not (folder / "config.json").exists():
        raise UsageError(f"expected a run or a model, {folder} is neither: it has no run.json and no config.json.")
    options, plain = survey_options(options), SurveyOptions()
    if isinstance(length, int):
        if options.max_length not in (plain.max_length, length):
            raise UsageError(f"prompts are cut to --length {length}; got --max-length {options.max_length} beside it.")
        options = replace(options, max_length=length)
    out = Path("runs") / f"{folder.resolve().name}-contrast-{length}" if out is None else out
    data = BUNDLED_DATA if data is None else data
    prepared = prepare(model, data, out=out, options=options)
    for how in prepared.tokenizations:
        if isinstance(length, int) and how.max_tokens < length:
            raise UsageError(f"--length {length}: {name} reads {how.max_tokens:,} tokens at most; ask for no more.")
    return survey(model, data, out=out, options=options)


def _compared(run: Run, selected: Selected, asked: Asked, *, shown: bool) -> dict[str, pl.DataFrame]:
    """Give the rows of every table; where nothing can be compared, the reason in ``rankings`` alone."""
    if selected.reason is not None:
        return _nothing(selected, asked, selected.reason)
    read = head_values(run, selected.key, selected.prompts["prompt"], asked.compared)
    whole = comparable(read.values, by=asked.by)
    heads, prompts = int(whole.heads[asked.by].sum()), int(whole.prompts.sum())
    count = asked.per_side(prompts)
    undefined = selected.prompts.height - prompts
    if heads < 2:
        return _nothing(selected, asked, f"{heads} heads have a {asked.by}: there is no other head to rank by")
    if 2 * count > prompts:
        reason = f"{undefined:,} of {selected.prompts.height:,} prompts have heads whose scores are undefined"
        return _nothing(selected, asked, reason, undefined=undefined)
    values = {
        metric: np.where(whole.heads[metric], numbers[whole.prompts], np.float32("nan"))
        for metric, numbers in read.values.items()
    }
    permutations = permutations_needed(heads, asked.fdr)
    title = f"contrast: {Path(selected.pair.model).name} on {selected.pair.data}"
    with progress_bar(title, len(values) * permutations, shown=shown) as progress:
        result = contrast(
            values, by=asked.by, count=count, permutations=permutations, seed=asked.seed, advance=progress.rows
        )
    same = {**selected.key, "per_side": count, "prompts": prompts}
    changes = [_changes(metric, numbers, result, asked.fdr) for metric, numbers in values.items()]
    places = {"block": pl.Series(read.blocks), "head": pl.Series(read.heads)}
    table = pl.concat([frame.with_columns(**places) for frame in changes]).with_columns(_literals(same))
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


def _changes(metric: str, values: np.ndarray, result: Contrast, fdr: float) -> pl.DataFrame:
    """One metric of every head."""
    changes, ends = result.changes[metric], (result.overall.top, result.overall.bottom)
    above, below = (values[rows[:, 0]].mean(axis=0, dtype=np.float64) for rows in ends)
    overall = {"overall_top": above, "overall_bottom": below, "overall_difference": above - below}
    table = pl.DataFrame({**vars(changes), "changes": np.nan_to_num(changes.q, nan=1.0) <= fdr, **overall})
    reason = pl.when(pl.col("q").is_nan()).then(pl.lit(UNDEFINED))
    return table.with_columns(metric=pl.lit(metric), reason=reason)


def _prompts(selected: Selected, prompts: pl.DataFrame, result: Contrast) -> pl.DataFrame:
    scored = prompts.with_columns(score=result.score)
    frames = [
        scored[rows[:, 0]].with_columns(pl.lit(side).alias("side"), pl.int_range(pl.len()).alias("rank"))
        for side, rows in (("top", result.overall.top), ("bottom", result.overall.bottom))
    ]
    return pl.concat(frames).with_columns(_literals(selected.key))


def _literals(columns: Mapping[str, str | int]) -> list[pl.Expr]:
    return [pl.lit(value).alias(name) for name, value in columns.items()]


def _ranking(selected: Selected, asked: Asked, row: dict[str, object]) -> pl.DataFrame:
    known = {"by": asked.by, "length": selected.length, "other_length": selected.other_length, "fdr": asked.fdr}
    schema = TABLES["rankings"].schema
    return pl.DataFrame([{**dict.fromkeys(schema), **selected.key, **known, **row}], schema=schema)


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

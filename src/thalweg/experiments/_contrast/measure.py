"""Contrast: prompts where heads sink most against those where they sink least (the paper, Figs. 5, 26, 27)."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import polars as pl

from thalweg.errors import RunError, UsageError
from thalweg.experiments._contrast.compared import NAME, compare
from thalweg.experiments._contrast.prompts import SHARE, Asked, select
from thalweg.experiments._contrast.tables import TABLES
from thalweg.experiments._options import BUNDLED_DATA, SurveyOptions, ThresholdOptions, survey_options
from thalweg.experiments._prepare import command_line, prepare, versions
from thalweg.experiments._survey import survey
from thalweg.store import Findings, FindingsWriter, Run, Session, open_findings

LENGTH = 64


def _contrasted(run: Run, asked: Asked, options: ThresholdOptions | None) -> Findings:
    selections = [select(run, pair, asked) for pair in run.coverage]
    if all(one.reason for one in selections):
        raise UsageError(f"{run.path}: {selections[0].reason}" if selections else f"{run.path} holds no prompts.")
    settings = {**vars(asked), "share": SHARE}
    shown = options is None or options.progress
    session = Session(command=command_line(), versions=versions())
    with open_findings(run.path, run.header, NAME, settings, TABLES, session=session) as writer:
        results = [compare(run, one, asked, shown=shown) for one in selections]
        _require_some(run, results)
        _write(writer, results)
        writer.update(status="finished")
    return writer.reading()


def _require_some(run: Run, results: Sequence[dict[str, pl.DataFrame]]) -> None:
    if not any(one["heads"].height for one in results):
        raise UsageError(f"{run.path}: nothing can be compared; {results[0]['rankings']['reason'][0]}.")


def _write(writer: FindingsWriter, results: Sequence[dict[str, pl.DataFrame]]) -> None:
    for table in ("heads", "prompts", "rankings"):
        writer.write_table(table, pl.concat([one[table] for one in results], how="diagonal_relaxed"))


def _refuse_what_is_a_models(data: object, out: object, options: ThresholdOptions | None) -> None:
    plain = SurveyOptions()
    given = [] if options is None else [one.name for one in fields(options)]
    changed = [name for name in given if name != "progress" and getattr(options, name) != getattr(plain, name)]
    names = ["data"] * (data is not None) + ["out"] * (out is not None) + changed
    if names:
        listed = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        raise UsageError(
            f"{listed}: a run is contrasted as it was measured. Leave it out, or pass a model instead of a run."
        )


def _require_finished(run: Run) -> None:
    again = f"`thalweg survey` command with `--out {run.path}`"
    if run.status != "finished":
        raise RunError(
            f"{run.path} is not finished: its status is {run.status}. The same {again} goes on where it stopped."
        )
    if not any(pair.prompts_kept for pair in run.coverage):
        raise RunError(
            f"{run.path} holds no scores of heads. A {again} and the same model, data and options measures them."
        )


def _surveyed(
    model: str | Path,
    data: str | Path | Sequence[str | Path] | None,
    out: str | Path | None,
    options: ThresholdOptions | None,
    length: int | str | None,
) -> Run:
    folder = Path(model)
    beside = folder.parent.glob("*/run.json") if len(folder.parts) > 1 and not folder.exists() else ()
    if runs := sorted(one.parent.name for one in beside):
        raise UsageError(f"expected a run or a model; {folder} is not there. {folder.parent} holds {', '.join(runs)}.")
    if folder.is_dir() and not (folder / "config.json").exists():
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
            raise UsageError(f"--length {length}: {model} reads {how.max_tokens:,} tokens at most; ask for no more.")
    return survey(model, data, out=out, options=options)

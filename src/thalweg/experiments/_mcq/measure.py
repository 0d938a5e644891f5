"""Multiple choice: how often every state chooses right, scored by lm-eval (the paper, Figs. 29 and 30)."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.capture import IdentifiedModel, Subject
from thalweg.engines import progress_bar
from thalweg.experiments._mcq.likelihoods import LogLikelihoods
from thalweg.experiments._mcq.requests import HarnessOptions
from thalweg.experiments._options import Names, SurveyOptions
from thalweg.lenses import LogitLens, TunedFiles, TunedLens, tuned_lens
from thalweg.store import FindingsWriter

NAME = "mcq"


def _write(
    writer: FindingsWriter, key: dict[str, Any], tasks: Any, likelihoods: LogLikelihoods, options: SurveyOptions
) -> None:
    """Answer what is missing, and have every state scored."""
    own = f"{Path(key['model']).name} on {', '.join(tasks.tasks)}"
    found = likelihoods(tasks.requests, title=f"mcq: {own}")
    rows = list[dict[str, Any]]()
    with progress_bar(f"scores: {own}", found.shape[1], shown=options.progress) as progress:
        for state in range(found.shape[1]):
            answers = [(float(value), bool(greedy)) for value, greedy in found[:, state]]
            rows += [{**key, "state": state, **asdict(score)} for score in tasks.scores(answers)]
            progress.rows(1)
    writer.write_table("scores", pl.DataFrame(rows, infer_schema_length=None))


def _lens(
    files: TunedFiles | None, model: IdentifiedModel, final_norm: bool, subject: Subject
) -> LogitLens | TunedLens:
    return LogitLens(subject, final_norm=final_norm) if files is None else tuned_lens(subject, files, model)


def _lens_settings(files: TunedFiles | None, final_norm: bool) -> dict[str, Any]:
    """What of the lens changes a number."""
    if files is None:
        return {"lens": "logit", "final_norm": final_norm}
    return {"lens": "tuned", "translators": files.digest[:16]}


def _asked(model: IdentifiedModel, names: list[str], asked: HarnessOptions, longest: int) -> dict[str, Any]:
    """What else changes a number; the run may hold other models."""
    return {
        "model": model.name,
        "revision": model.revision,
        "tasks": names,
        "num_fewshot": asked.num_fewshot,
        "limit": asked.limit,
        "include_path": list(asked.include_path),
        "max_length": longest,
        "bos": asked.bos,
    }


def _listed(given: Names) -> list[str]:
    every = [given] if isinstance(given, str | Path) else given
    return list(dict.fromkeys(str(one) for one in every))

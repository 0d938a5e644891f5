"""Multiple choice: how often every state chooses right, scored by lm-eval (the paper, Figs. 29 and 30)."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.engines import progress_bar
from thalweg.experiments._mcq.likelihoods import LogLikelihoods
from thalweg.experiments._mcq.requests import HarnessOptions
from thalweg.experiments._mcq.tables import TABLES
from thalweg.experiments._options import Names
from thalweg.experiments._prepare import Prepared
from thalweg.lenses import LensChoice
from thalweg.store import Findings, FindingsWriter

NAME = "mcq"
PACKAGE = "lm-eval"


def answered(
    prepared: Prepared, names: Sequence[str], tasks: Any, asked: HarnessOptions, choice: LensChoice
) -> Findings:
    """Answer what is missing, and have every state scored.

    Args:
        prepared: one model and where the run is.
        names: of tasks and groups, as they were asked for.
        tasks: what the harness, which is an import of its own, makes of them.
        asked: how it asks them.
        choice: through which lens states are read.
    """
    settings = {
        **prepared.key,  # the run may hold other models
        "tasks": list(names),
        "num_fewshot": asked.num_fewshot,
        "limit": asked.limit,
        "include_path": list(asked.include_path),
        "max_length": tasks.max_length,
        "bos": asked.bos,
        **choice.settings,
    }
    with prepared.opened(NAME, settings, TABLES) as writer:
        likelihoods = LogLikelihoods(prepared.model, prepared.path, choice, prepared.options)
        _write(writer, {**prepared.key, "lens": settings["lens"]}, tasks, likelihoods, shown=asked.bars)
        writer.update(status="finished")
    return writer.reading()


def listed(given: Names) -> list[str]:
    """Names as texts, each once."""
    return list(dict.fromkeys([str(given)] if isinstance(given, str | Path) else map(str, given)))


def _write(
    writer: FindingsWriter, key: dict[str, Any], tasks: Any, likelihoods: LogLikelihoods, *, shown: bool
) -> None:
    title = f"{Path(key['model']).name} on {', '.join(tasks.tasks)}"
    values = likelihoods(tasks.requests, title=f"mcq: {title}")
    rows = list[dict[str, Any]]()
    with progress_bar(f"scores: {title}", values.shape[1], shown=shown) as progress:
        for state in range(values.shape[1]):
            answers = [(float(value), bool(greedy)) for value, greedy in values[:, state]]
            rows += [{**key, "state": state, **asdict(score)} for score in tasks.scores(answers)]
            progress.rows(1)
    writer.write_table("scores", pl.DataFrame(rows, infer_schema_length=None))

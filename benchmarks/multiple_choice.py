"""Multiple choice at every state beside one run of lm-eval for the last: a part of ``make bench``."""

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from thalweg import metrics
from thalweg.capture import IdentifiedModel, subject_of
from thalweg.experiments import SurveyOptions
from thalweg.experiments._mcq.harness import LmEvalTasks
from thalweg.experiments._mcq.measure import HarnessOptions, LogLikelihoods
from thalweg.lenses import LensChoice, LogitLens
from thalweg.options import LoadOptions

QUESTIONS, BATCH = 4, 8
NAME = "arc_rows"


@dataclass(frozen=True)
class _Proved(LensChoice):
    """A lens that is on its model already."""

    lens: LogitLens = field(kw_only=True)

    def on(self, *_: object) -> LogitLens:
        return self.lens


def questions() -> tuple[str, list[dict[str, Any]]]:
    """ARC Easy where the test data is there, else questions made of words."""
    folder = os.environ.get("THALWEG_TEST_DATA")
    path = Path(folder) / "data" / "arc_easy_test.jsonl" if folder else None
    if path is not None and path.exists():
        rows = [json.loads(line)["question"] for line in path.read_text().splitlines()[:QUESTIONS]]
        return "ARC Easy", [
            {"ask": row["stem"], "options": [one["text"] for one in row["choices"]], "right": 0} for row in rows
        ]
    words = ["the", "river", "runs", "through", "a", "valley", "and", "carries", "stones"]
    asked = [" ".join(words[row % 3 :] * 2) for row in range(QUESTIONS)]
    return "made-up questions", [
        {"ask": ask, "options": [" ".join(words[place : place + 4]) for place in range(4)], "right": 0} for ask in asked
    ]


def mcq_ratios(model: Any, tokenizer: Any, runs: int) -> tuple[str, list[float], list[float]]:
    """Seconds of all states over those of one lm-eval run with the unembedding of the extra states, and over the run.

    Both begin with the task's YAML and end with its scores; the model and lm-eval are loaded before.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    subject, (name, rows) = subject_of(model), questions()
    lens = LogitLens(subject)  # its proof belongs to the loading
    own = IdentifiedModel("m", "", LoadOptions(), model.config, tokenizer, "local", None, "", "", "float32", None)
    with tempfile.TemporaryDirectory() as folder:
        _write_task(Path(folder), rows)
        built: list[LmEvalTasks] = []

        def ours() -> None:
            with tempfile.TemporaryDirectory() as run:
                options = HarnessOptions(include_path=(folder,), bars=False)
                tasks = LmEvalTasks([NAME], tokenizer, model.config, options)
                quiet = SurveyOptions(progress=False)
                found = LogLikelihoods(own, run, _Proved(lens=lens), quiet, lambda: subject)(tasks.requests)
                for state in range(found.shape[1]):
                    tasks.scores([(float(value), bool(greedy)) for value, greedy in found[:, state]])
                built.append(tasks)

        def theirs() -> None:
            loaded = TaskManager(include_path=folder, include_defaults=False).load([NAME])
            evaluate(HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH), loaded, log_samples=False)

        ours(), theirs()
        count = sum(len(request.targets) for request in built[0].requests)
        over_both, over_one = [], []
        for _ in range(runs):
            mine, other, extra = _seconds(ours), _seconds(theirs), _seconds(lambda: _unembed(lens, count))
            over_both.append(mine / (other + extra))
            over_one.append(mine / other)
    return f"{name}, {len(rows)} questions", over_both, over_one


@torch.no_grad()
def _unembed(lens: LogitLens, count: int) -> None:
    """The rows that predict a continuation at the states before the last, through the lens."""
    rows = torch.randn(count, lens.unembedding.head.in_features)
    for state in range(lens.last):
        for piece in rows.split(lens.rows_at_once):
            metrics.log_probabilities(lens.logits(state, piece))


def _write_task(folder: Path, rows: list[dict[str, Any]]) -> None:
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": NAME,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "Question: {{ask}}\nAnswer:",
        "doc_to_target": "right",
        "doc_to_choice": "options",
        "metric_list": [{"metric": name, "aggregation": "mean"} for name in ("acc", "acc_norm")],
    }
    (folder / f"{NAME}.yaml").write_text(yaml.safe_dump(task))


def _seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start

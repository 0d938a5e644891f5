"""Multiple choice at all states by `thalweg mcq`, over lm-eval's own run for the last state.

Both begin with the task's YAML and end with its scores; the model and lm-eval are loaded before. What is asked of the
other states is their unembedding, so it is added to lm-eval's run in the first comparison.
"""

import json
import logging
import os
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from benchmarks.measured import RATIOS, Asked, Seconds, Table, ratio_cells, rounds
from benchmarks.subjects import BLOCKS, SHAPE, identified, random_model
from thalweg import metrics
from thalweg.capture import subject_of
from thalweg.experiments import SurveyOptions
from thalweg.experiments._mcq.harness import LmEvalTasks
from thalweg.experiments._mcq.measure import HarnessOptions, LogLikelihoods
from thalweg.lenses import LensChoice, LogitLens
from thalweg.reference import byte_tokenizer

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


def tables(asked: Asked) -> list[Table]:
    """Questions with four options, a byte a token."""
    model, tokenizer = random_model(4096), byte_tokenizer()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    subject, (name, rows) = subject_of(model), questions()
    lens = LogitLens(subject)  # its proof belongs to the loading
    own = identified(model)
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

        ours()
        count = sum(len(request.targets) for request in built[0].requests)
        ways = {"ours": ours, "theirs": theirs, "extra": partial(_unembed, lens, count)}
        taken = rounds(ways, asked.runs)
    pairs = zip(taken["theirs"], taken["extra"], strict=True)
    both = [Seconds(one.cpu + more.cpu, one.wall + more.wall) for one, more in pairs]
    table = Table(f"{SHAPE}, vocabulary 4,096, {len(rows)} questions of {name}", ("comparison", *RATIOS, "target"))
    what = f"mcq at {BLOCKS + 1} states / one lm-eval run"
    table.rows.append((f"{what} and their unembedding", *ratio_cells(taken["ours"], both), "at most 1.5"))
    table.rows.append((what, *ratio_cells(taken["ours"], taken["theirs"]), ""))
    return [table]


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

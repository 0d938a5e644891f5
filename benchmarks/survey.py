"""A survey beside a plain forward pass, and the usual way of measuring beside a survey.

The plain forward pass runs the body of the model with SDPA, without unembedding and cache, on the batches that a survey
makes. `survey` is `thalweg.survey` end to end, tables and files included, with the model in memory; `measurement` is
the part of it that runs the model. The usual way runs prompts one by one with eager attention, keeps every map and
every state, and takes the singular values of each state: it gives two numbers where a survey gives sixty. Every round
runs all four in turn.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path

import torch

import thalweg
from benchmarks.measured import RATIOS, Asked, Table, ratio_cells, rounds
from benchmarks.peers.ways import eager, plain
from benchmarks.subjects import BUDGET, Measured, Task, measured_model, tasks
from thalweg.capture import Subject, subject_of
from thalweg.experiments._survey.batch import MeasureOptions, measure_batch
from thalweg.prompts import batches, padded

__all__ = ["surveyed", "tables"]

TARGETS = {("survey", "plain"): (1.25, 1.35), ("measurement", "plain"): (1.20, 1.30), ("usual way", "survey"): (1, 1.9)}
"""At problems and at 1,024 tokens: at most; of the usual way, at least."""


def tables(asked: Asked) -> list[Table]:
    """One row for each comparison and task."""
    measured = measured_model(asked.model)
    subject = subject_of(measured.model)
    table = Table(measured.name, ("comparison", "prompts", *RATIOS, "target"))
    for place, task in enumerate(tasks(measured.tokenizer, asked.problems, asked.texts)):
        taken = rounds(_ways(measured, subject, task), asked.runs)
        for (one, other), targets in TARGETS.items():
            sign = "at least" if one == "usual way" else "at most"
            target = f"{sign} {targets[place]:.2f}"
            table.rows.append([f"{one} / {other}", task.name, *ratio_cells(taken[one], taken[other]), target])
        sys.stderr.write(".")
    return [table]


def _ways(measured: Measured, subject: Subject, task: Task) -> dict:
    padded_batches = [torch.from_numpy(padded(batch)) for batch in batches(task.prompts, token_budget=BUDGET)]
    return {
        "plain": partial(plain, measured.model, padded_batches),
        "measurement": partial(_measured, subject, task),
        "survey": partial(surveyed, measured, task.texts),
        "usual way": partial(eager, measured.model, [prompt.tokens for prompt in task.prompts]),
    }


def _measured(subject: Subject, task: Task) -> None:
    for batch in batches(task.prompts, token_budget=BUDGET):
        measure_batch(subject, batch, MeasureOptions())


def surveyed(measured: Measured, texts: list[str], *, max_length: int = 1024) -> None:
    """`thalweg.survey` of a model in memory, tables and files included."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        thalweg.survey(
            measured.model, texts, tokenizer=measured.tokenizer, out=out, max_length=max_length, progress=False
        )

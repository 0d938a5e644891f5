"""A task of MTEB at every state by one run for each, over `thalweg mteb`, which makes one pass.

A run for a state is a forward pass that keeps every state, of which one is pooled; our features are written and read
back. Both go through mteb's own evaluation of STS12. The target is 0.6 times the number of states.
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, DatasetDict

from benchmarks.measured import RATIOS, Asked, Table, paired
from benchmarks.subjects import BUDGET, QUIET, SHAPE, identified, problem_texts, random_model
from thalweg.capture import IdentifiedModel, Subject, subject_of
from thalweg.experiments import TextFeatures
from thalweg.experiments._mteb.harness import States, mteb_tasks, state_scores
from thalweg.prompts import Row, batches, padded, tokenization, tokenize


def tables(asked: Asked) -> list[Table]:
    """Pairs of texts as long as problems."""
    subject = subject_of(random_model())
    name, texts = problem_texts(asked.prompts // 4)
    by_run, from_one_pass, states = _ways(subject, identified(subject.model), texts)
    table = Table(SHAPE, ("one run a state / one pass", *RATIOS, "target"))
    what = f"{states} states, {len(texts)} texts as long as {name}"
    table.rows.append((what, *paired(by_run, from_one_pass, min(asked.runs, 2)), f"at least {0.6 * states:.1f}"))
    return [table]


def _ways(
    subject: Subject, known: IdentifiedModel, texts: Sequence[str]
) -> tuple[Callable[[], None], Callable[[], None], int]:
    """By one run for each state; from one pass, as `thalweg mteb` does; how many states there are."""
    count = subject.model.config.num_hidden_layers + 1
    pairs = [
        {"sentence1": one, "sentence2": other, "score": float(row % 6)}
        for row, (one, other) in enumerate(zip(texts[::2], texts[1::2], strict=False))
    ]

    def by_run() -> None:
        _scored(pairs, States("usual", "usual", count, partial(_embedded, subject, known)))

    def from_one_pass() -> None:
        with tempfile.TemporaryDirectory() as folder:
            features = TextFeatures(known, folder, options=QUIET, subject=lambda: subject)
            _scored(pairs, States("ours", "ours", count, lambda own, state: features(own).state(state)))

    return by_run, from_one_pass, count


def _scored(pairs: list[dict[str, object]], states: States) -> None:
    (task,) = mteb_tasks("STS12")
    task.dataset, task.data_loaded = DatasetDict({"test": Dataset.from_list(pairs)}), True
    with tempfile.TemporaryDirectory() as folder:
        state_scores(task, states, Path(folder))


@torch.no_grad()
def _embedded(subject: Subject, known: IdentifiedModel, texts: Sequence[str], state: int) -> np.ndarray:
    """The usual way: a forward pass that keeps every state, of which one is pooled."""
    how = tokenization(known.tokenizer, bos=QUIET.bos)
    own = tokenize([Row(row, text) for row, text in enumerate(texts)], how).prompts
    rows = torch.zeros(len(texts), subject.model.config.hidden_size)
    for batch in batches(own, token_budget=BUDGET):
        tokens = torch.from_numpy(padded(batch))
        states = subject.parts.body(input_ids=tokens, use_cache=False, output_hidden_states=True).hidden_states
        for prompt, one in zip(batch, states[state], strict=True):
            rows[prompt.row] = one[: len(prompt)].mean(0)
    return rows.numpy()

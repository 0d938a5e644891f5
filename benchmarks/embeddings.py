"""A task of MTEB at every state, from one pass and by one run for each state: a part of ``make bench``."""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, DatasetDict

from thalweg.capture import IdentifiedModel, Subject
from thalweg.experiments import SurveyOptions, TextFeatures
from thalweg.experiments._mteb.harness import States, mteb_tasks, state_scores
from thalweg.prompts import Row, batches, padded, tokenization, tokenize

__all__ = ["embedding_ways"]


def embedding_ways(
    subject: Subject, identified: IdentifiedModel, texts: Sequence[str], options: SurveyOptions, budget: int
) -> tuple[Callable[[], None], Callable[[], None], int]:
    """By one run for each state; from one pass, as `thalweg mteb` does; how many states there are.

    Both go through mteb's own evaluation of STS12, over pairs of these texts.
    """
    count = subject.model.config.num_hidden_layers + 1
    pairs = [
        {"sentence1": one, "sentence2": other, "score": float(row % 6)}
        for row, (one, other) in enumerate(zip(texts[::2], texts[1::2], strict=False))
    ]

    def by_run() -> None:
        _scored(pairs, States("usual", "usual", count, partial(_embedded, subject, identified, options, budget)))

    def from_one_pass() -> None:
        with tempfile.TemporaryDirectory() as folder:
            features = TextFeatures(identified, folder, options=options, subject=lambda: subject)
            _scored(pairs, States("ours", "ours", count, lambda own, state: features(own).state(state)))

    return by_run, from_one_pass, count


def _scored(pairs: list[dict[str, object]], states: States) -> None:
    (task,) = mteb_tasks("STS12")
    task.dataset, task.data_loaded = DatasetDict({"test": Dataset.from_list(pairs)}), True
    with tempfile.TemporaryDirectory() as folder:
        state_scores(task, states, Path(folder))


@torch.no_grad()
def _embedded(
    subject: Subject, identified: IdentifiedModel, options: SurveyOptions, budget: int, texts: Sequence[str], state: int
) -> np.ndarray:
    """The usual way: a forward pass that keeps every state, of which one is pooled."""
    how = tokenization(identified.tokenizer, bos=options.bos)
    own = tokenize([Row(row, text) for row, text in enumerate(texts)], how).prompts
    rows = torch.zeros(len(texts), subject.model.config.hidden_size)
    for batch in batches(own, token_budget=budget):
        tokens = torch.from_numpy(padded(batch))
        states = subject.parts.body(input_ids=tokens, use_cache=False, output_hidden_states=True).hidden_states
        for prompt, one in zip(batch, states[state], strict=True):
            rows[prompt.row] = one[: len(prompt)].mean(0)
    return rows.numpy()

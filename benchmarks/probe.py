"""Linear probes by one run for each layer, over `thalweg probe`, which makes one pass and trains all layers together.

A run for a layer is a forward pass that keeps every state, of which one is pooled, and a torch layer trained on it.
Our features are written and read back. The target is 0.6 times the number of states.
"""

import tempfile
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from benchmarks.measured import RATIOS, Asked, Table, paired
from benchmarks.subjects import BLOCKS, BUDGET, QUIET, SHAPE, WIDTH, identified, random_model
from thalweg.capture import Subject, subject_of
from thalweg.experiments import TextFeatures
from thalweg.experiments._probe import Recipe
from thalweg.experiments._probe.classifiers import train_linear, training_order
from thalweg.prompts import Row, batches, padded, tokenization, tokenize
from thalweg.reference import byte_tokenizer


def tables(asked: Asked) -> list[Table]:
    """Texts of two classes as long as sentences, the paper's recipe."""
    subject = subject_of(random_model())
    lengths = [12 + 5 * row % 37 for row in range(asked.prompts)]
    texts = [chr(97 + row % 26) * length for row, length in enumerate(lengths)]  # a byte a token
    classes = torch.arange(len(texts)) % 2
    ways = (partial(way, subject, texts, classes) for way in (probed_by_layer, probed))
    table = Table(SHAPE, ("one run a layer / one pass", *RATIOS, "target"))
    what = f"{BLOCKS + 1} states, {len(texts)} texts of {sum(lengths) / len(lengths):.0f} tokens"
    table.rows.append((what, *paired(*ways, asked.runs), f"at least {0.6 * (BLOCKS + 1):.1f}"))
    return [table]


def probed(subject: Subject, texts: Sequence[str], classes: torch.Tensor) -> None:
    """What `thalweg probe` does once the model is loaded: features to disk, all states trained together."""
    with tempfile.TemporaryDirectory() as folder:
        found = TextFeatures(
            identified(subject.model),
            folder,
            options=QUIET,
            subject=lambda: subject,
        )(texts)
        train_linear(found, np.arange(len(texts)), classes, 2, Recipe())


def probed_by_layer(subject: Subject, texts: Sequence[str], classes: torch.Tensor) -> None:
    """The same, a forward pass over all texts for each layer."""
    how = tokenization(byte_tokenizer(), bos=QUIET.bos)
    own = tokenize([Row(row, text) for row, text in enumerate(texts)], how).prompts
    recipe = Recipe()
    for layer in range(BLOCKS + 1):
        features = torch.zeros(len(texts), WIDTH)
        with torch.no_grad():
            for batch in batches(own, token_budget=BUDGET):
                tokens = torch.from_numpy(padded(batch))
                states = subject.parts.body(input_ids=tokens, use_cache=False, output_hidden_states=True).hidden_states
                for prompt, state in zip(batch, states[layer], strict=True):
                    features[prompt.row] = state[: len(prompt)].mean(0)
        probe = torch.nn.Linear(WIDTH, 2)
        optimizer = torch.optim.Adam(probe.parameters(), lr=recipe.learning_rate)
        for step in training_order(len(texts), recipe):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(probe(features[step]), classes[step]).backward()
            optimizer.step()

"""The logit lens by one run for each layer, over `thalweg lens`, which makes one pass for all states.

A run for a layer is a forward pass with its logits, of which one state is read and compared. With a large vocabulary
the unembedding is the cost.
"""

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.measured import RATIOS, Asked, Table, paired
from benchmarks.subjects import BLOCKS, SHAPE, random_model, random_prompts
from thalweg.capture import Subject, subject_of
from thalweg.experiments._lens.measure import Decoder
from thalweg.lenses import LogitLens
from thalweg.prompts import Prompt


def tables(asked: Asked) -> list[Table]:
    """A small and a larger vocabulary."""
    own = random_prompts([128])
    table = Table(f"{SHAPE}, one prompt of 128 tokens", ("one run a layer / one pass", *RATIOS, "target"))
    for vocabulary, target in ((256, 0.6 * (BLOCKS + 1)), (16384, 2.0)):
        subject = subject_of(random_model(vocabulary))
        lens = LogitLens(subject)
        decoder = Decoder(subject, lens, lens)
        cells = paired(partial(one_run_a_layer, subject, own), partial(decoder.rows, own), asked.runs)
        table.rows.append((f"{BLOCKS + 1} states, vocabulary {vocabulary:,}", *cells, f"at least {target:.1f}"))
        sys.stderr.write(".")
    return [table]


@torch.no_grad()
def one_run_a_layer(subject: Subject, own: Sequence[Prompt]) -> None:
    """For each layer the model is run, and what that layer predicts is compared with what the model says."""
    model: Any = subject.model
    for layer in range(BLOCKS + 1):
        for prompt in own:
            tokens = torch.tensor([prompt.tokens])
            found = model(input_ids=tokens, output_hidden_states=True, use_cache=False)
            last, state = found.logits[0, :-1].log_softmax(-1), found.hidden_states[layer][0, :-1]
            # in the model's own list the last state has its norm behind it
            read = model.lm_head(state if layer == BLOCKS else model.model.norm(state)).log_softmax(-1)
            torch.nn.functional.nll_loss(read, tokens[0, 1:], reduction="sum")
            torch.special.entr(read.exp()).sum()
            (read.argmax(-1) == last.argmax(-1)).sum()
            (last.exp() * (last - read)).sum()

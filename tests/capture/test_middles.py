"""Between attention and MLP lies the block's input plus what its attention adds, where a module reads it."""

import pytest
import torch
from tests.capture.test_contributions import BY_HAND, hooks, random_tokens
from tests.families import BLOCKS, FAMILIES, HYBRIDS, tiny
from tests.interventions import by_hand
from transformers import AutoModelForCausalLM

from thalweg.capture import additive_sites, contributions, subject_of, watch_middles

PARALLEL = ("gpt_neox", "gptj", "codegen", "falcon", "phi", "cohere")
"""Their attention and MLP read the same."""


class Input:
    """Keeps each block's input plus what its attention adds, at two positions."""

    def __init__(self):
        self.rows, self.between = None, {}

    def state(self, _, state, /):
        self.rows = state[:, [0, 3]].double()

    def contribution(self, block, part, rows, /):
        if part == "attention":
            self.between[block] = self.rows + rows


@torch.no_grad()
def middles(model, tokens):
    """What was seen, by block, and the same by what attention adds."""
    subject, found, seen = subject_of(model), {}, Input()
    additive_sites(subject)
    before = hooks(model)
    with (
        contributions(subject, seen, (0, 3)),
        watch_middles(subject, lambda block, rows: found.update({block: rows.double()})),
    ):
        subject.parts.body(input_ids=tokens, use_cache=False)
    assert hooks(model) == before
    return found, seen.between


@pytest.mark.parametrize("family", [*FAMILIES, *HYBRIDS])
def test_it_is_seen_in_every_block_but_parallel_ones(family):
    found, expected = middles(tiny(family), random_tokens())
    assert sorted(found) == ([] if family in PARALLEL else list(range(BLOCKS)))
    for block, rows in found.items():
        torch.testing.assert_close(rows[:, [0, 3]], expected[block], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", [family for family in BY_HAND if family not in PARALLEL])
def test_it_is_that_of_a_forward_pass_by_hand(family):
    model, tokens = tiny(family), random_tokens()
    found, _ = middles(model, tokens)
    with torch.no_grad():
        for block in range(BLOCKS):
            without = by_hand.states(model, tokens, "mlp", (block,))[block + 1][:, 0]
            torch.testing.assert_close(found[block][:, 0], without.double(), rtol=1e-5, atol=1e-5)


def test_a_family_may_have_both_kinds():
    config = FAMILIES["gpt_neox"]()
    config.use_parallel_residual = False
    torch.manual_seed(0)
    found, expected = middles(AutoModelForCausalLM.from_config(config).eval(), random_tokens())
    assert sorted(found) == list(range(BLOCKS))
    torch.testing.assert_close(found[1][:, [0, 3]], expected[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_it_is_found_in_half_precision(family):
    found, expected = middles(tiny(family).to(torch.bfloat16), random_tokens())
    assert sorted(found) == list(range(BLOCKS))
    for block, rows in found.items():
        torch.testing.assert_close(rows[:, [0, 3]], expected[block], rtol=2e-2, atol=2e-2)

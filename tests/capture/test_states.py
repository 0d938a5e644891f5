"""States are shown as the model has them, at the cost of its own forward pass, and nothing stays behind."""

import pytest
import torch

from families import BLOCKS, FAMILIES, HYBRIDS, VOCABULARY, tiny
from thalweg.capture import subject_of, watch_states
from thalweg.errors import ProofError

TOKENS = torch.randint(2, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))


def hooks(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("family", [*FAMILIES, *HYBRIDS])
def test_every_state_is_hugging_faces_own(family):
    subject = subject_of(tiny(family))
    seen, before = {}, hooks(subject.model)
    with torch.no_grad(), watch_states(subject, lambda index, state: seen.update({index: state.clone()})):
        subject.parts.body(input_ids=TOKENS, use_cache=False)
    assert hooks(subject.model) == before
    with torch.no_grad():
        theirs = subject.parts.body(input_ids=TOKENS, use_cache=False, output_hidden_states=True).hidden_states
    assert sorted(seen) == list(range(BLOCKS + 1))
    for index in range(BLOCKS):  # theirs of the last state comes after the final norm
        assert torch.equal(seen[index], theirs[index]), index


def test_hooks_go_where_the_forward_pass_fails():
    subject = subject_of(tiny("llama"))
    before = hooks(subject.model)

    def see(index, _):
        if index == 1:
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"), watch_states(subject, see):
        subject.parts.body(input_ids=TOKENS, use_cache=False)
    assert hooks(subject.model) == before


def test_a_block_that_returns_no_stream_is_refused():
    subject = subject_of(tiny("llama"))
    handle = subject.parts.blocks[1].module.register_forward_hook(lambda *_: "text")
    with pytest.raises(ProofError, match="block 1 returned str"), watch_states(subject, lambda *_: None):
        subject.parts.body(input_ids=TOKENS, use_cache=False)
    handle.remove()

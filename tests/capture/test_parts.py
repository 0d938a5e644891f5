"""Where the parts of a model are."""

import pytest
import torch
import transformers as tf
from torch import nn

from families import BLOCKS, FAMILIES, GROUPED, HYBRIDS, tiny
from thalweg.capture import subject_of
from thalweg.capture._parts import find_parts, rewrap, unwrap
from thalweg.errors import ModelError

SOFTMAX = {"lfm2": (1,), "qwen3_next": (1,), "jamba": (1,), "recurrent_gemma": (2,)}


def llama4():
    options = {"attention_chunk_size": 5, "num_local_experts": 2, "intermediate_size_mlp": 48, "head_dim": 8}
    return tf.AutoModelForCausalLM.from_config(tf.Llama4TextConfig(**GROUPED, **options)).eval()


@pytest.mark.parametrize("family", [*FAMILIES, *HYBRIDS, "llama4_text"])
def test_the_body_runs_every_block_and_no_unembedding(family):
    model = llama4() if family == "llama4_text" else tiny(family)
    parts, ran = find_parts(model), []
    for block in parts.blocks:
        block.module.register_forward_hook(lambda *_, index=block.index: ran.append(index))
    parts.unembedding.register_forward_hook(lambda *_: ran.append("unembedding"))
    parts.final_norm.register_forward_hook(lambda *_: ran.append("final norm"))
    with torch.no_grad():
        parts.body(input_ids=torch.tensor([[3, 4, 5]]), use_cache=False)
    assert ran == [*range(BLOCKS), "final norm"]


@pytest.mark.parametrize("family", [*FAMILIES, *HYBRIDS])
def test_blocks_have_attention_where_they_have_softmax_attention(family):
    parts = subject_of(tiny(family)).parts
    seen = tuple(block.index for block in parts.blocks if block.attention is not None)
    assert seen == SOFTMAX.get(family, tuple(range(BLOCKS)))
    for block in parts.blocks:
        assert (block.attention is None) == (block.projection is None)
        assert block.attention is None or block.projection in list(block.attention.modules())


def test_a_model_without_its_list_of_blocks_is_refused():
    model = tiny("llama")
    model.config.num_hidden_layers = 7
    with pytest.raises(ModelError, match="has no list of 7 blocks, as its configuration says"):
        subject_of(model)


@pytest.mark.parametrize("kind", [tuple, list, dict])
def test_what_a_block_returns_is_changed_in_its_own_form(kind):
    state, other, cache = torch.zeros(1, 2, 3), torch.ones(1, 2, 3), object()
    output = {"state": state, "cache": cache} if kind is dict else kind((state, cache))
    assert unwrap(output) is state
    changed = rewrap(output, other)
    assert isinstance(changed, kind)
    assert unwrap(changed) is other
    assert (changed["cache"] if kind is dict else changed[1]) is cache
    assert unwrap(output) is state


def test_what_holds_no_tensor_is_none():
    assert [unwrap(one) for one in ((), [], {}, None, (None, 1))] == [None] * 5
    tensor = torch.zeros(1)
    assert unwrap(tensor) is tensor
    assert rewrap(tensor, nn.Parameter(tensor)) is not tensor

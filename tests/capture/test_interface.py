"""What a model says about who sees whom is respected: chunks, windows, a mask that the caller gives."""

import numpy as np
import pytest
import torch
import transformers as tf
from transformers.masking_utils import (
    AttentionMaskInterface,
    chunked_causal_mask_function,
    sliding_window_causal_mask_function,
)

from families import BLOCKS, CONTEXT, GROUPED, VOCABULARY, tiny
from thalweg.capture import observe, subject_of
from thalweg.capture._interface import NAME, TorchAttention, attention_implementation, listening
from thalweg.streaming import LogitRule, streamed_attention

TOLERANCE = 2e-5  # float32, through three blocks


class Notes:
    """Keeps statistics by block."""

    def __init__(self):
        self.statistics = {}

    def state(self, *_):
        pass

    def attention(self, block, seen, /):
        self.statistics[block] = seen.statistics


def random_tokens(*shape):
    return torch.randint(2, VOCABULARY, shape, generator=torch.Generator().manual_seed(3))


def observed(model, tokens, **inputs):
    notes = Notes()
    subject = subject_of(model)
    lengths = torch.full((len(tokens),), tokens.shape[1])
    with torch.no_grad(), observe(subject, notes, lengths):
        output = subject.parts.body(input_ids=tokens, use_cache=False, **inputs)
    return notes.statistics, output.last_hidden_state


def eager(model, tokens, **inputs):
    body = subject_of(model).parts.body
    with torch.no_grad(), attention_implementation(model, "eager"):
        return body(input_ids=tokens, use_cache=False, output_attentions=True, **inputs)


def entropy_of(attention):
    shares = attention / attention.sum(-1, keepdim=True)
    return -torch.xlogy(shares, shares).sum(-1)


def check(statistics, output, expected, real):
    """Equal to the eager maps over real rows; ``real`` is ``batch token``, rows that are no padding."""
    assert sorted(statistics) == list(range(BLOCKS))
    torch.testing.assert_close(output[real], expected.last_hidden_state[real], rtol=0, atol=1e-4)
    for block, attention in enumerate(expected.attentions):
        found, rows = statistics[block], attention * real[:, None, :, None]
        torch.testing.assert_close(found.column_mass, rows.sum(-2), rtol=0, atol=TOLERANCE * 10)
        inside = real[:, None].expand(-1, attention.shape[1], -1)
        for name, vector in (("row_entropy", entropy_of(attention)), ("diagonal", attention.diagonal(0, -2, -1))):
            torch.testing.assert_close(getattr(found, name)[inside], vector[inside], rtol=0, atol=TOLERANCE)


def test_chunked_attention_equals_the_models_own():
    torch.manual_seed(0)
    configuration = tf.Llama4TextConfig(
        **GROUPED,
        head_dim=8,
        attention_chunk_size=5,
        num_local_experts=2,
        num_experts_per_tok=1,
        intermediate_size_mlp=48,
        interleave_moe_layer_step=1,
        no_rope_layers=[1, 0, 1],
    )
    model = tf.AutoModelForCausalLM.from_config(configuration).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0)
    tokens = random_tokens(2, 23)
    expected = eager(model, tokens)
    assert (expected.attentions[0][..., 20:, :20] == 0).all()  # chunks of five, and it shows
    assert (expected.attentions[1][..., 20:, :20] > 0).any()
    check(*observed(model, tokens), expected, torch.ones(2, 23, dtype=torch.bool))


@pytest.mark.parametrize(
    "family", ["llama", "gpt2", "gpt_neox", "mistral", "gemma2", "gpt_oss", "falcon", "bloom", "gptj"]
)
def test_a_mask_of_the_callers_is_respected(family):
    """Padding on the left, the second prompt five tokens shorter."""
    model, tokens = tiny(family), random_tokens(2, 17)
    mask = torch.ones_like(tokens)
    mask[1, :5] = 0
    inputs = {"attention_mask": mask}
    if family not in ("falcon", "bloom"):
        inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    expected = eager(model, tokens, **inputs)
    unmasked = eager(model, tokens)
    assert (expected.last_hidden_state - unmasked.last_hidden_state)[1, 5:].abs().max() > 0.01
    real = mask.bool()
    statistics, output = observed(model, tokens, **inputs)
    if family in ("bloom", "gptj"):  # their own maps have rows for the padding, and a map is what is reduced
        torch.testing.assert_close(output[real], expected.last_hidden_state[real], rtol=0, atol=1e-4)
    else:
        check(statistics, output, expected, real)


@pytest.mark.parametrize(
    "function", [sliding_window_causal_mask_function(4), chunked_causal_mask_function(5, torch.tensor([0, 2]))]
)
@pytest.mark.parametrize("padding", [None, 3])
def test_a_mask_asked_for_by_rows_is_the_mask_that_transformers_builds(function, padding):
    """Masks that only transformers can expand come whole; the others are asked for a block of rows at a time."""
    make = AttentionMaskInterface()[NAME]
    given = None
    if padding:
        given = torch.ones(2, 16, dtype=torch.bool)
        given[1, -padding:] = False
    options = {"mask_function": function, "attention_mask": given, "device": torch.device("cpu")}
    whole = make(2, 16, 16, use_vmap=True, **options)
    lazy = make(2, 16, 16, **options)
    assert whole.shape == (2, 1, 16, 16)
    for rows in (torch.arange(0, 5), torch.arange(11, 16)):
        torch.testing.assert_close(lazy(rows, torch.arange(16)).expand(2, 1, -1, -1), whole[:, :, rows])


def test_causality_alone_needs_no_mask():
    assert AttentionMaskInterface()[NAME](2, 16, 16) is None


def test_torchs_own_attention_is_heard_and_gives_the_same():
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 4, 9, 8, generator=generator) for _ in range(3))
    plain = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.3)
    calls = []
    with listening(torch.tensor([9, 6]), calls.append), TorchAttention():
        heard = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.3)
    torch.testing.assert_close(heard, plain, rtol=0, atol=1e-5)
    [call] = calls
    expected = streamed_attention(
        query, key, value, rule=LogitRule(scaling=0.3), lengths=torch.tensor([9, 6])
    ).statistics
    assert torch.equal(call.statistics.column_mass, expected.column_mass)


def test_attention_with_a_cache_of_earlier_keys_is_refused():
    model, tokens = tiny("llama"), random_tokens(1, 6)
    subject = subject_of(model)
    with torch.no_grad():
        cache = subject.parts.body(input_ids=tokens, use_cache=True).past_key_values
        refused = pytest.raises((ValueError, TypeError), match=r"without a cache|parameter 'key'")
        with observe(subject, Notes(), torch.tensor([1])), refused:
            subject.parts.body(input_ids=tokens[:, -1:], past_key_values=cache)


@pytest.mark.parametrize("length", [1, 2, CONTEXT])
def test_the_registered_function_works_while_nobody_listens(length):
    model, tokens = tiny("gpt_oss"), random_tokens(2, length)
    expected = eager(model, tokens).last_hidden_state
    with torch.no_grad(), attention_implementation(model, NAME):
        found = subject_of(model).parts.body(input_ids=tokens, use_cache=False).last_hidden_state
    np.testing.assert_allclose(found, expected, atol=1e-4)

"""The lens against a loop written by hand: norm, head, scale and soft cap of each family, at every state."""

import pytest
import torch
from torch.nn.functional import linear

from families import BLOCKS, VOCABULARY, WIDTH, tiny
from thalweg.capture import subject_of, watch_states
from thalweg.errors import ProofError
from thalweg.lenses import Lens, LogitLens, Translator, TunedLens

BY_HAND = {
    # LayerNorm, tied
    "gpt2": lambda model, state: linear(model.transformer.ln_f(state), model.transformer.wte.weight),
    # LayerNorm, untied
    "gpt_neox": lambda model, state: linear(model.gpt_neox.final_layer_norm(state), model.lm_head.weight),
    # RMSNorm, untied
    "llama": lambda model, state: linear(rms(model.model.norm, state), model.lm_head.weight),
    # RMSNorm around 1, tied, soft cap
    "gemma2": lambda model, state: (
        3.0 * torch.tanh(linear(rms(model.model.norm, state, around_one=True), model.lm_head.weight) / 3.0)
    ),
    # LayerNorm, tied, multiplied
    "cohere": lambda model, state: linear(model.model.norm(state), model.lm_head.weight) * 0.0625,
    # RMSNorm, divided
    "granite": lambda model, state: linear(rms(model.model.norm, state), model.lm_head.weight) / 8.0,
}


def rms(norm, state, *, around_one=False):
    epsilon = getattr(norm, "eps", None) or norm.variance_epsilon
    scaled = state * torch.rsqrt(state.square().mean(-1, keepdim=True) + epsilon)
    return scaled * (1 + norm.weight if around_one else norm.weight)


def seen(model):
    """States of a short prompt, from Hugging Face's own output but for the last, which it gives after its norm."""
    subject, states = subject_of(model), []
    tokens = torch.randint(0, VOCABULARY, (1, 11), generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), watch_states(subject, lambda _, state: states.append(state[0].clone())):
        output = model(input_ids=tokens, output_hidden_states=True, use_cache=False)
    for index in range(BLOCKS):
        torch.testing.assert_close(states[index], output.hidden_states[index][0])
    return subject, states, output.logits[0]


@pytest.mark.parametrize("family", BY_HAND)
def test_every_state_is_read_as_the_model_reads_its_last(family):
    model = tiny(family)
    subject, states, logits = seen(model)
    lens = LogitLens(subject)
    assert isinstance(lens, Lens)
    for index, state in enumerate(states):
        with torch.no_grad():
            wanted = BY_HAND[family](model, state)
        torch.testing.assert_close(lens.logits(index, state).detach(), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(lens.logits(BLOCKS, states[-1]).detach(), logits, atol=1e-5, rtol=1e-5)


def test_without_the_final_norm_the_head_reads_the_bare_state():
    model = tiny("llama")
    subject, states, _ = seen(model)
    with torch.no_grad():
        found, wanted = LogitLens(subject, final_norm=False).logits(1, states[1]), model.lm_head(states[1])
    torch.testing.assert_close(found, wanted)
    assert (found - LogitLens(subject).logits(1, states[1])).abs().max() > 0.1


def test_logits_are_float32_in_a_half_precision_model():
    model = tiny("llama").bfloat16()
    subject, states, logits = seen(model)
    found = LogitLens(subject).logits(BLOCKS, states[-1])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.detach(), logits.float())


def test_a_model_whose_unembedding_cannot_be_proved_is_refused():
    model = tiny("llama")
    head = model.lm_head
    model.lm_head = torch.nn.Sequential(head, torch.nn.Softplus())
    model.lm_head.weight = head.weight
    model.get_output_embeddings = lambda: head
    with pytest.raises(ProofError, match="unembedding"):
        LogitLens(subject_of(model))


def translators(seed=0, bias=True):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: 0.2 * torch.randn(*shape, generator=generator)  # noqa: E731 - one line, used thrice
    return [Translator(draw(WIDTH, WIDTH), draw(WIDTH) if bias else None) for _ in range(BLOCKS)]


@pytest.mark.parametrize("bias", [True, False])
def test_a_tuned_lens_translates_and_then_reads(bias):
    model = tiny("gpt_neox")
    subject, states, logits = seen(model)
    own = translators(bias=bias)
    lens, plain = TunedLens(subject, own), LogitLens(subject)
    for index in range(BLOCKS):
        moved = states[index] + states[index] @ own[index].weight.T + (own[index].bias if bias else 0.0)
        torch.testing.assert_close(lens.logits(index, states[index]), plain.logits(index, moved), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(lens.logits(BLOCKS, states[-1]).detach(), logits, atol=1e-5, rtol=1e-5)


def test_translators_of_zeros_are_the_logit_lens():
    subject, states, _ = seen(tiny("llama"))
    zero = [Translator(torch.zeros(WIDTH, WIDTH), torch.zeros(WIDTH))] * BLOCKS
    found = TunedLens(subject, zero).logits(1, states[1])
    assert torch.equal(found, LogitLens(subject).logits(1, states[1]))


def test_a_wrong_number_of_translators_is_an_error():
    with pytest.raises(ValueError, match="3 translators"):
        TunedLens(subject_of(tiny("llama")), translators()[:2])


@pytest.mark.parametrize("state", [-1, BLOCKS + 1])
def test_a_state_that_the_model_has_not_is_an_error(state):
    with pytest.raises(ValueError, match=rf"states are 0..{BLOCKS}; got {state}$"):
        LogitLens(subject_of(tiny("llama"))).logits(state, torch.zeros(1, WIDTH))

"""Observing leaves a model as it was: hooks, configurations, outputs, memory; whatever goes wrong on the way."""

import gc
import weakref

import pytest
import torch
from torch import nn

from families import BLOCKS, FAMILIES, HYBRIDS, hooks, tiny
from thalweg.capture import additive_parts, observe, prove, subject_of
from thalweg.capture._interface import NAME, attention_implementation
from thalweg.capture._parts import configurations
from thalweg.experiments._survey.batch import MeasureOptions, measure_batch
from thalweg.prompts import Prompt

PATHS = {"llama": "interface", "falcon": "torch", "bloom": "weights", "qwen3_next": "interface"}
LENGTHS = torch.tensor([9, 5])
TOKENS = torch.randint(2, 97, (2, 9), generator=torch.Generator().manual_seed(0))
BATCH = [
    Prompt(row, tuple(tokens[:length]), "", "", truncated=False)
    for row, (tokens, length) in enumerate(zip(TOKENS.tolist(), LENGTHS.tolist(), strict=True))
]


class Notes:
    """Writes down what it is shown, by number alone."""

    def __init__(self):
        self.seen = []

    def state(self, index, state, /):
        self.seen.append(("state", index, tuple(state.shape)))

    def attention(self, block, seen, /):
        self.seen.append(("attention", block, tuple(seen.statistics.column_mass.shape)))


class Failure(Exception):
    """Raised on purpose."""


def implementations(model):
    return [config._attn_implementation for config in configurations(model)]


def logits(model):
    with torch.no_grad():
        return model(TOKENS, use_cache=False).logits


@pytest.fixture(params=PATHS)
def subject(request):
    subject = subject_of(tiny(request.param))
    assert subject.path == PATHS[request.param]
    return subject


def unchanged(model):
    """A check to be made later: that nothing about the model differs from now."""
    with torch.no_grad():  # transformers leaves idle hooks of its own the first time it is asked for these
        model(TOKENS, use_cache=False, output_hidden_states=True, output_attentions=True)
    before = hooks(model), implementations(model), logits(model)

    def check():
        assert hooks(model) == before[0]
        assert implementations(model) == before[1]
        assert NAME not in implementations(model)
        assert torch.equal(logits(model), before[2])

    return check


def test_every_state_and_attention_is_shown_once_in_order(subject):
    notes = Notes()
    with observe(subject, notes, LENGTHS):
        subject.parts.body(input_ids=TOKENS, use_cache=False)
    states = [one for one in notes.seen if one[0] == "state"]
    assert states == [("state", index, (2, 9, 32)) for index in range(BLOCKS + 1)]
    attended = [block.index for block in subject.parts.blocks if block.projection is not None]
    seen = [one[1] for one in notes.seen if one[0] == "attention"]
    assert seen == attended == ([1] if subject.model.config.model_type == "qwen3_next" else [0, 1, 2])
    for block in seen:  # while its block is running
        place = notes.seen.index(("attention", block, (2, 4, 9)))
        assert notes.seen[place - 1][:2] == ("state", block)
        assert notes.seen[place + 1][:2] == ("state", block + 1)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_oss", "falcon", "bloom"])
def test_chosen_keys_receive_what_the_maps_say(family):
    subject, positions = subject_of(tiny(family)), torch.tensor([[0, 8], [4, 1]])
    heard = []

    class Columns(Notes):
        def attention(self, block, seen, /):
            maps = seen.maps(range(4))
            maps[1, :, LENGTHS[1] :] = 0
            expected = torch.stack([maps[prompt][..., positions[prompt]].mT for prompt in (0, 1)])
            torch.testing.assert_close(seen.columns(positions), expected, atol=1e-5, rtol=0)
            own = (seen.query, seen.rule, seen.log_sum_exp)
            assert [one is None for one in own] == [subject.path == "weights"] * 3
            heard.append(block)

    with torch.no_grad(), observe(subject, Columns(), LENGTHS):
        subject.parts.body(input_ids=TOKENS, use_cache=False)
    assert heard == list(range(BLOCKS))


def test_a_model_is_the_same_after_it_was_observed(subject):
    check = unchanged(subject.model)
    watched = hooks(subject.model)
    with observe(subject, Notes(), LENGTHS):
        assert hooks(subject.model) > watched
        subject.parts.body(input_ids=TOKENS, use_cache=False)
    check()


def test_a_model_is_the_same_after_a_survey_and_a_proof(subject):
    check = unchanged(subject.model)
    measure_batch(subject, BATCH, MeasureOptions())
    prove(subject)
    additive_parts(subject, TOKENS)
    check()


def test_a_forward_pass_that_fails_leaves_nothing_behind(subject):
    check = unchanged(subject.model)

    def fail(*_):
        raise Failure

    for what in (lambda: measure_batch(subject, BATCH, MeasureOptions()), lambda: prove(subject)):
        own = subject.parts.blocks[1].module.register_forward_hook(fail)
        with pytest.raises(Failure):
            what()
        own.remove()
        check()


def test_a_watcher_that_fails_leaves_nothing_behind(subject):
    class Failing(Notes):
        def attention(self, *_):
            raise Failure

    check = unchanged(subject.model)
    with pytest.raises(Failure), observe(subject, Failing(), LENGTHS):
        subject.parts.body(input_ids=TOKENS, use_cache=False)
    check()


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("kind", ["register_forward_pre_hook", "register_forward_hook"])
def test_registration_that_fails_midway_leaves_nothing_behind(subject, monkeypatch, kind, at):
    check = unchanged(subject.model)
    own, registered = getattr(nn.Module, kind), []

    def register(module, hook, **options):
        if len(registered) == at:
            raise Failure
        registered.append(hook)
        return own(module, hook, **options)

    with monkeypatch.context() as patched:
        patched.setattr(nn.Module, kind, register)
        with pytest.raises(Failure):
            measure_batch(subject, BATCH, MeasureOptions())
        assert len(registered) == at
        if kind == "register_forward_hook":
            registered.clear()
            with pytest.raises(Failure):
                additive_parts(subject, TOKENS)
    check()


def test_generation_goes_on_as_before(subject):
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    before = subject.model.generate(TOKENS, **options)
    measure_batch(subject, BATCH, MeasureOptions())
    assert before.shape == (2, 14)
    assert torch.equal(subject.model.generate(TOKENS, **options), before)


def test_looking_for_the_way_attention_is_seen_leaves_nothing_behind():
    for family in ("llama", "falcon"):
        model = tiny(family)
        check = unchanged(model)
        subject_of(model)
        check()


def test_configurations_are_put_back_to_what_each_was():
    model = tiny("llama")
    model.config._attn_implementation = "eager"

    def fail():
        with attention_implementation(model, NAME):
            assert set(implementations(model)) == {NAME}
            raise Failure

    with pytest.raises(Failure):
        fail()
    assert set(implementations(model)) == {"eager"}


@pytest.mark.parametrize("family", ["llama", "falcon", "bloom"])
def test_no_state_or_map_outlives_its_moment(family):
    class Weak(Notes):
        def state(self, _, state, /):
            self.seen.append(weakref.ref(state))

        def attention(self, _, seen, /):
            self.seen.extend(weakref.ref(one) for one in (seen.key, seen.value, seen.statistics.column_mass))

    subject, watcher = subject_of(tiny(family)), Weak()
    with torch.no_grad(), observe(subject, watcher, LENGTHS):
        output = subject.parts.body(input_ids=TOKENS, use_cache=False)
        gc.collect()
        alive = [one() for one in watcher.seen if one() is not None]
        assert len(watcher.seen) == BLOCKS + 1 + 3 * BLOCKS
        # the last block's attention is held until another block begins; its state may be what the body returns
        assert len(alive) <= 4
    del alive, output
    gc.collect()
    assert [one() for one in watcher.seen if one() is not None] == []


def test_the_list_of_paths_is_met_by_every_family():
    paths = {subject_of(tiny(family)).path for family in [*FAMILIES, *HYBRIDS]}
    assert paths == {"interface", "torch", "weights"}

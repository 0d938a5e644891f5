"""A model changed on purpose: as written out by hand, nowhere else, and undone."""

import pytest
import torch
from tests.families import BLOCKS, FAMILIES, HYBRIDS, VOCABULARY, WIDTH, tiny
from tests.interventions import by_hand

from thalweg.capture import observe, subject_of, unwrap
from thalweg.errors import UsageError
from thalweg.interventions import Clamp, Remove, Replace, Rescale, intervene

BY_HAND = ("llama", "gpt_neox", "gemma2", "olmo2", "granite", "mixtral", "gpt_oss", "bloom")


def random_tokens(batch=2, length=by_hand.LENGTH, seed=1):
    return torch.randint(2, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


class Recorder:
    def __init__(self):
        self.states = {}

    def state(self, index, state, /):
        self.states[index] = state.detach().clone()

    def attention(self, block, seen, /):
        pass


def recorded(subject, tokens, *interventions, lengths=None, outside=False):
    """States of one pass; the observer is entered inside the intervention, or outside of it."""
    lengths = torch.full((len(tokens),), tokens.shape[1]) if lengths is None else lengths
    recorder = Recorder()
    first, second = observe(subject, recorder, lengths), intervene(subject, *interventions, lengths=lengths)
    if not outside:
        first, second = second, first
    with torch.no_grad(), first, second:
        subject.parts.body(input_ids=tokens, use_cache=False)
    return [recorder.states[index] for index in sorted(recorder.states)]


def hooks(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.fixture(scope="module")
def subjects():
    return {family: subject_of(tiny(family)) for family in BY_HAND}


@pytest.mark.parametrize("part", ["mlp", "attention"])
@pytest.mark.parametrize("family", BY_HAND)
def test_a_missing_summand_is_missing_as_in_a_forward_pass_by_hand(subjects, family, part):
    subject, tokens = subjects[family], random_tokens()
    for blocks in ((1,), (0, 2)):
        with torch.no_grad():
            wanted = by_hand.states(subject.model, tokens, part, blocks)
            intact = by_hand.states(subject.model, tokens, part, ())
        found = recorded(subject, tokens, Remove(part, blocks))
        assert len(found) == len(wanted) == BLOCKS + 1
        for state, hand in zip(found, wanted, strict=True):
            # the same sums in another order: rounding of float32, relative to the row
            assert ((state - hand).norm(dim=-1) / hand.norm(dim=-1)).max() < 1e-6
        changed = ((wanted[-1] - intact[-1]).norm(dim=-1) / intact[-1].norm(dim=-1)).max()
        assert changed > 1e-3  # else nothing was shown


@pytest.mark.parametrize("family", [*FAMILIES, *HYBRIDS])
def test_an_intervention_on_nothing_leaves_every_bit(family):
    subject = subject_of(tiny(family))
    tokens, before = random_tokens(), hooks(subject.model)
    with torch.no_grad():
        wanted = subject.model(input_ids=tokens).logits
        nothing = (
            Clamp(range(BLOCKS + 1), torch.inf),
            Clamp(range(BLOCKS + 1), 1e30),
            Replace((), 0.0),
            Replace((1,), 0.0, positions=()),
            Rescale((1,), positions=torch.tensor([[-1], [-1]])),
            Clamp((1,), 1e-3, positions=(77,)),
            Remove("mlp", ()),
            Remove("attention", (0,), positions=()),
        )
        with intervene(subject, *nothing, lengths=torch.tensor([5, 5])):
            found = subject.model(input_ids=tokens).logits
    assert torch.equal(found, wanted)
    assert hooks(subject.model) == before


@pytest.mark.parametrize("outside", [False, True])
def test_an_observer_sees_the_state_after_the_change(subjects, outside):
    subject, tokens = subjects["llama"], random_tokens()
    intact = recorded(subject, tokens)
    bound = float(intact[2][:, 0].abs().max()) / 3
    found = recorded(subject, tokens, Clamp((0, 2), bound), outside=outside)
    assert torch.equal(found[2][:, 0], found[2][:, 0].clamp(-bound, bound))
    assert torch.equal(found[0][:, 0], intact[0][:, 0].clamp(-bound, bound))
    assert torch.equal(found[0][:, 1:], intact[0][:, 1:])
    assert found[3][:, 1].ne(intact[3][:, 1]).any()


def last_by_hand(subject, state, block):
    """The rest of the model from a state on, with hooks of the test's own to put it there."""
    module = subject.parts.blocks[block].module
    handle = module.register_forward_hook(
        lambda _, __, output: state if isinstance(output, torch.Tensor) else (state, *output[1:])
    )
    try:
        return recorded(subject, random_tokens())[-1]
    finally:
        handle.remove()


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "bloom"])
def test_edits_of_a_state_are_what_they_say(subjects, family):
    subject, tokens = subjects[family], random_tokens()
    intact = recorded(subject, tokens)
    mean = torch.linspace(-1, 1, WIDTH)
    edits = {
        Clamp((2,), 0.05, positions=(0, 3)): lambda state: state[:, [0, 3]].clamp(-0.05, 0.05),
        Replace((2,), 0.0, positions=(0, 3)): lambda state: torch.zeros_like(state[:, [0, 3]]),
    }
    for edit, wanted in edits.items():
        state = intact[2].clone()
        state[:, [0, 3]] = wanted(intact[2])
        found = recorded(subject, tokens, edit)
        assert torch.equal(found[2], state)
        torch.testing.assert_close(found[-1], last_by_hand(subject, state, 1), rtol=1e-6, atol=1e-6)
    found = recorded(subject, tokens, Replace((2,), mean))
    assert torch.equal(found[2][:, 0], mean.expand(2, WIDTH))
    found = recorded(subject, tokens, Replace((2,), torch.tensor([7.0, -8.0]), dims=(4, 1)))
    state = intact[2].clone()
    state[:, 0, 4], state[:, 0, 1] = 7.0, -8.0
    assert torch.equal(found[2], state)
    found = recorded(subject, tokens, Clamp((2,), 0.01, dims=(5,)))
    state = intact[2].clone()
    state[:, 0, 5] = state[:, 0, 5].clamp(-0.01, 0.01)
    assert torch.equal(found[2], state)


def test_a_rescaled_row_has_the_median_norm_of_the_other_real_rows(subjects):
    subject, tokens, lengths = subjects["llama"], random_tokens(length=9), torch.tensor([9, 4])
    intact = recorded(subject, tokens, lengths=lengths)[2].double()
    found = recorded(subject, tokens, Rescale((2,)), lengths=lengths)[2].double()
    for prompt, length in enumerate(lengths):
        median = intact[prompt, 1:length].norm(dim=-1).quantile(0.5)
        row, own = found[prompt, 0], intact[prompt, 0]
        assert float(row.norm()) == pytest.approx(float(median), rel=1e-6)
        torch.testing.assert_close(row / row.norm(), own / own.norm(), rtol=1e-5, atol=1e-6)
        assert torch.equal(found[prompt, 1:length], intact[prompt, 1:length])


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "bloom", "gpt_oss", "falcon"])
def test_a_mixed_batch_is_every_prompt_alone(family):
    subject = subject_of(tiny(family))
    lengths = torch.tensor([11, 4, 7])
    tokens = random_tokens(3, 11)
    positions = torch.tensor([[3], [0], [6]])
    edits = (Remove("mlp", (1,), positions), Clamp((1,), 0.05, positions))
    together = recorded(subject, tokens, *edits, lengths=lengths)
    for prompt, length in enumerate(lengths.tolist()):
        own = (Remove("mlp", (1,), positions[prompt : prompt + 1]), Clamp((1,), 0.05, positions[prompt : prompt + 1]))
        alone = recorded(subject, tokens[prompt : prompt + 1, :length], *own)
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one[prompt, :length], other[0], rtol=1e-4, atol=1e-5)


EDITS = (
    Remove("mlp", (1,)),
    Remove("attention", (0, 1)),
    Clamp((1, 2), 0.05),
    Replace((1,), 0.0),
    Remove("mlp", (0, 1, 2), (2, 9)),  # position 9 comes while tokens are being generated
)


def greedy(model, tokens, mask, steps=8):
    """Generation written out, without a cache: every step runs the whole text."""
    for _ in range(steps):
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = model(input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=False).logits[:, -1]
        tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], dim=1)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
    return tokens


@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: type(edit).__name__)
@torch.no_grad()
def test_generating_with_a_cache_is_generating_without(subjects, edit, padding):
    subject = subjects["llama"]
    tokens, mask = random_tokens(2, 6), torch.ones(2, 6, dtype=torch.long)
    if padding == "left":
        mask[1, :2] = 0
    with intervene(subject, edit):
        wanted = greedy(subject.model, tokens, mask)
        found = subject.model.generate(
            input_ids=tokens, attention_mask=mask, max_new_tokens=8, min_new_tokens=8, do_sample=False, pad_token_id=0
        )
    assert torch.equal(found, wanted)
    intact = greedy(subject.model, tokens, mask)
    assert not torch.equal(intact, wanted) or isinstance(edit, Clamp | Replace)


@torch.no_grad()
def test_a_prompt_in_pieces_is_the_prompt_at_once(subjects):
    subject, tokens = subjects["llama"], random_tokens(1, 9)
    with intervene(subject, Remove("mlp", (0, 1), (0, 5)), Clamp((2,), 0.05, (5, 7))):
        whole = subject.model(input_ids=tokens, use_cache=False).logits
        first = subject.model(input_ids=tokens[:, :4], use_cache=True)
        second = subject.model(input_ids=tokens[:, 4:], past_key_values=first.past_key_values, use_cache=True)
    torch.testing.assert_close(torch.cat([first.logits, second.logits], 1), whole, rtol=1e-4, atol=1e-5)


def test_several_act_in_the_order_given_and_nested_ones_from_the_inside(subjects):
    subject, tokens = subjects["llama"], random_tokens()
    big, small = Replace((1,), 5.0), Clamp((1,), 2.0)
    assert recorded(subject, tokens, big, small)[1][0, 0].eq(2.0).all()
    assert recorded(subject, tokens, small, big)[1][0, 0].eq(5.0).all()
    with intervene(subject, small):
        assert recorded(subject, tokens, big)[1][0, 0].eq(2.0).all()
    with intervene(subject, big):
        assert recorded(subject, tokens, small)[1][0, 0].eq(5.0).all()


def test_gradients_flow_and_weights_stay():
    model = tiny("llama")
    subject = subject_of(model)
    model.train()
    before = [weight.clone() for weight in model.parameters()]
    with intervene(subject, Remove("mlp", (1,)), Clamp((2,), 0.5)):
        model(input_ids=random_tokens(), labels=random_tokens()).loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_a_summand_is_found_while_another_intervention_is_running():
    subject, tokens = subject_of(tiny("llama", seed=5)), random_tokens()
    with intervene(subject, Clamp((0, 1, 2, 3), 1e-3, positions=range(20))):
        nested = recorded(subject, tokens, Remove("mlp", (1,)))
    at_once = recorded(subject, tokens, Clamp((0, 1, 2, 3), 1e-3, positions=range(20)), Remove("mlp", (1,)))
    assert all(torch.equal(one, other) for one, other in zip(nested, at_once, strict=True))


def test_hooks_are_gone_whatever_happens(subjects, monkeypatch):
    subject = subjects["llama"]
    before = hooks(subject.model)
    edits = (Remove("mlp", (0, 1)), Clamp((0, 1), 0.5), Rescale((2,)))

    def stop_inside():
        with intervene(subject, *edits, lengths=torch.tensor([5])):
            assert hooks(subject.model) == before + 6
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop_inside()
    assert hooks(subject.model) == before
    own = torch.nn.Module.register_forward_hook
    calls = []

    def fails(self, *arguments, **options):
        calls.append(self)
        if len(calls) == 2:
            raise RuntimeError("no more hooks")
        return own(self, *arguments, **options)

    monkeypatch.setattr(torch.nn.Module, "register_forward_hook", fails)
    with pytest.raises(RuntimeError, match="no more hooks"), intervene(subject, Remove("mlp", (0, 1))):
        pass
    assert hooks(subject.model) == before


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda: Remove("mlp", (3,)), "block 3 does not exist; this model has blocks 0 to 2"),
        (lambda: Remove("mlp", (-1,)), "block -1 does not exist"),
        (lambda: Clamp((4,), 1.0), "state 4 does not exist; this model has states 0 to 3"),
        (lambda: Clamp((1,), 0.0), "gamma is the largest magnitude left, above 0; got 0.0"),
        (lambda: Clamp((1,), float("nan")), "got nan"),
        (lambda: Clamp((1,), -2.0), r"got -2\.0"),
        (lambda: Clamp((1,), 1.0, dims=(32,)), "dimension 32 does not exist"),
        (lambda: Replace((1,), torch.zeros(5)), r"one number, or 32; got the shape \(5,\)"),
        (lambda: Rescale((1,)), "pass lengths="),
        (lambda: Clamp((1,), 1.0, positions=(-2,)), "positions count from 0"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_runs(subjects, edit, said):
    with pytest.raises(UsageError, match=said), intervene(subjects["llama"], edit()):
        pass


def test_positions_for_another_number_of_prompts_are_refused(subjects):
    subject = subjects["llama"]
    with (
        pytest.raises(UsageError, match="positions for 2 prompts expected"),
        intervene(subject, Remove("mlp", (0,), torch.tensor([[0], [1], [2]]))),
    ):
        unwrap(subject.parts.body(input_ids=random_tokens()))

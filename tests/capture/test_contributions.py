"""What a block adds is what a forward pass written out by hand adds, row by row, in every family."""

import math

import pytest
import torch
from tests.families import BLOCKS, FAMILIES, HYBRIDS, VOCABULARY, WIDTH, tiny
from tests.interventions import by_hand

from thalweg.capture import _solved, additive_parts, additive_sites, contributions, subject_of
from thalweg.errors import ProofError
from thalweg.interventions import Clamp, Remove, intervene

BY_HAND = ("llama", "gpt_neox", "gemma2", "olmo2", "granite", "mixtral", "gpt_oss", "bloom")
PARTS = ("attention", "mlp")


def random_tokens(batch=2, length=by_hand.LENGTH, seed=1):
    return torch.randint(2, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


class Recorder:
    """Keeps everything, and the order it came in."""

    def __init__(self):
        self.states, self.added, self.order = {}, {}, []

    def state(self, index, state, /):
        self.states[index] = state.detach().double().clone()
        self.order.append(index)

    def contribution(self, block, part, rows, /):
        self.added[block, part] = rows
        self.order.append((block, part))


@torch.no_grad()
def recorded(subject, tokens, positions=(0,)):
    recorder = Recorder()
    with contributions(subject, recorder, positions):
        subject.parts.body(input_ids=tokens, use_cache=False)
    return recorder


def hooks(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@torch.no_grad()
def added_by_hand(model, tokens, block):
    """Without the MLP's summand a block leaves its input plus attention, whatever the family."""
    intact = by_hand.states(model, tokens, "mlp", ())
    without = by_hand.states(model, tokens, "mlp", (block,))
    attention = without[block + 1][:, 0] - intact[block][:, 0]
    return {"attention": attention, "mlp": intact[block + 1][:, 0] - without[block + 1][:, 0]}


@pytest.mark.parametrize("family", BY_HAND)
def test_contributions_are_those_of_a_forward_pass_by_hand(family):
    # Bloom's positions and grouped experts are float32 only; in float64 nothing but rounding is between the two.
    dtype = torch.float32 if family in ("bloom", "mixtral", "gpt_oss") else torch.float64
    model, tokens = tiny(family).to(dtype), random_tokens()
    model.set_attn_implementation("eager")
    found = recorded(subject_of(model), tokens)
    for block in range(BLOCKS):
        for part, wanted in added_by_hand(model, tokens, block).items():
            largest = max(state[:, 0].norm(dim=-1).max() for state in found.states.values())
            error = (found.added[block, part][:, 0] - wanted.double()).norm(dim=-1).max() / largest
            assert error < (1e-6 if dtype == torch.float32 else 1e-13)
            assert wanted.norm(dim=-1).min() / largest > 1e-4  # else nothing was compared


@pytest.mark.parametrize("family", [*FAMILIES, *HYBRIDS])
def test_the_embedding_and_everything_added_are_the_last_state(family):
    subject, positions = subject_of(tiny(family)), (0, 3)
    additive_sites(subject)  # transformers installs hooks of its own in the first pass that asks for states
    before = hooks(subject.model)
    found = recorded(subject, random_tokens(), positions)
    assert hooks(subject.model) == before
    total = found.states[0][:, list(positions)] + sum(found.added.values())
    rows = torch.stack([state[:, list(positions)] for state in found.states.values()])
    gap = (total - found.states[BLOCKS][:, list(positions)]).norm(dim=-1)
    # six sums, each rounded once in float32, relative to the largest row on the way
    assert (gap / torch.cat([rows, torch.stack([*found.added.values()])]).norm(dim=-1).amax(0)).max() < 6 * 2**-24
    assert len(found.added) == 2 * BLOCKS
    assert all(rows.shape == (2, 2, WIDTH) and rows.norm() > 0 for rows in found.added.values())
    assert [one for one in found.order if isinstance(one, int)] == list(range(BLOCKS + 1))
    for block in range(BLOCKS):
        place = [found.order.index((block, part)) for part in PARTS]
        assert found.order.index(block) < min(place)
        assert max(place) < found.order.index(block + 1)


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "bloom", "mixtral", "gpt_oss", "lfm2"])
def test_a_mixed_batch_is_every_prompt_alone(family):
    subject, lengths = subject_of(tiny(family)), (11, 4, 7)
    tokens = random_tokens(3, 11)
    together = recorded(subject, tokens, (0, 2))
    for prompt, length in enumerate(lengths):
        alone = recorded(subject, tokens[prompt : prompt + 1, :length], (0, 2))
        for key, rows in alone.added.items():
            torch.testing.assert_close(together.added[key][prompt], rows[0], rtol=1e-4, atol=1e-5)


def test_a_row_that_the_batch_does_not_reach_is_nan():
    found = recorded(subject_of(tiny("llama")), random_tokens(2, 4), (7, 1))
    for rows in found.added.values():
        assert rows[:, 0].isnan().all()
        assert rows[:, 1].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("family", "scale"), [("llama", 1.0), ("granite", 0.22), ("qwen2", 1.0)])
def test_a_residual_factor_is_the_one_that_the_model_states(family, scale, dtype):
    subject = subject_of(tiny(family).to(dtype))
    assert {site.scale for sites in additive_sites(subject) for site in sites.values()} == {scale}


def test_a_residual_factor_that_is_stated_nowhere_is_solved_for():
    model, factor = tiny("granite"), 1.4 / math.sqrt(28)
    for layer in model.model.layers:
        layer.residual_multiplier = factor
    subject = subject_of(model)
    for sites in additive_sites(subject):
        for site in sites.values():
            assert site.scale == pytest.approx(factor, rel=1e-6)
    recorded(subject, random_tokens())


HALF = [torch.bfloat16, torch.float16]
STATED = {"llama": 1.0, "gpt_neox": 1.0, "granite": 0.22, "gemma2": 1.0, "gemma3_text": 1.0}


def beside_large_rows(family, dtype):
    """Rows so large that half precision rounds away most of what is added to them."""
    model = tiny(family)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(60 if family == "granite" else 300)
    return model.to(dtype)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(("family", "scale"), STATED.items())
def test_factors_are_the_stated_ones_where_half_precision_hides_them(family, scale, dtype):
    model = beside_large_rows(family, dtype)
    before = {name: (tensor.data_ptr(), tensor.dtype) for name, tensor in model.state_dict().items()}
    subject = subject_of(model)
    assert {site.scale for sites in additive_sites(subject) for site in sites.values()} == {scale}
    assert max(part.error for part in additive_parts(subject, random_tokens())) < 1e-6
    assert {name: (tensor.data_ptr(), tensor.dtype) for name, tensor in model.state_dict().items()} == before
    found = recorded(subject, random_tokens())  # adds up, within the rounding of the dtype
    assert all(rows.isfinite().all() for rows in found.added.values())


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_a_factor_that_is_another_is_fitted_where_half_precision_hides_it(family, dtype):
    model, written = beside_large_rows(family, dtype), []
    for block in subject_of(model).parts.blocks:
        block.module.mlp.register_forward_hook(lambda *call: written.append(call[-1]))
        block.module.register_forward_hook(lambda *call: call[-1] - 0.05 * written[-1])
    for sites in additive_sites(subject_of(model)):
        assert sites["attention"].scale == 1.0
        assert sites["mlp"].scale == pytest.approx(0.95, abs=1e-4)


def test_a_block_that_cannot_compute_in_float32_is_proved_in_its_own():
    model = tiny("llama").bfloat16()
    packed = torch.zeros(2, 2, dtype=torch.int32)  # as packed weights are kept
    for layer in model.model.layers:
        layer.register_buffer("qweight", packed)
    parts = additive_parts(subject_of(model), random_tokens())
    assert {(part.attention_scale, part.mlp_scale) for part in parts} == {(1.0, 1.0)}
    assert all(1e-4 < part.error < part.limit == 3 * torch.finfo(torch.bfloat16).eps for part in parts)


def test_a_forward_pass_that_fails_leaves_weights_as_they_were():
    model = tiny("llama").bfloat16()
    handle = model.model.layers[1].mlp.register_forward_hook(lambda *_: 1 / 0)
    with handle, pytest.raises(ZeroDivisionError):
        additive_parts(subject_of(model), random_tokens())
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("family", ["llama", "granite", "gemma2", "gpt_neox"])
def test_half_precisions_add_up_within_their_rounding(family, dtype):
    found = recorded(subject_of(tiny(family).to(dtype)), random_tokens())
    total = found.states[0][:, 0] + sum(rows[:, 0] for rows in found.added.values())
    largest = max(state[:, 0].norm(dim=-1).max() for state in found.states.values())
    assert (total - found.states[BLOCKS][:, 0]).norm(dim=-1).max() / largest < 6 * torch.finfo(dtype).eps


def test_a_summand_that_is_removed_is_zero():
    subject = subject_of(tiny("llama"))
    recorder = Recorder()
    with torch.no_grad(), intervene(subject, Remove("mlp", (1,))), contributions(subject, recorder, (0, 1)):
        subject.parts.body(input_ids=random_tokens(), use_cache=False)
    assert recorder.added[1, "mlp"][:, 0].norm() == 0
    assert recorder.added[1, "mlp"][:, 1].norm() > 0


def test_a_state_that_is_more_than_its_summands_is_refused():
    subject = subject_of(tiny("llama"))
    additive_sites(subject)
    before = hooks(subject.model)
    with (
        pytest.raises(ProofError, match="block 1 leaves something else than its input plus attention and MLP"),
        intervene(subject, Clamp((2,), 1e-3)),
    ):
        recorded(subject, random_tokens())
    assert hooks(subject.model) == before


def test_a_part_that_runs_twice_is_refused():
    subject = subject_of(tiny("llama"))
    additive_sites(subject)
    layer = subject.model.model.layers[1]
    handle = layer.post_attention_layernorm.register_forward_hook(lambda _, __, output: layer.mlp(output) * 0 + output)
    with handle, pytest.raises(ProofError, match="block 1 runs its mlp more than once"):
        recorded(subject, random_tokens())


def test_a_block_without_its_parts_is_refused(monkeypatch):
    subject = subject_of(tiny("llama"))
    additive_sites(subject)
    layer = subject.model.model.layers[2]
    monkeypatch.setattr(layer, "forward", lambda hidden_states, **_: hidden_states)
    with pytest.raises(ProofError, match="block 2 did not run its attention and its MLP"):
        recorded(subject, random_tokens())


def test_rows_that_are_not_finite_are_shown_as_they_are():
    model = tiny("llama")
    subject = subject_of(model)
    additive_sites(subject)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[3, 5] = math.nan
    found = recorded(subject, random_tokens())
    assert found.added[1, "mlp"][:, 0, 3].isnan().all()
    assert found.added[0, "mlp"].isfinite().all()


@pytest.mark.parametrize(("share", "attention"), [(0.9, "self_attn"), (0.1, "self_attn.o_proj")])
def test_an_inner_module_is_the_summand_where_it_is_clearly_better_alone(share, attention):
    """A projection gives what its attention gives, to rounding, which tells nothing."""
    generator = torch.Generator().manual_seed(0)
    entered, summand, mlp, off = (torch.randn(6, 8, generator=generator).double() for _ in range(4))
    block = subject_of(tiny("llama")).parts.blocks[0]
    search, solved = _solved._Search(block, [1.0], found := []), found
    search.entered = entered
    search.candidates = [
        ("self_attn.o_proj", summand + 1e-4 * share * off),
        ("self_attn", summand + 1e-4 * off),
        ("mlp", mlp),
    ]
    search.solve(block, entered + summand + mlp)
    assert (solved[0].attention, solved[0].mlp) == (attention, "mlp")


def test_weights_are_those_they_were_where_a_block_fails_in_the_midst():
    model = tiny("llama").bfloat16()
    subject, before = subject_of(model), {name: weight.clone() for name, weight in model.state_dict().items()}

    def fails(*_):
        raise RuntimeError("in the midst")

    with model.model.layers[1].mlp.register_forward_hook(fails), pytest.raises(RuntimeError, match="in the midst"):
        additive_parts(subject, random_tokens())
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}

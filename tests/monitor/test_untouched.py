"""Training is left as it is: bit-equal weights, optimizer states and random states, whatever wraps the model."""

import inspect
from contextlib import nullcontext

import pytest
import torch
from tests.monitor import small
from torch import nn

from thalweg.capture import plain_model
from thalweg.errors import ModelError
from thalweg.monitor import Monitor
from thalweg.monitor import _record as record
from thalweg.monitor._untouched import generators_kept


@pytest.fixture(scope="module")
def alone():
    """How the training ends without a monitor."""
    return small.train(small.model())


def test_the_comparison_notices_whatever_touches_the_training(alone):
    for touch in (torch.rand, small.random.random, small.np.random.rand):
        with pytest.raises(AssertionError):
            small.train(small.model(), lambda *_, draw=touch: draw(*((1,) * (draw is torch.rand)))).assert_equals(alone)
    with pytest.raises(AssertionError):
        small.train(small.model(), lambda model, _: model.eval()).assert_equals(alone)


def test_a_loop_ends_bit_equal_with_the_monitor(tmp_path, alone):
    small.seed()
    before = small.generators()
    watching = Monitor.__new__(Monitor)
    inspect.unwrap(Monitor.__init__)(watching, small.TOKENIZER, out=tmp_path, options=small.OPTIONS)
    assert small.same(before, small.generators())  # unwrapped: the tests' own checks of types draw numbers
    model = small.model()
    watching.begin(model)
    small.train(model, watching.step).assert_equals(alone)
    assert small.record_steps(tmp_path) == [0, 2, 4]


def test_gradients_are_left_alone_in_the_middle_of_an_accumulation(tmp_path, alone):
    watching = small.monitor(tmp_path, every=1)
    grown = []

    def between(model, count):
        before = [(parameter.grad, parameter.grad.clone()) for parameter in model.parameters()]
        assert watching.measure(model, count)
        grown.append(any(bool(own.any()) for own, _ in before))
        for parameter, (own, value) in zip(model.parameters(), before, strict=True):
            assert parameter.grad is own
            assert small.same(own, value)

    small.train(small.model(), between=between).assert_equals(alone)
    assert len(grown) == 10
    assert all(grown)


@pytest.mark.parametrize("in_place", [True, False], ids=["model.compile", "torch.compile"])
def test_a_compiled_model_is_neither_touched_nor_compiled_again(tmp_path, in_place):
    endings, compiled = [], []
    for watched in (False, True):
        torch.compiler.reset()
        seen = []

        def backend(graph, inputs, seen=seen):
            seen.append(len(inputs))
            return graph.forward

        model = small.model()
        if in_place:
            model.compile(backend=backend)
            trained = model
        else:
            trained = torch.compile(model, backend=backend)
        look = small.monitor(tmp_path, every=1).step if watched else None
        endings.append(small.train(trained, look, steps=3))
        compiled.append(seen)
    torch.compiler.reset()
    endings[1].assert_equals(endings[0])
    assert compiled[0] == compiled[1] != []
    assert small.record_steps(tmp_path) == [1, 2, 3]


class Counting(nn.Module):
    """What a module may remember from one pass to the next."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.passes = 0
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("kept", None)

    def forward(self, x):
        self.passes += 1
        self.mean += x.mean()
        self.kept = x.detach()
        self.extra = True
        return self.inner(x)


def remembered(model):
    """Modes, hooks, attributes and buffers of every module."""
    found = []
    for module in model.modules():
        hooks = [len(value) for name, value in vars(module).items() if name.endswith("_hooks")]
        buffers = [None if one is None else one.clone() for one in module._buffers.values()]
        found.append((module.training, hooks, sorted(vars(module)), list(module._buffers), buffers))
    return [*found, model.config._attn_implementation, model.config.use_cache]


@pytest.mark.parametrize("fails", [False, True], ids=["measured", "failed"])
def test_modes_hooks_buffers_and_attributes_come_back(tmp_path, fails):
    model = small.model()
    block = model.model.layers[1]
    block.mlp = counting = Counting(block.mlp)
    model.model.layers[0].self_attn.eval()  # frozen on purpose
    model.model.layers[0].mlp.register_forward_hook(lambda *_: None)
    before = remembered(model)
    watching = small.monitor(tmp_path, every=1)
    assert watching.measure(model, 0)
    if fails:
        counting.inner.register_forward_hook(raises)
        before = remembered(model)
    with pytest.raises(ZeroDivisionError) if fails else nullcontext():
        watching.measure(model, 1)
    assert all(map(small.same, before, remembered(model)))
    assert counting.passes == 0
    assert counting.kept is None


def raises(*_):
    raise ZeroDivisionError("on purpose")


def test_states_asked_for_afterwards_come_once_each(tmp_path):
    model = small.model()
    small.monitor(tmp_path).step(model, 0)
    assert len(model(input_ids=small.sequences(1), output_hidden_states=True).hidden_states) == 3


def test_only_the_model_in_evaluation_mode_is_measured_whatever_the_context(tmp_path):
    model, seen = small.model(), []
    model.model.layers[0].mlp.register_forward_hook(
        lambda module, _, output: seen.append((module.training, output.dtype, torch.is_grad_enabled()))
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = small.monitor(tmp_path / "autocast", every=1).step(model, 1)
    assert set(seen) == {(False, torch.float32, False)}
    assert found == small.monitor(tmp_path / "plain", every=1).step(model, 1)


def test_what_is_drawn_inside_is_given_back():
    small.seed()
    before, model = small.generators(), small.model()
    small.seed()
    with generators_kept(model):
        torch.rand(3), small.random.random(), small.np.random.rand()
    assert small.same(before, small.generators())


def test_one_transformers_model_is_looked_for_inside_whatever_wraps_it():
    model = small.model()
    wrapped = nn.ModuleDict({"student": model, "loss": nn.Linear(2, 2)})
    assert plain_model(wrapped) is model
    assert plain_model(torch.compile(model, backend="eager")) is model
    with pytest.raises(ModelError, match="holds none"):
        plain_model(nn.Linear(2, 2))
    with pytest.raises(ModelError, match="LlamaForCausalLM, LlamaForCausalLM"):
        plain_model(nn.ModuleList([model, small.model()]))


def test_nothing_runs_where_nothing_is_due(tmp_path, monkeypatch):
    measured = []

    def measure(_, __, step, **___):
        measured.append(step)
        return {"a": 1.0}

    monkeypatch.setattr(record.Record, "measure", measure)
    watching, model = small.monitor(tmp_path, every=3), small.model()
    model.register_forward_pre_hook(raises)
    for step in range(1, 10):
        assert (watching.step(model, step) is not None) == (step % 3 == 0)
        watching.step(model, step)  # as after each of several batches of one step
    assert measured == [3, 6, 9]
    watching.finish(model, 9)
    assert measured == [3, 6, 9]
    watching.finish(model, 10)
    assert measured == [3, 6, 9, 10]

"""The pretend accelerator refuses what a real one refuses, counts what costs there, and leaves nothing behind."""

import pytest
import torch

from families import VOCABULARY, tiny
from pretend import KIND, Placed, place, pretended, put

TOKENS = torch.randint(2, VOCABULARY, (2, 7), generator=torch.Generator().manual_seed(0))
HERE, THERE = place(0), place(1)


def test_numbers_are_those_of_the_processor():
    rows = torch.randn(3, 4, dtype=torch.float64)
    with pretended():
        found = (rows.to(HERE) @ rows.to(HERE).T).softmax(-1)
        assert found.device == HERE
        assert torch.equal(found.cpu(), (rows @ rows.T).softmax(-1))


@pytest.mark.parametrize("other", ["cpu", THERE])
def test_an_operation_on_two_devices_is_refused(other):
    with pretended():
        rows, others = torch.ones(2, 3, device=HERE), torch.ones(2, 3).to(other)
        for mixed in (lambda: rows + others, lambda: torch.cat([rows, others]), lambda: rows @ others.T):
            with pytest.raises(RuntimeError):
                mixed()
        with pytest.raises(RuntimeError, match="same device, but index"):
            others[torch.zeros(1, dtype=torch.long, device=HERE)]
        assert (rows + torch.tensor(1.0)).device == HERE  # a number is let through, of the processor's alone
        with pytest.raises(RuntimeError, match="same device"):
            _ = rows + torch.tensor(1.0).to(THERE)


def test_launches_and_waits_are_counted():
    with pretended() as seen:
        rows = torch.ones(2, 3, device=HERE)
        seen.reset()
        rows.T.view(3, 2)[1:]
        assert not seen.launches
        ((rows + 1) * 2).sum()
        assert (seen.launches.total(), seen.waits.total()) == (3, 0)
        waiting = [
            lambda: rows.cpu(),
            lambda: rows.tolist(),
            lambda: bool(rows.any()),
            lambda: float(rows[0, 0]),
            lambda: rows.nonzero(),
            lambda: rows[rows > 0],
            lambda: rows[[0, 1]],
            lambda: rows[torch.tensor([0, 1])],
            lambda: torch.tensor([1.0], device=HERE),
            lambda: torch.ones(3).to(HERE),
            lambda: rows.__setitem__(0, torch.ones(3)),
        ]
        for number, wait in enumerate(waiting):
            seen.reset()
            wait()
            assert seen.waits.total() == 1, (number, seen.waits)


def test_what_a_processor_alone_can_read_is_refused():
    with pretended(), pytest.raises(TypeError, match="numpy"):
        torch.ones(2, device=HERE).numpy()


@pytest.mark.parametrize("places", [(0,), (0, 1)])
@pytest.mark.parametrize("family", ["llama", "gpt2"])  # GPT-2's weights are tied
def test_a_model_on_places_computes_what_it_computes_on_the_processor(family, places):
    expected = tiny(family)(TOKENS).logits
    with pretended() as seen, torch.no_grad():
        model = put(tiny(family), *places)
        assert {weight.device.index for weight in model.parameters()} == set(places)
        found = model(TOKENS.to(HERE)).logits
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-5, atol=1e-5)
        assert any(line.startswith(f"transformers/models/{family}/") for line in seen.launches)


def test_nothing_outlives_it():
    with pretended():
        rows = torch.ones(2, device=HERE)
    with pytest.raises(RuntimeError, match="outside of"):
        _ = rows + 1
    assert isinstance(rows, Placed)
    assert not torch.accelerator.is_available()
    assert torch.tensor([1.0]).device.type == "cpu"
    assert KIND not in str(torch.accelerator.current_accelerator())

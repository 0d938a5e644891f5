"""A batch gives the numbers of its prompts alone, whatever else is in it and whatever its pads hold."""

import math

import numpy as np
import pytest
import torch

from thalweg import metrics
from thalweg.metrics import _heads

TOKENS, WIDTH = (9, 1, 4, 12), 7


def padded(states):
    batch = torch.full((len(states), max(TOKENS) + 1, WIDTH), math.nan, dtype=torch.float64)
    for number, state in enumerate(states):
        batch[number, : len(state)] = torch.tensor(state)
    return batch


@pytest.mark.parametrize("sink", [0, 3])
def test_states_of_a_batch_are_those_of_each_prompt(state_of, sink):
    kinds = ("massive", "plain", "two massive", "equal rows", "zero rows", "mean direction")
    shown = [[state_of(kind, tokens, WIDTH, seed) for tokens in TOKENS] for seed, kind in enumerate(kinds)]
    shown[1][2][:] = 0
    shown[2][0][3, 1] = math.inf
    options = {"sink_position": sink, "massive_ratio": 4.0, "variants": True}
    alone = [True, False, True, True]
    states = metrics.StatesOfBatch(torch.tensor(TOKENS), **options, without_massive=alone)
    for batch in shown:
        states.see(padded(batch))
    found = states.measured()
    assert found.row_norms.shape == (len(kinds), len(TOKENS), max(TOKENS))
    number = 0
    for place, batch in enumerate(shown):
        for prompt, state in enumerate(batch):
            own = metrics.measure_state(torch.tensor(state), **options, without_massive=alone[prompt])
            for name, value in own.metrics.items():
                there = found.columns[name][number]
                if isinstance(value, float):
                    # another number of spectra in one call may round the last digit differently
                    assert there == pytest.approx(value, rel=1e-12, nan_ok=True), (name, place, prompt)
                else:
                    assert there == value, (name, place, prompt)
            assert found.massive[number] == own.massive
            assert bool(found.finite[place, prompt]) is own.finite
            norms = found.row_norms[place, prompt]
            torch.testing.assert_close(norms[: len(state)], own.row_norms, rtol=0, atol=0, equal_nan=True)
            assert not norms[len(state) :].any()
            number += 1
    assert {len(column) for column in found.columns.values()} == {number}


def test_every_prompt_may_have_a_sink_of_its_own(state_of):
    shown = [state_of("massive", tokens, WIDTH, 1) for tokens in TOKENS]
    sinks = [5, 0, -1, 11]
    states = metrics.StatesOfBatch(torch.tensor(TOKENS))
    states.see(padded(shown), torch.tensor(sinks))
    found = states.measured().columns
    for number, (state, sink) in enumerate(zip(shown, sinks, strict=True)):
        own = metrics.measure_state(torch.tensor(state), sink_position=sink if sink >= 0 else len(state)).metrics
        for name in ("sink_norm", "rest_norm", "M", "alpha", "entropy_bound", "row_ratio"):
            assert found[name][number] == pytest.approx(own[name], rel=1e-12, nan_ok=True), name


@pytest.mark.parametrize("width", [200, 40], ids=["over tokens", "over dimensions"])
def test_no_gram_matrix_is_kept(width):
    """Vectors that were views of one would hold it until the end of the batch."""
    tokens = 64
    states = metrics.StatesOfBatch(torch.tensor([tokens]))
    state = torch.randn(1, tokens, width, generator=torch.Generator().manual_seed(0))
    state[0, :1] *= 1e4
    states.see(state)
    held = [value for value in vars_of(states.kept[0].found[0]) if isinstance(value, torch.Tensor)]
    assert len(held) >= 4
    assert max(value.untyped_storage().nbytes() for value in held) <= 8 * tokens


def vars_of(record):
    return [getattr(record, name) for name in record.__slots__]


def test_a_state_full_of_massive_entries_keeps_no_more_than_are_told():
    state = torch.full((1, 6, 1100), 1e-3)
    state[0, 1:4, :40] = 500.0
    states = metrics.StatesOfBatch(torch.tensor([6]))
    states.see(state)
    found = states.measured()
    assert found.columns["massive_entry_count"] == [120]
    assert len(states.kept[0].found[0].entries) == 16
    assert list(found.massive[0]) == metrics.massive_activations(state[0])


def statistics(blocks, heads, generator):
    for _ in range(blocks):
        maps = torch.rand(len(TOKENS), heads, 12, 12, generator=generator).tril()
        maps /= maps.sum(-1, keepdim=True)
        position = torch.arange(12)
        real = (position < torch.tensor(TOKENS)[:, None]).float()
        yield {
            "column_mass": torch.einsum("nhtk,nt->nhk", maps, real),
            "row_entropy": -torch.xlogy(maps, maps).sum(-1),
            "diagonal": maps.diagonal(dim1=-2, dim2=-1),
            "previous": torch.rand(len(TOKENS), heads, 12, generator=generator),
            "row_sum": maps.sum(-1),
            "visible": (position + 1).expand(len(TOKENS), 12),
        }


@pytest.mark.parametrize("kept", [1, 3000, 2**18], ids=["each block", "a few", "all"])
def test_heads_of_many_blocks_are_those_of_each_block(monkeypatch, kept):
    """Blocks with other numbers of heads among them."""
    monkeypatch.setattr(_heads, "KEPT", kept)
    generator, lengths = torch.Generator().manual_seed(0), torch.tensor(TOKENS)
    heads, expected = metrics.HeadsOfBatch(lengths, sink_position=2), list[dict[str, np.ndarray]]()
    for block, number in enumerate((4, 4, 2, 2, 4)):
        (own,) = statistics(1, number, generator)
        key, value = (torch.randn(len(TOKENS), 2, 12, 3, generator=generator) for _ in range(2))
        outputs, factors = torch.randn(len(TOKENS), number, 12, 3, generator=generator), torch.randn(number, 3, 3)
        heads.see(block, own, key=key, value=value, outputs=outputs, factors=factors)
        written = metrics.head_write_norm(outputs, factors=factors, lengths=lengths)
        columns = metrics.head_metrics(**own, lengths=lengths, sink_position=2)
        for name, vectors in (("key", key), ("value", value)):
            sink, rest = metrics.sink_and_rest_norms(vectors, lengths=lengths, sink_position=2)
            columns[f"sink_{name}_norm"] = sink.repeat_interleave(number // 2, dim=1)
            columns[f"rest_{name}_norm"] = rest.repeat_interleave(number // 2, dim=1)
        columns |= {"head_write_norm": written, "dormant": metrics.dormant(written)}
        expected.append({name: column.flatten().numpy() for name, column in columns.items()})
        expected[-1] |= {"block": np.full(written.numel(), block), "head": np.tile(np.arange(number), len(TOKENS))}
        expected[-1]["prompt"] = np.repeat(np.arange(len(TOKENS)), number)
    found = heads.measured()
    table = found.columns | {name: getattr(found, name) for name in ("block", "head", "prompt")}
    assert set(table) == set(expected[0])
    for name, column in table.items():
        wanted = np.concatenate([own[name] for own in expected])
        assert column.dtype == wanted.dtype, name
        np.testing.assert_allclose(column, wanted, rtol=1e-12, err_msg=name)
    assert metrics.HeadsOfBatch(lengths).measured().columns == {}

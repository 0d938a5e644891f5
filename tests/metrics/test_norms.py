"""Norms and massive activations against loops over rows and entries."""

import math

import numpy as np
import pytest
import torch

from thalweg import metrics
from thalweg.metrics import MassiveActivation


def test_norms_are_those_of_the_rows(state_of, kind):
    state = state_of(kind, 11, 8, 2)
    found = metrics.norms(torch.tensor(state))
    rows = np.linalg.norm(state, axis=1)
    place = np.unravel_index(np.abs(state).argmax(), state.shape)
    assert found.sink_norm == pytest.approx(rows[0], rel=1e-13)
    assert found.rest_norm == pytest.approx(rows[1:].mean(), rel=1e-13)
    assert found.norm_ratio == pytest.approx(rows[0] / rows[1:].mean(), rel=1e-13)
    assert found.row_ratio == pytest.approx(rows.max() / np.median(rows), rel=1e-13)
    assert rows[found.row_position] == pytest.approx(rows.max(), rel=1e-13)
    assert (found.peak_position, found.peak_dim) == place
    assert found.peak_value == state[place]
    assert found.median_abs == pytest.approx(np.median(np.abs(state)), rel=1e-15)


def test_the_documented_example():
    found = metrics.norms(torch.tensor([[30.0, 40.0], [3.0, 4.0], [0.0, 5.0]]))
    assert (found.sink_norm, found.rest_norm, found.norm_ratio) == (50, 5, 10)
    assert (found.row_ratio, found.row_position) == (10, 0)
    assert (found.peak_value, found.peak_position, found.peak_dim) == (40, 0, 1)
    assert found.median_abs == 4.5


def test_the_peak_keeps_its_sign_and_ties_go_to_the_first():
    found = metrics.norms(torch.tensor([[1.0, 0.0], [2.0, -3.0], [3.0, 2.0]]))
    assert (found.peak_value, found.peak_position, found.peak_dim) == (-3, 1, 1)
    assert found.row_position == 1


def test_another_sink_position():
    state = torch.tensor([[1.0], [6.0], [3.0]])
    found = metrics.norms(state, sink_position=1)
    assert (found.sink_norm, found.rest_norm, found.norm_ratio) == (6, 2, 3)
    absent = metrics.norms(state, sink_position=3)
    assert math.isnan(absent.sink_norm)
    assert math.isnan(absent.norm_ratio)
    assert absent.row_ratio == 2


@pytest.mark.parametrize("state", [torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]])])
def test_without_a_second_row_there_is_nothing_to_compare_with(state):
    found = metrics.norms(state)
    assert found.sink_norm == 5
    assert math.isnan(found.rest_norm)
    assert math.isnan(found.norm_ratio)


def naive_massive(state: np.ndarray, ratio: float) -> tuple[set[int], set[tuple[int, int]]]:
    rows, middle = np.linalg.norm(state, axis=1), np.median(np.abs(state))
    entries = {
        (i, j)
        for i in range(len(state))
        for j in range(state.shape[1])
        if abs(state[i, j]) > 100 and abs(state[i, j]) > 1000 * middle
    }
    return {i for i, norm in enumerate(rows) if norm >= ratio * np.median(rows) and norm > 0}, entries


@pytest.mark.parametrize("seed", range(5))
def test_massive_rows_and_entries_are_those_of_the_definition(seed):
    rng = np.random.default_rng(seed)
    state = rng.standard_normal((12, 9))
    state[rng.integers(12, size=2), rng.integers(9, size=2)] = [5e3, -7e3]
    state[4] *= 40
    found = metrics.massive_activations(torch.tensor(state), limit=100)
    rows, entries = naive_massive(state, 10.0)
    assert {m.position for m in found if m.kind == "row"} == rows
    assert {(m.position, m.dim) for m in found if m.kind == "entry"} == entries
    assert len(entries) == metrics.norms(torch.tensor(state)).massive_entry_count == 2
    for m in found:
        assert m.row_norm == pytest.approx(np.linalg.norm(state[m.position]), rel=1e-13)
        assert m.value is None if m.kind == "row" else m.value == state[m.position, m.dim]


def test_large_but_ordinary_is_not_massive():
    # Above 100, yet not above 1000 x the median: gemma's states are like this.
    assert metrics.massive_activations(500 + torch.arange(12.0).view(3, 4)) == []


def test_rows_come_first_and_each_kind_is_sorted_by_size():
    state = torch.zeros(9, 4)
    state[1:, 0] = torch.arange(1.0, 9.0)
    state[3, 1], state[6, 2] = 5e3, -9e3
    found = metrics.massive_activations(state)
    assert [(m.kind, m.position, m.dim) for m in found] == [
        ("row", 6, None),
        ("row", 3, None),
        ("entry", 6, 2),
        ("entry", 3, 1),
    ]
    assert found[2] == MassiveActivation("entry", 6, 2, -9000.0, math.sqrt(9000**2 + 6**2))


@pytest.mark.parametrize(("rows", "entries_each", "expected"), [(1, 40, (1, 15)), (12, 3, (8, 8)), (12, 0, (12, 0))])
def test_neither_kind_crowds_the_other_out(rows, entries_each, expected):
    state = torch.ones(60, 200)
    state[:rows, :] = 12 if not entries_each else 1
    state[:rows, :entries_each] = 2e3
    found = metrics.massive_activations(state)
    assert (sum(m.kind == "row" for m in found), sum(m.kind == "entry" for m in found)) == expected


def test_more_zero_rows_than_not():
    state = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    assert metrics.norms(state).row_ratio == math.inf
    assert [m.position for m in metrics.massive_activations(state)] == [2]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_has_no_norms_and_nothing_massive(bad):
    state = torch.ones(3, 4)
    state[1, 2] = bad
    found = metrics.norms(state)
    assert math.isnan(found.sink_norm)
    assert found.peak_position is None
    assert metrics.massive_activations(state) == []

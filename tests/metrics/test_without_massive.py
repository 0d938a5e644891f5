"""The entropy of the tokens that do not stand out, against singular values of the matrix with rows deleted."""

import math

import numpy as np
import pytest
import torch

from thalweg import metrics


def shannon(matrix):
    squares = np.linalg.svd(np.asarray(matrix, dtype=np.float64), compute_uv=False) ** 2
    shares = squares[squares > 0] / squares.sum()
    return float(-(shares * np.log(shares)).sum()), math.log(min(matrix.shape))


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (13, 12)])
@pytest.mark.parametrize("rows", [(), (0,), (3,), (0, 5, 7)])
def test_massive_rows_are_dropped_and_the_largest_where_none_is(shape, rows):
    state = np.random.default_rng([*shape, *rows]).standard_normal(shape)
    state[list(rows)] *= 300.0
    dropped = list(rows) or [int(np.linalg.norm(state, axis=1).argmax())]
    expected, most = shannon(np.delete(state, dropped, axis=0))
    assert metrics.entropy_without_massive(torch.tensor(state)) == pytest.approx(expected, rel=1e-9)
    assert metrics.entropy_without_massive_normalized(torch.tensor(state)) == pytest.approx(expected / most, rel=1e-9)
    measured = metrics.measure_state(torch.tensor(state)).metrics
    assert measured["entropy_without_massive"] == pytest.approx(expected, rel=1e-9)


def test_the_ratio_decides_what_is_massive():
    state = torch.tensor([[6.0, 0.0], [0.0, 5.5], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert metrics.entropy_without_massive(state, massive_ratio=3.5) == pytest.approx(shannon(state[2:])[0])
    assert metrics.entropy_without_massive(state, massive_ratio=10.0) == pytest.approx(shannon(state[1:])[0])


def test_what_is_left_of_nothing_is_undefined():
    assert math.isnan(metrics.entropy_without_massive(torch.ones(1, 4)))
    assert math.isnan(metrics.entropy_without_massive(torch.zeros(3, 4)))
    two = torch.tensor([[100.0, 0.0], [0.0, 1.0]])
    assert metrics.entropy_without_massive(two) == 0
    assert math.isnan(metrics.entropy_without_massive_normalized(two))
    only_one = torch.tensor([[100.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert math.isnan(metrics.entropy_without_massive(only_one))


def test_it_is_measured_on_request_alone():
    measured = metrics.measure_state(torch.randn(4, 6), without_massive=False).metrics
    assert measured["entropy_without_massive"] is None
    assert measured["entropy_without_massive_normalized"] is None

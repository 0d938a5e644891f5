"""Entropies under other authors' names: the numbers of DEFINITIONS.md, and each definition once more in NumPy."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy as shannon

from thalweg import metrics


@pytest.fixture(scope="module")
def documented() -> np.ndarray:
    state = np.random.default_rng(0).standard_normal((64, 256))
    state /= np.linalg.norm(state, axis=1, keepdims=True)
    state[0] *= 100
    return state


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("entropy_centred", 0.0629),
        ("entropy_wei", 1.727),
        ("entropy_skean_1", 1.803),
        ("entropy_skean_2", 0.705),
        ("entropy_without_sink", 4.018),
    ],
)
def test_documented_values(documented, name, value):
    # As many digits as the definitions give.
    assert getattr(metrics, name)(torch.tensor(documented)) == pytest.approx(value, abs=5e-5 if value < 0.1 else 5e-4)


def test_documented_entropy_and_its_known_mistake(documented):
    spectrum = metrics.spectrum(torch.tensor(documented))
    assert metrics.entropy(spectrum).item() == pytest.approx(0.0629, abs=5e-5)
    assert metrics.entropy_normalized(spectrum).item() == pytest.approx(0.0151, abs=5e-5)
    assert metrics.entropy(spectrum.sqrt()).item() == pytest.approx(2.217, abs=5e-4)


def naive(state: np.ndarray) -> dict[str, float]:
    centred = state - state.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    kernel = np.maximum(unit @ unit.T if len(state) <= state.shape[1] else unit.T @ unit, 0)
    positive = np.linalg.eigvalsh(kernel)
    return {
        "entropy_centred": shannon(np.linalg.svd(centred, compute_uv=False) ** 2),
        "entropy_wei": shannon(np.linalg.svd(unit, compute_uv=False) ** 2),
        "entropy_skean_1": shannon(positive[positive > 0]),
        "entropy_skean_2": -math.log((kernel**2).sum() / len(state) ** 2),
        "entropy_without_sink": shannon(np.linalg.svd(state[1:], compute_uv=False) ** 2),
    }


@pytest.mark.parametrize(("tokens", "width"), [(9, 14), (14, 9), (2, 3)])
@pytest.mark.parametrize("kind", ["plain", "massive", "mean direction"])
def test_each_is_its_definition(state_of, kind, tokens, width):
    state = state_of(kind, tokens, width, 5)
    for name, value in naive(state).items():
        # Centring a massive row loses its norm ratio in digits: 1e5 of 1e-16.
        assert getattr(metrics, name)(torch.tensor(state)) == pytest.approx(value, rel=1e-8, abs=1e-9), name


def test_two_rows_in_one_direction():
    state = torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    assert metrics.entropy_centred(state) == pytest.approx(0, abs=1e-15)
    assert metrics.entropy_wei(state) == pytest.approx(0, abs=1e-15)
    assert metrics.entropy_skean_1(state) == pytest.approx(math.log(2))
    assert metrics.entropy_skean_2(state) == pytest.approx(math.log(2))


def test_without_sink_leaves_the_named_row_out():
    state = torch.tensor([[1.0, 0.0], [100.0, 0.0], [0.0, 1.0]])
    assert metrics.entropy_without_sink(state, sink_position=1) == pytest.approx(math.log(2))
    assert math.isnan(metrics.entropy_without_sink(state, sink_position=3))
    assert math.isnan(metrics.entropy_without_sink(state[:1]))


@pytest.mark.parametrize("name", ["entropy_centred", "entropy_wei", "entropy_skean_1", "entropy_skean_2"])
def test_equal_rows_leave_nothing_after_centring(name):
    rows = torch.tensor([[0.1, 0.7, -0.3]]).repeat(7, 1)
    assert math.isnan(getattr(metrics, name)(rows))
    assert math.isnan(getattr(metrics, name)(rows[:1]))

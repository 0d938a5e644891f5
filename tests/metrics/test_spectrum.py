"""Entropy and its companions against singular values in float64 and against closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg import metrics


def naive_entropy(state: np.ndarray) -> float:
    """The definition, by NumPy's own singular values."""
    shares = np.linalg.svd(state.astype(np.float64), compute_uv=False) ** 2
    shares = shares / shares.sum()
    return float(-sum(p * math.log(p) for p in shares if p > 0))


@settings(max_examples=60, derandomize=True)
@given(seed=st.integers(0, 10**6), tokens=st.integers(1, 40), width=st.integers(1, 40))
def test_entropy_is_that_of_the_singular_values(state_of, seed, tokens, width):
    kinds = (
        "plain",
        "massive",
        "two massive",
        "mean direction",
        "equal rows",
        "zero rows",
        "one direction",
        "decaying",
    )
    state = state_of(kinds[seed % len(kinds)], tokens, width, seed)
    found = metrics.entropy(metrics.spectrum(torch.tensor(state)))
    # 1e-7 is the promise; float64 keeps 1e-11 on matrices this small.
    assert found.item() == pytest.approx(naive_entropy(state), rel=1e-9, abs=1e-11)


def test_spectrum_is_the_squared_singular_values(state_of, kind):
    state = state_of(kind, 12, 20, 3)
    expected = np.linalg.svd(state, compute_uv=False) ** 2
    # Forming a Gram matrix costs eps x sigma_1^2 on every eigenvalue.
    np.testing.assert_allclose(metrics.spectrum(torch.tensor(state)), expected, rtol=1e-10, atol=1e-14 * expected[0])


@pytest.mark.parametrize("directions", [1, 2, 7])
def test_equal_singular_values_have_the_logarithm_of_their_number(directions):
    spectrum = metrics.spectrum(3 * torch.eye(directions, 9))
    assert metrics.entropy(spectrum).item() == pytest.approx(math.log(directions), abs=1e-14)
    assert metrics.effective_rank(spectrum).item() == pytest.approx(directions, rel=1e-14)
    assert metrics.anisotropy(spectrum).item() == pytest.approx(1 / directions, rel=1e-14)
    assert metrics.frobenius_sq(spectrum).item() == pytest.approx(9 * directions, rel=1e-14)


def test_nine_and_one():
    spectrum = metrics.spectrum(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    assert spectrum.tolist() == pytest.approx([9, 1])
    assert metrics.anisotropy(spectrum).item() == pytest.approx(0.9)
    assert metrics.dominance(spectrum).item() == pytest.approx(9)
    assert metrics.sigma1_sq(spectrum).item() == pytest.approx(9)
    assert metrics.sigma2_sq(spectrum).item() == pytest.approx(1)
    assert metrics.sigma3_sq(spectrum).isnan()


def test_normalized_entropy_divides_by_the_smaller_side():
    state = np.random.default_rng(0).standard_normal((5, 11))
    found = metrics.entropy_normalized(metrics.spectrum(torch.tensor(state))).item()
    assert found == pytest.approx(naive_entropy(state) / math.log(5), rel=1e-12)
    assert metrics.entropy_normalized(metrics.spectrum(torch.eye(6))).item() == pytest.approx(1, abs=1e-15)


def test_one_token_has_no_entropy_and_no_normalized_entropy():
    spectrum = metrics.spectrum(torch.tensor([[3.0, 4.0, 12.0]]))
    assert spectrum.tolist() == pytest.approx([169])
    assert str(metrics.entropy(spectrum).item()) == "0.0"
    assert metrics.anisotropy(spectrum).item() == 1
    assert metrics.dominance(spectrum).item() == math.inf
    for undefined in (metrics.entropy_normalized, metrics.sigma2_sq):
        assert undefined(spectrum).isnan()


def test_a_spectrum_of_zeros_is_undefined_and_never_zero():
    spectrum = metrics.spectrum(torch.zeros(3, 4))
    for undefined in (
        metrics.entropy,
        metrics.entropy_normalized,
        metrics.anisotropy,
        metrics.effective_rank,
        metrics.dominance,
    ):
        assert undefined(spectrum).isnan()


def test_dominance_is_infinite_without_a_tail():
    assert metrics.dominance(torch.tensor([4.0, 0.0])).item() == math.inf


def test_the_tail_survives_beside_a_massive_row():
    # F2 - sigma_1^2 would be rounding here: the tail is 1e-13 of the whole.
    state = torch.diag(torch.tensor([1e7, 1.0, 2.0], dtype=torch.float64))
    assert metrics.dominance(metrics.spectrum(state)).item() == pytest.approx(1e14 / 5, rel=1e-12)


def test_leading_dimensions_are_batches():
    spectra = torch.tensor([[9.0, 1.0], [4.0, 4.0]])
    for function in (metrics.entropy, metrics.anisotropy, metrics.dominance, metrics.effective_rank):
        both = function(spectra)
        assert both.tolist() == [function(row).item() for row in spectra]


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_a_state_without_entries_is_an_error_that_says_so(shape):
    with pytest.raises(ValueError, match="at least one token and one dimension"):
        metrics.spectrum(torch.zeros(shape))

"""The solver keeps its promise, 1e-5 relative or 1e-7 absolute in the entropy, where float32 alone breaks it."""

import math

import numpy as np
import pytest
import torch

from thalweg.metrics import entropy, measure_state
from thalweg.metrics._eigenvalues import SMALL, eigenvalues, float32_noise, gram_matrix
from thalweg.metrics._view import StateView

WIDE = (SMALL + 20, SMALL + 60)
TALL = (SMALL + 60, SMALL + 20)


def hard_state(name: str, shape: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(1)
    state = rng.standard_normal(shape)
    if name.startswith("ratio"):
        state += 3 * rng.standard_normal(shape[1])
        state[0] *= float(name.split()[1])
    elif name == "three massive rows":
        state[[0, 5, 9]] *= np.array([[1e4], [5e3], [11.0]])
    elif name == "repeated rows":
        state = state[:100][np.minimum(rng.zipf(1.3, shape[0]), 100) - 1]
    elif name == "near one direction":
        state = rng.standard_normal((shape[0], 1)) * rng.standard_normal(shape[1]) + 1e-3 * state
    elif name == "slow decay":
        state *= np.arange(1, shape[1] + 1) ** -1.0
    elif name == "low rank, slow decay":
        state = rng.standard_normal((shape[0], 40)) * np.arange(1, 41) ** -0.5 @ rng.standard_normal((40, shape[1]))
    return state


NAMES = (
    "plain",
    "ratio 1e2",
    "ratio 1e4",
    "ratio 1e6",
    "three massive rows",
    "repeated rows",
    "near one direction",
    "slow decay",
    "low rank, slow decay",
)


@pytest.mark.parametrize("shape", [WIDE, TALL], ids=["wide", "tall"])
@pytest.mark.parametrize("name", NAMES)
def test_entropy_is_within_the_promise(name, shape):
    state = hard_state(name, shape)
    expected = np.linalg.svd(state, compute_uv=False) ** 2
    p = expected / expected.sum()
    p = p[p > 0]
    truth = float(-(p * np.log(p)).sum())
    found = eigenvalues(gram_matrix(torch.tensor(state if shape == WIDE else state.T))).values
    assert entropy(found).item() == pytest.approx(truth, rel=1e-5, abs=1e-7)
    # sigma_1..3 are columns of their own: float32 noise is 6e-8 of the largest eigenvalue that float32 saw.
    np.testing.assert_allclose(found[:3], expected[:3], rtol=1e-4)
    assert found.sum().item() == pytest.approx(expected.sum(), rel=1e-10)


@pytest.mark.parametrize("shape", [WIDE, TALL, (30, 40), (40, 30), (2, 5), (7, 1)], ids=str)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("position", [0, 1])
def test_spectra_with_and_without_a_row_are_within_the_promise(name, shape, position):
    state = hard_state(name, WIDE)[: shape[0], : shape[1]] if shape[0] <= WIDE[0] else hard_state(name, shape)
    view = StateView(torch.tensor(state))
    without = view.without(position)
    for found, rows in ((view.eigenvalues, state), (without, np.delete(state, position, axis=0))):
        expected = np.linalg.svd(rows, compute_uv=False) ** 2
        assert found.values.shape == expected.shape
        truth = entropy(torch.tensor(expected)).item()
        assert entropy(found.values).item() == pytest.approx(truth, rel=1e-5, abs=1e-7)
        precise = 1e-13 if found.exact else 1e-6
        np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=precise * expected[0])
        assert found.values.sum().item() == pytest.approx(expected.sum(), rel=1e-10)


def test_float32_is_given_the_rows_beside_a_massive_one_and_nothing_it_would_spoil():
    state = hard_state("plain", WIDE)
    state[0] *= 1e4
    massive = StateView(torch.tensor(state))
    assert not massive.without(0).exact
    assert not massive.eigenvalues.exact
    spoilt = StateView(torch.tensor(hard_state("low rank, slow decay", WIDE)))
    assert spoilt.without(0).exact
    assert spoilt.eigenvalues.exact


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_what_float32_cannot_hold_is_no_matter(size):
    state = torch.tensor(hard_state("plain", WIDE))
    view, scaled = StateView(state), StateView(size * state)
    np.testing.assert_allclose(scaled.without(0).values, size**2 * view.without(0).values, rtol=1e-6)
    assert not scaled.eigenvalues.exact


def test_rows_of_zeros_beside_one_have_no_spectrum():
    state = torch.zeros(SMALL + 5, SMALL + 9)
    state[3, 2] = 7.0
    view = StateView(state)
    assert view.without(3).values.tolist() == [0.0] * (SMALL + 4)
    assert view.eigenvalues.values.tolist() == [49.0] + [0.0] * (SMALL + 4)


def test_float32_alone_would_break_the_promise():
    """The reason for taking leading directions out; if this fails the solver can be simpler."""
    state = hard_state("near one direction", WIDE)
    gram = gram_matrix(torch.tensor(state))
    exact = entropy(eigenvalues(gram, exact=True).values).item()
    plain = entropy(torch.linalg.eigvalsh(gram.float()).double().clamp_min(0)).item()
    assert abs(plain - exact) > max(1e-5 * exact, 1e-7)
    assert not eigenvalues(gram).exact


def test_what_float32_could_spoil_is_done_in_float64():
    assert eigenvalues(gram_matrix(torch.tensor(hard_state("low rank, slow decay", WIDE)))).exact
    assert eigenvalues(torch.eye(SMALL)).exact


def noise_of(shares):
    """The same with zeros that are not counted beside it."""
    several = torch.stack([shares, torch.cat([shares, torch.zeros(5)])[: len(shares)]])
    found = float32_noise(several, torch.tensor([len(shares)] * 2))
    assert found[0] == found[1]
    return float(found[0])


def test_noise_counts_the_eigenvalues_that_are_noise():
    full, low = torch.ones(1000) / 1000, torch.cat([torch.ones(100) / 100, torch.zeros(900)])
    assert noise_of(low) > 50 * noise_of(full)
    # 450 positive units of 2^-24 / 100 and a walk of 31.6, each times 1 - ln(unit).
    assert noise_of(low) == pytest.approx((450 + 1000**0.5) * 2**-24 / 100 * (1 - math.log(2**-24 / 100)))
    assert noise_of(torch.zeros(3)) == 0


@pytest.mark.parametrize("count", [1, 127, 128, 129, 401])
def test_blocks_give_the_whole_gram_matrix(count):
    rows = torch.randn(count, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(count))
    torch.testing.assert_close(gram_matrix(rows), rows @ rows.T, rtol=1e-13, atol=1e-13)


def test_no_global_switch_changes_a_number():
    state = torch.tensor(hard_state("ratio 1e4", WIDE), dtype=torch.float32)
    expected = measure_state(state)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", torch.bfloat16):
            assert measure_state(state) == expected
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_rank_one_matrix_is_not_spoilt_by_what_is_left_over():
    row = torch.randn(WIDE[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    column = torch.randn(WIDE[0], 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = eigenvalues(gram_matrix(column * row))
    assert found.exact
    assert entropy(found.values).item() == pytest.approx(0, abs=1e-7)
    assert eigenvalues(torch.zeros(SMALL + 1, SMALL + 1, dtype=torch.float64)).values.tolist() == [0.0] * (SMALL + 1)


def test_a_spectrum_on_which_float32_does_not_converge_is_solved_in_float64():
    scale = torch.exp(-torch.arange(400, dtype=torch.float64) / 3)
    for seed in range(6):
        state = (torch.randn(420, 400, generator=torch.Generator().manual_seed(seed)).double() * scale).float()
        shares = torch.linalg.svdvals(state.double()).square()
        shares = shares / shares.sum()
        expected = float(-torch.xlogy(shares, shares).sum())
        assert measure_state(state).metrics["entropy"] == pytest.approx(expected, rel=1e-5)

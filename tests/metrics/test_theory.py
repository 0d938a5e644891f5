"""Theorem 1, Corollary 2 and the bound for several massive rows hold for every matrix, and are what the paper says."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg import metrics

# Everything is float64 on matrices up to 24 x 24: rounding is a few hundred times 1e-16.
TOLERANCE = 1e-11


def truth(state: np.ndarray) -> tuple[np.ndarray, float]:
    squares = np.linalg.svd(state, compute_uv=False) ** 2
    shares = squares[squares > 0] / squares.sum()
    return squares, float(-(shares * np.log(shares)).sum())


def naive_terms(state: np.ndarray, sink: int) -> tuple[float, float, float]:
    """M, R and alpha by the paper's angles."""
    x = state[sink]
    others = [row for i, row in enumerate(state) if i != sink]
    rest = sum(row @ row for row in others)
    cosines = [(row @ x) ** 2 / ((row @ row) * (x @ x)) if row @ row else 0.0 for row in others]
    return float(x @ x), float(rest), float(sum((row @ row) * c for row, c in zip(others, cosines, strict=True)) / rest)


def test_terms_are_the_papers(state_of, kind):
    state = state_of(kind, 9, 6, 4)
    for sink in (0, 3):
        if not state[sink].any():
            continue
        found = metrics.theorem(torch.tensor(state), sink_position=sink)
        m, r, alpha = naive_terms(state, sink)
        c = m / r
        p = (c + alpha) / (c + 1)
        assert pytest.approx(m, rel=1e-12) == found.M
        assert pytest.approx(r, rel=1e-12) == found.R
        assert found.alpha == pytest.approx(alpha, rel=1e-9)
        assert found.c == pytest.approx(c, rel=1e-12)
        assert found.sigma1_sq_bound == pytest.approx(m + alpha * r, rel=1e-12)
        assert found.anisotropy_bound == pytest.approx(p, rel=1e-12)
        assert (found.sigma1_sq_bound_weak, found.dominance_bound_weak) == (found.M, found.c)
        assert found.anisotropy_bound_weak == pytest.approx(c / (c + 1), rel=1e-12)
        if kind != "one direction":
            assert found.dominance_bound == pytest.approx((c + alpha) / (1 - alpha), rel=1e-9)
            h = -p * math.log(p) - (1 - p) * math.log(1 - p) + (1 - p) * math.log(5)
            assert found.entropy_bound == pytest.approx(h, rel=1e-7, abs=1e-12)


@settings(max_examples=150, derandomize=True)
@given(seed=st.integers(0, 10**6), tokens=st.integers(1, 24), width=st.integers(1, 24))
def test_every_inequality_holds(state_of, seed, tokens, width):
    kinds = (
        "plain",
        "massive",
        "two massive",
        "massive elsewhere",
        "mean direction",
        "equal rows",
        "zero rows",
        "one direction",
    )
    state = state_of(kinds[seed % len(kinds)], tokens, width, seed)
    sink = seed % tokens
    squares, entropy = truth(state)
    whole, tail = squares.sum(), squares[1:].sum()
    found = metrics.theorem(torch.tensor(state), sink_position=sink)
    massive = metrics.massive_bound(torch.tensor(state), massive_ratio=3.0)
    slack = TOLERANCE * max(1.0, entropy)
    # `not <` lets NaN bounds pass: those are the edges, tested one by one below.
    assert not squares[0] < found.sigma1_sq_bound - TOLERANCE * whole
    assert not squares[0] < found.sigma1_sq_bound_weak - TOLERANCE * whole
    assert not squares[0] / whole < found.anisotropy_bound - TOLERANCE
    assert not squares[0] / whole < found.anisotropy_bound_weak - TOLERANCE
    assert not tail / whole > (1 - found.alpha) * found.R / whole + TOLERANCE
    assert not entropy > found.entropy_bound + slack
    assert not entropy > found.entropy_bound_weak + slack
    assert not entropy > massive.entropy_bound_massive + slack
    assert not squares[: massive.massive_rank].sum() / whole < massive.massive_share - TOLERANCE
    if tail > 1e-9 * whole and len(squares) > 1:
        assert not squares[0] / tail < found.dominance_bound * (1 - 1e-5)


def test_the_stronger_bounds_are_stronger(state_of, kind):
    found = metrics.theorem(torch.tensor(state_of(kind, 12, 12, 8)))
    assert found.sigma1_sq_bound >= found.sigma1_sq_bound_weak
    assert found.dominance_bound >= found.dominance_bound_weak
    assert found.anisotropy_bound >= found.anisotropy_bound_weak


def test_the_entropy_bound_needs_more_than_the_papers_proof():
    """p is below 1/e here, where the paper's step -p1 ln p1 <= -p ln p fails; the bound itself holds."""
    state = np.eye(8)
    found = metrics.theorem(torch.tensor(state))
    assert found.anisotropy_bound == pytest.approx(1 / 8)
    assert found.anisotropy_bound < 1 / math.e
    assert truth(state)[1] <= found.entropy_bound + 1e-12
    assert found.entropy_bound == pytest.approx(math.log(8))


def test_orthogonal_rows_meet_the_bounds_exactly():
    state = np.diag([20.0, 1.0, 1.0, 1.0])
    squares, entropy = truth(state)
    found = metrics.theorem(torch.tensor(state))
    assert found.sigma1_sq_bound == squares[0]
    assert found.dominance_bound == pytest.approx(squares[0] / squares[1:].sum())
    assert found.entropy_bound == pytest.approx(entropy, rel=1e-13)


def test_the_documented_example():
    found = metrics.theorem(torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    assert (found.M, found.R, found.alpha, found.c) == (4, 2, 0.5, 2)
    assert found.sigma1_sq_bound == 5
    assert found.anisotropy_bound == pytest.approx(5 / 6)


def test_the_weak_entropy_bound_is_the_largest_entropy_where_the_sink_is_small():
    found = metrics.theorem(torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 3.0]]))
    assert found.anisotropy_bound_weak < 1 / 2
    assert found.entropy_bound_weak == pytest.approx(math.log(2))


def test_one_token_has_terms_but_no_bounds():
    found = metrics.theorem(torch.tensor([[3.0, 4.0]]))
    assert (found.M, found.R, found.c) == (25, 0, math.inf)
    for name in (
        "alpha",
        "sigma1_sq_bound",
        "dominance_bound",
        "anisotropy_bound",
        "entropy_bound",
        "entropy_bound_weak",
    ):
        assert math.isnan(getattr(found, name)), name
    massive = metrics.massive_bound(torch.tensor([[3.0, 4.0]]))
    assert (massive.massive_row_count, massive.massive_rank, massive.massive_share) == (0, 0, 0)
    assert massive.entropy_bound_massive == 0


def test_a_zero_sink_proves_nothing():
    found = metrics.theorem(torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]]))
    assert (found.M, found.R, found.c) == (0, 26, 0)
    for name in ("alpha", "sigma1_sq_bound", "dominance_bound", "anisotropy_bound"):
        assert math.isnan(getattr(found, name)), name
    assert found.entropy_bound == found.entropy_bound_weak == pytest.approx(math.log(2))


def test_a_sink_among_zeros_proves_everything():
    found = metrics.theorem(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert (found.M, found.R, found.c) == (25, 0, math.inf)
    assert math.isnan(found.alpha)
    assert (found.anisotropy_bound, found.sigma1_sq_bound, found.entropy_bound) == (1, 25, 0)
    assert found.dominance_bound == math.inf


@pytest.mark.parametrize("state", [torch.zeros(3, 2), torch.full((3, 2), math.nan)])
def test_nothing_is_proved_about_zeros_or_what_is_not_finite(state):
    found, massive = metrics.theorem(state), metrics.massive_bound(state)
    assert all(math.isnan(getattr(found, name)) for name in found.__slots__)
    assert (massive.massive_row_count, massive.massive_rank) == (None, None)
    assert math.isnan(massive.massive_share)


def test_full_alignment_makes_dominance_unbounded():
    found = metrics.theorem(torch.tensor([[2.0], [3.0]]))
    assert found.alpha == 1
    assert found.dominance_bound == math.inf
    assert found.entropy_bound == pytest.approx(0, abs=1e-15)


def test_no_token_at_the_sink_position():
    found = metrics.theorem(torch.ones(3, 2), sink_position=3)
    assert math.isnan(found.M)


def test_one_massive_row_at_the_sink_gives_corollary_2(state_of):
    state = torch.tensor(state_of("massive", 10, 16, 1))
    massive, found = metrics.massive_bound(state), metrics.theorem(state)
    assert (massive.massive_row_count, massive.massive_rank) == (1, 1)
    assert massive.massive_share == pytest.approx(found.anisotropy_bound, rel=1e-12)
    assert massive.entropy_bound_massive == pytest.approx(found.entropy_bound, rel=1e-6, abs=1e-9)


def test_massive_rows_are_compressed_to_their_span():
    rng = np.random.default_rng(3)
    state = rng.standard_normal((9, 7))
    state[[1, 5]] *= 60
    state[7] = 2 * state[5]
    basis = np.linalg.qr(state[[1, 5]].T)[0]
    squares, entropy = truth(state)
    q = np.linalg.eigvalsh(basis.T @ state.T @ state @ basis) / squares.sum()
    rest = 1 - q.sum()
    bound = -(q * np.log(q)).sum() - rest * math.log(rest / (7 - 2))
    found = metrics.massive_bound(torch.tensor(state))
    assert (found.massive_row_count, found.massive_rank) == (3, 2)
    assert found.massive_share == pytest.approx(q.sum(), rel=1e-12)
    assert found.entropy_bound_massive == pytest.approx(bound, rel=1e-9)
    assert entropy <= found.entropy_bound_massive


def test_several_massive_rows_beat_the_bound_of_one():
    state = torch.diag(torch.tensor([50.0, 50.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
    assert metrics.massive_bound(state).entropy_bound_massive < metrics.theorem(state).entropy_bound


def test_the_documented_several_rows():
    found = metrics.massive_bound(torch.diag(torch.tensor([10.0, 10.0, 1.0, 1.0, 1.0])))
    assert (found.massive_row_count, found.massive_rank) == (2, 2)
    assert found.massive_share == pytest.approx(200 / 203)
    assert found.entropy_bound_massive == pytest.approx(truth(np.diag([10.0, 10.0, 1.0, 1.0, 1.0]))[1], rel=1e-12)


@pytest.mark.parametrize(
    ("shares", "rest", "rank", "value"), [([0.5], 0.5, 3, 1.5 * math.log(2)), ([1.0], 0.0, 1, 0.0)]
)
def test_spread_entropy(shares, rest, rank, value):
    assert metrics.spread_entropy(shares, rest, rank) == pytest.approx(value)

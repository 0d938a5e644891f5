"""One pass gives every column, with the reason for what is undefined, and the theorem checked."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from thalweg import metrics
from thalweg.catalogue import metrics_at
from thalweg.metrics import _kept
from thalweg.metrics._eigenvalues import SMALL, Eigenvalues

COLUMNS = [
    "entropy",
    "entropy_normalized",
    "anisotropy",
    "effective_rank",
    "sigma1_sq",
    "sigma2_sq",
    "sigma3_sq",
    "frobenius_sq",
    "sink_norm",
    "rest_norm",
    "norm_ratio",
    "row_ratio",
    "median_norm",
    "row_position",
    "peak_value",
    "peak_position",
    "peak_dim",
    "median_abs",
    "M",
    "R",
    "alpha",
    "c",
    "dominance",
    "sigma1_sq_bound",
    "sigma1_sq_bound_weak",
    "dominance_bound",
    "dominance_bound_weak",
    "anisotropy_bound",
    "anisotropy_bound_weak",
    "entropy_bound",
    "entropy_bound_weak",
    "massive_row_count",
    "massive_rank",
    "massive_share",
    "entropy_bound_massive",
    "massive_entry_count",
    "entropy_without_massive",
    "entropy_without_massive_normalized",
    "bound_violated",
    "reason",
]
VARIANTS = ["entropy_without_sink", "entropy_centred", "entropy_wei", "entropy_skean_1", "entropy_skean_2"]
WHOLE = {"row_position", "peak_position", "peak_dim", "massive_row_count", "massive_rank", "massive_entry_count"}


def test_the_columns_are_those_of_the_layers_table():
    plain = metrics.measure_state(torch.randn(4, 6)).metrics
    assert sorted(plain) == sorted(COLUMNS)
    variants = metrics.measure_state(torch.randn(4, 6), variants=True).metrics
    assert sorted(variants) == sorted([*COLUMNS, *VARIANTS])
    undefined = metrics.measure_state(torch.zeros(4, 6), variants=True).metrics
    assert sorted(undefined) == sorted(variants)


def test_every_column_but_the_reason_is_in_the_catalogue():
    assert {row.name for row in metrics_at("state")} == {*COLUMNS, *VARIANTS} - {"reason"}


def test_types_are_those_of_the_table(state_of, kind):
    for name, value in metrics.measure_state(torch.tensor(state_of(kind, 9, 7, 0))).metrics.items():
        expected = int if name in WHOLE else bool if name == "bound_violated" else float
        assert type(value) is expected or (name == "reason" and value is None), name


def test_it_agrees_with_the_functions_it_gathers(state_of, kind):
    state = torch.tensor(state_of(kind, 10, 12, 6))
    found = metrics.measure_state(state, massive_ratio=5.0, variants=True)
    spectrum = metrics.spectrum(state)
    for name in ("entropy", "anisotropy", "effective_rank", "dominance", "sigma3_sq", "frobenius_sq"):
        assert found.metrics[name] == pytest.approx(getattr(metrics, name)(spectrum).item(), rel=1e-12, nan_ok=True)
    for record in (metrics.norms(state), metrics.theorem(state), metrics.massive_bound(state, massive_ratio=5.0)):
        for name in record.__slots__:
            assert found.metrics[name] == pytest.approx(getattr(record, name), rel=1e-12, nan_ok=True), name
    for name in VARIANTS:
        assert found.metrics[name] == pytest.approx(getattr(metrics, name)(state), nan_ok=True), name
    assert list(found.massive) == metrics.massive_activations(state, massive_ratio=5.0)
    assert found.metrics["bound_violated"] is False


@pytest.mark.parametrize("shape", [(1, 5), (1, 1), (6, 1), (2, 2), (30, 7), (7, 30)])
def test_no_bound_is_ever_violated(state_of, kind, shape):
    for seed in range(6):
        state = torch.tensor(state_of(kind, *shape, seed))
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            for sink in (0, shape[0] - 1):
                assert metrics.measure_state(state.to(dtype), sink_position=sink).metrics["bound_violated"] is False


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_input_is_read_exactly(dtype):
    state = torch.randn(9, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert metrics.measure_state(state, variants=True) == metrics.measure_state(state.double(), variants=True)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (torch.full((3, 4), math.nan), "the state is not finite"),
        (torch.tensor([[1.0, 2.0], [math.inf, 0.0]]), "the state is not finite"),
        (torch.zeros(3, 4), "the state is zero"),
    ],
)
def test_undefined_states_are_nan_with_the_reason(state, reason):
    found = metrics.measure_state(state, variants=True)
    assert found.metrics.pop("reason") == reason
    assert found.metrics.pop("bound_violated") is False
    assert all(value is None or math.isnan(value) for value in found.metrics.values())
    assert {name for name, value in found.metrics.items() if value is None} == WHOLE
    assert found.massive == ()


@pytest.mark.parametrize(
    ("state", "sink", "reason", "undefined"),
    [
        (
            [[3.0, 4.0, 0.0]],
            0,
            "one token: nothing to compare it with",
            {"rest_norm", "entropy_normalized", "alpha", "entropy_bound"},
        ),
        ([[1.0, 0.0], [0.0, 1.0]], 0, "min(T, d) = 2: no third singular value", {"sigma3_sq"}),
        ([[1.0, 0, 0], [0, 1, 0], [0, 1, 1]], 3, "no token at sink position 3", {"sink_norm", "M", "entropy_bound"}),
        ([[0.0, 0, 0], [0, 1, 0], [0, 1, 1]], 0, "the sink's row is zero", {"alpha", "anisotropy_bound"}),
        (
            [[1.0, 0, 0], [0, 0, 0], [0, 0, 0]],
            0,
            "every row but the sink's is zero",
            {"alpha", "rest_norm", "norm_ratio"},
        ),
        ([[1.0, 0, 0], [0, 2, 0], [0, 0, 3]], 0, None, set()),
    ],
)
def test_partly_undefined_states_say_why(state, sink, reason, undefined):
    found = metrics.measure_state(torch.tensor(state), sink_position=sink).metrics
    assert found["reason"] == reason
    missing = {name for name, value in found.items() if isinstance(value, float) and math.isnan(value)}
    assert undefined <= missing
    assert bool(missing) == (reason is not None)


def test_one_token():
    found = metrics.measure_state(torch.tensor([[3.0, 4.0]])).metrics
    assert (found["entropy"], found["anisotropy"], found["effective_rank"], found["c"]) == (0, 1, 1, math.inf)
    assert (found["row_ratio"], found["sink_norm"]) == (1, 5)


def test_the_sink_position_takes_the_place_of_position_0(state_of):
    state = torch.tensor(state_of("massive", 8, 6, 2))
    there = metrics.measure_state(state).metrics
    moved = metrics.measure_state(state[[1, 2, 0, 3, 4, 5, 6, 7]], sink_position=2).metrics
    positions = {"row_position": 2, "peak_position": 2}
    for name, value in there.items():
        expected = positions.get(name, value)
        assert moved[name] == (expected if expected is None else pytest.approx(expected, rel=1e-9)), name


def test_a_contradiction_is_seen_and_confirmed_in_float64(monkeypatch):
    """Both directions: a wrong spectrum is reported, and one that only float32 got wrong is computed again."""
    state = torch.randn(SMALL + 6, SMALL + 16, generator=torch.Generator().manual_seed(0))
    state[0] *= 500
    right = metrics.spectrum(state.double())
    wrong = Eigenvalues(torch.full_like(right, float(right.mean())), exact=False)
    monkeypatch.setattr(_kept.StateView, "eigenvalues", wrong)
    recomputed = metrics.measure_state(state, without_massive=False).metrics
    assert recomputed["bound_violated"] is False
    assert recomputed["entropy"] == pytest.approx(metrics.entropy(right).item(), rel=1e-5)
    monkeypatch.setattr(_kept, "eigenvalues", lambda *_, **__: Eigenvalues(wrong.values, exact=True))
    assert metrics.measure_state(state, without_massive=False).metrics["bound_violated"] is True


@pytest.mark.parametrize("broken", ["sigma1", "entropy", "tail", "several"])
def test_each_inequality_is_checked(broken):
    state = torch.diag(torch.tensor([30.0, 30.0, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64))
    bounds, massive = metrics.theorem(state), metrics.massive_bound(state)
    right = metrics.spectrum(state)
    checked = {"bounds": bounds, "massive": massive, "tolerance": 1e-10}
    assert not metrics.bound_violated(right, **checked)
    whole = right.sum()
    wrong = {
        "sigma1": torch.tensor([890.0, 890.0, 6.0, 6.0, 6.0, 6.0]),
        "entropy": whole * torch.tensor([0.51, 0.29, 0.05, 0.05, 0.05, 0.05]),
        "tail": whole * torch.tensor([0.45, 0.35, 0.05, 0.05, 0.05, 0.05]),
        "several": whole * torch.tensor([0.6, 0.1, 0.1, 0.1, 0.05, 0.05]),
    }[broken]
    assert metrics.bound_violated(wrong.double(), **checked)


def test_the_input_is_left_alone(state_of, kind):
    state = torch.tensor(state_of(kind, 9, 12, 1))
    before = state.clone()
    metrics.measure_state(state, variants=True)
    assert torch.equal(state, before)


def test_states_that_require_gradients_and_views_are_fine():
    state = torch.randn(12, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    expected = metrics.measure_state(state.detach()[::2, 1:].contiguous())
    assert metrics.measure_state(state[::2, 1:]) == expected


def test_threads_do_not_meet(state_of):
    states = [torch.tensor(state_of("mean direction", 30, 20, seed)) for seed in range(12)]
    alone = [metrics.measure_state(state) for state in states]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(metrics.measure_state, states)) == alone


@pytest.mark.parametrize(
    ("option", "value"), [("sink_position", -1), ("massive_ratio", 1.0), ("massive_ratio", math.nan)]
)
def test_options_out_of_range_are_errors(option, value):
    with pytest.raises(ValueError, match=f"`{option}`.*got {value}"):
        metrics.measure_state(torch.ones(2, 2), **{option: value})


def test_golden_values(state_of):
    """Every column on one state, as it was when it was last looked at; `regenerate_goldens.py` writes the file."""
    golden = json.loads((Path(__file__).parent / "goldens.json").read_text())["state"]
    state = np.round(state_of("two massive", 7, 5, 11), 6)
    found = metrics.measure_state(torch.tensor(state), variants=True).metrics
    assert len(golden) == len(found) == 45
    for name, value in golden.items():
        # Different BLAS libraries round the last digits differently.
        assert found[name] == (pytest.approx(value, rel=1e-8) if isinstance(value, float) else value), name

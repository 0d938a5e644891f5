"""Properties that hold for every metric of the catalogue that they make sense for."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from thalweg import metrics
from thalweg.catalogue import METRICS, Metric

STATE = [row for row in METRICS if row.site == "state" and row.name != "bound_violated"]
HEAD = [row for row in METRICS if row.site == "head"]
RATES = [row for row in METRICS if row.site == "block"]
# What one entry is, not what the rows span.
BY_ENTRY = {"peak_value", "peak_position", "peak_dim", "median_abs", "massive_entry_count"}
DEGREE = {"activation units": 1, "activation units²": 2}


def named(rows: list[Metric]) -> Any:
    return pytest.mark.parametrize("row", rows, ids=[row.name for row in rows])


def value_of(row: Metric, inputs: dict[str, Any]) -> Any:
    first, *others = row.needs
    result = row.resolve()(inputs[first], **{name: inputs[name] for name in others})
    return getattr(result, row.field) if row.field else result


def of_state(row: Metric, state: torch.Tensor) -> float:
    inputs = {"state": state, "sink_position": 0, "massive_ratio": 10.0}
    value = value_of(row, {**inputs, "spectrum": metrics.spectrum(state)})
    return math.nan if value is None else float(value)


def head_inputs(statistics, softmax_heads, lengths: list[int], **pads: Any) -> dict[str, Any]:
    gen = torch.Generator().manual_seed(0)
    data = statistics([softmax_heads(3, tokens, seed=tokens) for tokens in lengths], **pads)
    longest = data["column_mass"].shape[2]
    vectors = {name: torch.randn(3, max(lengths), 4, generator=gen).double() for name in ("values", "keys", "outputs")}
    fill = pads.get("fill", 0.0)
    for name, whole in vectors.items():
        data[name] = torch.full((len(lengths), 3, longest, 4), fill, dtype=torch.float64)
        for n, tokens in enumerate(lengths):
            data[name][n, :, :tokens] = whole[:, :tokens]
    factors = metrics.write_factors(torch.randn(3, 9, 4, generator=gen))
    norms = metrics.head_write_norm(data["outputs"], factors=factors, lengths=data["lengths"])
    return {**data, "sink_position": 0, "factors": factors, "head_write_norm": norms}


@named(STATE)
def test_values_are_in_range(row, states):
    for kind, state in states((2, 2), (9, 4), (5, 12)):
        value = of_state(row, state)
        # A rounding of the last bit is allowed below 0 or above 1.
        assert math.isnan(value) or row.low is None or value >= row.low - 1e-15, kind
        assert math.isnan(value) or row.high is None or value <= row.high + 1e-15, kind
        if row.unit == "nats":
            assert math.isnan(value) or value <= math.log(min(state.shape)) + 1e-12, kind


@named([row for row in STATE if row.name not in BY_ENTRY])
def test_rotating_the_residual_stream_changes_nothing(row, states):
    turn = torch.linalg.qr(torch.randn(14, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    for kind, state in states((10, 14)):
        # Row norms change by rounding: where rows are equal, which is largest may change with them.
        if row.name != "row_position" or kind != "equal rows":
            assert of_state(row, state @ turn) == close(row, state, of_state(row, state)), kind


@named([row for row in STATE if row.name != "massive_entry_count"])
def test_scaling_the_state_scales_the_value_by_its_unit(row, states):
    factor = 8.0  # a power of two: no rounding, so ties stay ties
    for kind, state in states((10, 14)):
        expected = of_state(row, state) * factor ** DEGREE.get(row.unit, 0)
        assert of_state(row, factor * state) == close(row, factor * state, expected), kind


@named([row for row in STATE if row.kind != "place"])
def test_the_order_of_the_other_tokens_does_not_matter(row, states):
    order = [0, *(1 + np.random.default_rng(0).permutation(9))]
    for kind, state in states((10, 14)):
        assert of_state(row, state[order]) == close(row, state, of_state(row, state)), kind


@pytest.fixture
def states(state_of, kinds):
    def build(*shapes: tuple[int, int]):
        return [(kind, torch.tensor(state_of(kind, *shape, 2))) for kind in kinds for shape in shapes]

    return build


def close(row: Metric, state: torch.Tensor, value: float) -> Any:
    return pytest.approx(value, rel=1e-8, abs=1e-11 * scale(row, state), nan_ok=True)


def scale(row: Metric, state: torch.Tensor) -> float:
    """What rounding is relative to: sigma_3^2 of a matrix of rank 2 is rounding of sigma_1^2."""
    largest = float(state.double().square().sum())
    # A ratio to a tail of 0 is rounding itself.
    return (
        max(1.0, largest if row.unit == "activation units²" else 1.0)
        if row.unit != "ratio"
        else math.inf
        if is_flat(state)
        else 1.0
    )


def is_flat(state: torch.Tensor) -> bool:
    return float(metrics.anisotropy(metrics.spectrum(state))) > 1 - 1e-12


@named(STATE)
def test_float32_is_close_to_float64(row, state_of):
    for kind in ("plain", "massive", "mean direction", "two massive"):
        state = torch.tensor(state_of(kind, 12, 9, 3))
        exact = of_state(row, state)
        # Rounding the entries to float32 moves them by 6e-8, squares by twice that.
        assert of_state(row, state.float()) == pytest.approx(exact, rel=1e-5, abs=1e-7, nan_ok=True), kind


@named(STATE)
def test_inputs_are_left_alone(row, state_of):
    state = torch.tensor(state_of("massive", 6, 8, 0))
    before = state.clone()
    of_state(row, state)
    assert torch.equal(state, before)


@named(STATE)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite_in_nothing_out(row, bad):
    state = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    state[3, 2] = bad
    assert math.isnan(of_state(row, state))


@named(HEAD)
def test_head_values_are_in_range(row, statistics, softmax_heads):
    values = value_of(row, head_inputs(statistics, softmax_heads, [2, 7, 20])).double()
    assert values.isfinite().all()
    assert row.low is None or (values >= row.low).all()
    # Sums of probabilities round.
    assert row.high is None or (values <= row.high + 1e-14).all()


@named(HEAD)
def test_pads_of_any_content_change_no_head(row, statistics, softmax_heads):
    lengths = [3, 8]
    clean = value_of(row, head_inputs(statistics, softmax_heads, lengths))
    for fill in (math.nan, -1e30):
        padded = value_of(row, head_inputs(statistics, softmax_heads, lengths, pad=4, fill=fill))
        torch.testing.assert_close(padded, clean, rtol=1e-14, atol=0, equal_nan=True)


@named(HEAD)
def test_a_batch_of_prompts_is_each_of_them(row, statistics, softmax_heads):
    together = value_of(row, head_inputs(statistics, softmax_heads, [4, 9]))
    shorter = {
        name: value[:1] if torch.is_tensor(value) and name != "factors" else value
        for name, value in head_inputs(statistics, softmax_heads, [4, 9]).items()
    }
    torch.testing.assert_close(value_of(row, shorter), together[:1], rtol=1e-14, atol=0, equal_nan=True)


@named(HEAD)
def test_head_order_is_only_order(row, statistics, softmax_heads):
    inputs = head_inputs(statistics, softmax_heads, [6])
    order = [2, 0, 1]
    shuffled = {
        name: value[order]
        if name == "factors"
        else value[:, order]
        if torch.is_tensor(value) and value.ndim >= 2 and name != "visible"
        else value
        for name, value in inputs.items()
    }
    torch.testing.assert_close(value_of(row, shuffled), value_of(row, inputs)[:, order], rtol=1e-14, atol=0)


@named(RATES)
def test_rates_are_shares_of_heads(row):
    values = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    inputs = {row.needs[0]: values.bool() if row.name == "dormant_rate" else values}
    assert value_of(row, inputs).tolist() == [0.5, 0.0]

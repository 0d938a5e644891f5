"""Attribution against plain NumPy, closed forms, and what a rotation or a change of unit must not change."""

import math

import numpy as np
import pytest
import torch

from thalweg import metrics

BLOCKS, WIDTH = 5, 7


def drawn(seed, *, massive=None):
    """A row's path and its reference state drawn at random; `massive` = (block, part) adds most of it."""
    rng = np.random.default_rng(seed)
    added = rng.standard_normal((BLOCKS, 2, WIDTH))
    if massive is not None:
        added[massive] += 1e3 * rng.standard_normal(WIDTH)
    embedding = rng.standard_normal(WIDTH)
    rows = np.concatenate([embedding[None], embedding + added.sum(1).cumsum(0)])
    return added, rows, int(rng.integers(BLOCKS + 1))


def attributed(added, rows, reference, **options):
    tensors = torch.tensor(added), torch.tensor(rows)
    return metrics.attribution(tensors[0], rows=tensors[1], reference_state=reference, **options)


def naive(added, rows, reference):
    """One number after the other."""
    size = math.sqrt(sum(value**2 for value in rows[reference]))
    found = []
    for part in [rows[0], *added.reshape(-1, WIDTH)]:
        norm = math.sqrt(sum(value**2 for value in part))
        along = sum(value * other / size for value, other in zip(part, rows[reference], strict=True))
        largest = sorted(range(WIDTH), key=lambda dim: -abs(part[dim]))[:3]
        found.append((norm, along, along / size, along / norm, largest, [part[dim] for dim in largest]))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_every_number_is_the_naive_one(seed):
    added, rows, reference = drawn(seed, massive=(2, 1) if seed % 2 else None)
    found = attributed(added, rows, reference, ranks=3)
    expected = zip(*naive(added, rows, reference), strict=True)
    assert found.reason is None
    for name, column in zip(("norm", "along", "share", "cosine", "dims", "values"), expected, strict=True):
        np.testing.assert_allclose(getattr(found, name).numpy(), np.array(column), rtol=1e-12, atol=1e-12)
    direction = rows[reference] / np.linalg.norm(rows[reference])
    np.testing.assert_allclose(found.state_along.numpy(), rows @ direction, rtol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_shares_up_to_the_reference_state_sum_to_one(seed):
    *row, reference = drawn(seed, massive=(3, 0))
    found = attributed(*row, reference)
    assert float(found.share[: 1 + 2 * reference].sum()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_rotation_and_unit_change_no_share(seed):
    added, rows, reference = drawn(seed)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((WIDTH, WIDTH)))[0]
    found, other = attributed(added, rows, reference), attributed(added @ turn * 50, rows @ turn * 50, reference)
    for name in ("share", "cosine"):
        np.testing.assert_allclose(getattr(found, name), getattr(other, name), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(50 * found.along, other.along, rtol=1e-10, atol=1e-10)


def test_the_documented_example():
    found = attributed(np.array([[[0.0, 0.0], [99.0, 0.0]]]), np.array([[1.0, 0.0], [100.0, 0.0]]), 1)
    assert found.share.tolist() == [0.01, 0.0, 0.99]
    assert found.norm.tolist() == [1.0, 0.0, 99.0]
    assert math.isnan(found.cosine[1])
    assert found.dims[2].tolist() == [0, 1]


def test_the_error_of_the_sum_is_over_the_largest_norm_on_the_way():
    added, rows, reference = drawn(1)
    assert attributed(added, rows, reference).sum_error.max() < 1e-15
    rows[3] += np.array([0.3, 0.4, *[0.0] * (WIDTH - 2)])
    sums = np.concatenate([rows[:1], added.reshape(-1, WIDTH)]).cumsum(0)
    parts = np.concatenate([rows[:1], added.reshape(-1, WIDTH)])
    way = max(np.linalg.norm(one) for one in [*sums[:7], *parts[:7]])
    errors = attributed(added, rows, reference).sum_error
    assert float(errors[3]) == pytest.approx(0.5 / way, rel=1e-12)
    assert errors[[0, 1, 2, 4, 5]].max() < 1e-15


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda _, rows: rows.__setitem__((4, 2), math.inf), "missing or not finite"),
        (lambda _, rows: rows.fill(math.nan), "missing or not finite"),
        (lambda added, rows: (added.fill(0.0), rows.fill(0.0)), "row is zero"),
    ],
)
def test_what_has_no_direction_is_nan_with_a_reason(change, reason):
    added, rows, reference = drawn(2)
    change(added, rows)
    found = attributed(added, rows, reference)
    assert reason in found.reason
    for name in ("along", "share", "cosine", "state_along"):
        assert getattr(found, name).isnan().all()


def test_half_precision_rows_are_read_exactly():
    added, rows, reference = drawn(3)
    halves = torch.tensor(added).bfloat16(), torch.tensor(rows).bfloat16()
    half, same = (
        metrics.attribution(parts, rows=row, reference_state=reference)
        for parts, row in (halves, [one.double() for one in halves])
    )
    assert torch.equal(half.along, same.along)


@pytest.mark.parametrize("seed", range(6))
def test_massive_coordinates_hold_a_hundredth_of_the_squared_norm(seed):
    row = np.random.default_rng(seed).standard_normal(30) ** 5
    found = metrics.massive_coordinates(torch.tensor(row))
    assert found == tuple(dim for dim in range(30) if row[dim] ** 2 >= 0.01 * sum(value**2 for value in row))
    assert 0 < len(found) < 30
    for none in (torch.zeros(3), torch.tensor([math.nan, 1.0])):
        assert metrics.massive_coordinates(none) == ()


def test_a_sink_row_stands_out_as_the_norms_say(state_of, kind):
    state = torch.tensor(state_of(kind, 11, 8, 2))
    for sink in (0, 4, 10):
        found, norms = metrics.sink_row(state, sink_position=sink), metrics.norms(state, sink_position=sink)
        for name in ("sink_norm", "rest_norm", "norm_ratio", "row_ratio"):
            assert getattr(found, name) == pytest.approx(getattr(norms, name), rel=1e-12), name
        rows = np.linalg.norm(state.numpy(), axis=1)
        assert rows[found.row_position] == pytest.approx(rows.max(), rel=1e-13)
        assert found.sink_ratio == pytest.approx(rows[sink] / np.median(rows), rel=1e-12)


def test_the_edges_of_a_sink_row():
    one = metrics.sink_row(torch.tensor([[3.0, 4.0]]))
    assert (one.sink_norm, one.row_ratio, one.sink_ratio) == (5, 1, 1)
    assert math.isnan(one.norm_ratio)
    short = metrics.sink_row(torch.ones(2, 2), sink_position=5)
    assert math.isnan(short.sink_norm)
    assert math.isnan(short.sink_ratio)
    assert short.row_ratio == 1
    alone = metrics.sink_row(torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]]))
    assert (alone.row_ratio, alone.sink_ratio) == (math.inf, math.inf)
    other = metrics.sink_row(torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]]), sink_position=1)
    assert math.isnan(other.sink_ratio)
    for bad in (torch.zeros(3, 2), torch.tensor([[1.0, math.nan], [1.0, 1.0]])):
        found = metrics.sink_row(bad)
        assert math.isnan(found.sink_norm)
        assert found.row_position is None

"""Massive coordinates of the sink's row against plain loops."""

import math

import numpy as np
import pytest
import torch

from thalweg import metrics
from thalweg.metrics import SinkRow

STATES, WIDTH = 5, 8


def stood_out(ratios, norm=1.0):
    names = ("norm_ratio", "sink_ratio", "row_ratio")
    return [
        SinkRow(sink_norm=norm * ratio, rest_norm=norm, row_position=0, **dict.fromkeys(names, ratio))
        for ratio in ratios
    ]


def drawn(seed, prompts=6):
    random = np.random.default_rng(seed)
    rows = random.standard_normal((prompts, STATES, WIDTH))
    common = random.choice(WIDTH, random.integers(1, 4), replace=False)
    for prompt in rows[: random.integers(prompts // 2, prompts + 1)]:
        for dim in {*common, random.integers(WIDTH)}:
            prompt[2:4, dim] = random.uniform(50, 500) * random.choice([-1, 1])
    return rows


def naive(rows, ratios, massive_ratio):
    kept, largest = [], np.zeros(WIDTH)
    for row, own in zip(rows, ratios, strict=True):
        if max(own) >= massive_ratio:
            at = row[int(np.argmax(own))]
            kept.append(at**2 / (at**2).sum() >= 0.01)
            largest = np.maximum(largest, np.abs(row).max(0))
    if 2 * len(kept) < len(rows):
        return set(), math.nan, math.nan
    massive = np.mean(kept, axis=0) >= 0.5
    return set(np.flatnonzero(massive)), largest[massive].max(), largest[~massive].max()


@pytest.mark.parametrize("seed", range(6))
def test_they_are_those_of_a_plain_recomputation(seed):
    rows = drawn(seed)
    ratios = [list(np.linalg.norm(prompt, axis=1) / 3.0) for prompt in rows]
    found = metrics.sink_coordinates([torch.tensor(row) for row in rows], [stood_out(own) for own in ratios])
    dims, peak, ordinary = naive(rows, ratios, 10.0)
    assert set(found.dims) == dims
    assert found.dims == tuple(sorted(found.dims))
    assert (found.peak, found.ordinary) == pytest.approx((peak, ordinary), rel=1e-12, nan_ok=True)


def test_the_documented_example():
    row = torch.tensor([[1.0, 2.0, 0.0], [1.0, 3.0, 500.0]])
    found = metrics.sink_coordinates([row], [stood_out([1.0, 200.0])])
    assert (found.dims, found.peak, found.ordinary) == ((2,), 500.0, 3.0)


def test_a_row_that_is_not_massive_in_half_of_the_prompts_has_none():
    rows = [torch.ones(2, 3), torch.ones(2, 3), torch.tensor([[1.0, 1, 1], [1, 1, 900.0]])]
    found = metrics.sink_coordinates(rows, [stood_out([1.0, 2.0]), stood_out([1.0, 2.0]), stood_out([1.0, 300.0])])
    assert found.dims == ()
    assert math.isnan(found.peak)
    assert math.isnan(found.ordinary)
    assert metrics.sink_coordinates([], []).dims == ()


def test_a_prompt_without_a_sink_row_counts_among_all_of_them():
    gap = torch.full((2, 3), torch.nan)
    massive = torch.tensor([[1.0, 1, 1], [1, 1, 900.0]])
    lost, found = stood_out([math.nan, math.nan]), stood_out([1.0, 300.0])
    assert metrics.sink_coordinates([gap, massive], [lost, found]).dims == (2,)
    assert metrics.sink_coordinates([gap, gap, massive], [lost, lost, found]).dims == ()

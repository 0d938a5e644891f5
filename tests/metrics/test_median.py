"""The median is NumPy's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.metrics._view import median


@settings(max_examples=80, derandomize=True)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40))
def test_small_medians(values):
    assert median(torch.tensor(values)) == pytest.approx(np.median(np.array(values, dtype=np.float64)), rel=1e-12)


LARGE = 33_769


@pytest.mark.parametrize("count", [LARGE, LARGE + 1])
@pytest.mark.parametrize("name", ["normal", "constant", "few values", "sorted", "outliers", "periodic"])
def test_large_medians(name, count):
    rng = np.random.default_rng(0)
    values = np.abs(rng.standard_normal(count)).astype(np.float32)
    if name == "constant":
        values[:] = 3
    elif name == "few values":
        values = np.round(values)
    elif name == "sorted":
        values.sort()
    elif name == "outliers":
        values[:: count // 50] = 1e30
    elif name == "periodic":
        values[::9] = 100
    assert median(torch.tensor(values)) == np.median(values.astype(np.float64))


def test_even_counts_take_the_mean_of_the_two_in_the_middle():
    assert median(torch.tensor([4.0, 1.0, 3.0, 2.0])) == 2.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(dtype):
    values = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert median(values) == np.median(values.double().numpy())


def test_nothing_has_no_median():
    assert np.isnan(median(torch.zeros(0)))

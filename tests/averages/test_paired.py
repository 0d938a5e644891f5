"""Paired tests against SciPy's own tables and by hand; Holm's adjustment against its definition."""

import numpy as np
import pytest
from scipy.stats import binom

from thalweg.averages import holm, mcnemar, not_told_apart


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_is_the_binomial_of_the_answers_that_differ(seed):
    random = np.random.default_rng(seed)
    one, other = random.random((2, 60)) < np.array([[0.7], [0.5]])
    alone, reverse = int((one & ~other).sum()), int((other & ~one).sum())
    total = alone + reverse
    tail = binom.cdf(min(alone, reverse), total, 0.5)
    assert mcnemar(one, other) == mcnemar(other, one) == pytest.approx(min(1.0, 2 * tail))


def test_equal_states_are_never_told_apart():
    assert mcnemar(np.ones(9), np.ones(9)) == 1.0
    assert mcnemar(np.zeros(0), np.zeros(0)) == 1.0


def test_holm_is_its_definition():
    p = [0.01, 0.04, 0.03, 0.005]
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_states_are_compared_with_one_and_adjusted_for_their_number():
    """Six answers of difference: p = 1 / 32, below 0.05 alone and not among two."""
    right = np.zeros((20, 3))
    right[:6, 0] = 1
    assert not_told_apart(right, 0, [1]) == []
    assert not_told_apart(right, 0, [1, 2]) == [1, 2]
    assert not_told_apart(right, 0, []) == []

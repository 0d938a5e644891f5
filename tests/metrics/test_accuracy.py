"""Shares of right answers with Wilson's interval, against SciPy's."""

import math

import pytest
from scipy.stats import binomtest

from thalweg.metrics import accuracy


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 40), (40, 40), (13, 40), (500, 1821)])
def test_the_interval_is_scipys_wilson(right, n):
    found = accuracy(right, n)
    theirs = binomtest(right, n).proportion_ci(method="wilson")
    assert (found.accuracy, found.n) == (right / n, n)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0 <= found.low <= found.accuracy <= found.high <= 1


def test_no_question_has_no_accuracy():
    found = accuracy(0, 0)
    assert math.isnan(found.accuracy)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_more_right_than_asked_is_refused():
    with pytest.raises(ValueError, match="5 of 3"):
        accuracy(5, 3)

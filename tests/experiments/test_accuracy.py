"""Shares of right answers with Wilson's interval, against his formula."""

import math
from statistics import NormalDist

import pytest

from thalweg.experiments._probe.measure import accuracy


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 40), (40, 40), (13, 40), (500, 1821)])
def test_the_interval_is_wilsons(right, n):
    found = accuracy(right, n)
    p, z2 = right / n, NormalDist().inv_cdf(0.975) ** 2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    assert (found.accuracy, found.n) == (right / n, n)
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=1e-12)
    assert 0 <= found.low <= found.accuracy <= found.high <= 1


def test_no_question_has_no_accuracy():
    found = accuracy(0, 0)
    assert math.isnan(found.accuracy)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_more_right_than_asked_is_refused():
    with pytest.raises(ValueError, match="5 of 3"):
        accuracy(5, 3)

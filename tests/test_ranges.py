"""Whole numbers with neighbours drawn together, and read again."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from thalweg.ranges import ranges, runs


def test_neighbours_are_drawn_together():
    assert ranges([2, 3, 4, 7]) == "2-4, 7"
    assert ranges([7, 2, 4, 3, 3], ",") == "2-4,7"
    assert ranges([]) == ""


@given(st.sets(st.integers(0, 40)))
def test_runs_hold_every_number_once_with_a_gap_between(numbers):
    found = runs(numbers)
    assert [number for first, last in found for number in range(first, last + 1)] == sorted(numbers)
    assert all(later[0] > before[1] + 1 for before, later in pairwise(found))

"""Whole numbers are written with neighbours drawn together."""

import pytest

from thalweg.shown import ranges


@pytest.mark.parametrize(
    ("states", "said"), [([], ""), ([3], "3"), ([1, 2, 3], "1-3"), ([7, 2, 4, 3], "2-4, 7"), ([1, 3, 5], "1, 3, 5")]
)
def test_states_are_written_as_ranges(states, said):
    assert ranges(states) == said

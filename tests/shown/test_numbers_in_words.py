"""Numbers and lists read as people write them."""

import math

import pytest

from thalweg.shown import amount, counted, listing, percent, spans


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1498.0, "1,498"),
        (0.0, "0"),
        (0.5, "0.500"),
        (12.345, "12.3"),
        (2e-5, "2.0e-05"),
        (-3.0, "-3.00"),
        (7, "7"),
        (math.inf, "infinite"),
        (math.nan, "\N{EN DASH}"),
        (None, "\N{EN DASH}"),
    ],
)
def test_numbers_read_as_people_write_them(value, words):
    assert amount(value) == words


def test_almost_none_is_not_none():
    assert [percent(share) for share in (0.0, 0.001, 0.254, 0.999, 1.0)] == [
        "0 %",
        "under 1 %",
        "25 %",
        "over 99 %",
        "100 %",
    ]
    assert [counted(number, "head") for number in (1, 2000)] == ["1 head", "2,000 heads"]
    assert [listing(items) for items in ([], [1], [1, 2], [1, 2, 3])] == ["none", "1", "1 and 2", "1, 2 and 3"]
    assert [spans(items) for items in ([2, 3, 4], [1, 2], [1, 2, 5, 6, 7], [4], [1, 3])] == [
        "2 to 4",
        "1 and 2",
        "1, 2 and 5 to 7",
        "4",
        "1 and 3",
    ]

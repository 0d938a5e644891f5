"""Blocks, states and gammas as a person writes them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import UsageError
from thalweg.experiments._clip.measure import MOST, gamma_list, log_grid
from thalweg.experiments._options import index_list, index_text


@given(st.sets(st.integers(0, 40), min_size=1))
def test_what_is_written_reads_as_it_was(numbers):
    assert index_list("--blocks", index_text(sorted(numbers)), 40) == tuple(sorted(numbers))
    assert index_list("--blocks", list(numbers), 40) == tuple(sorted(numbers))


@pytest.mark.parametrize(
    ("given_", "expected"),
    [("0,5-7", (0, 5, 6, 7)), (" 3 , 1-2,2", (1, 2, 3)), ("4-4", (4,)), ([7, 0], (0, 7)), (range(2), (0, 1))],
)
def test_ranges_are_whole_and_numbers_stand_once(given_, expected):
    assert index_list("--blocks", given_, 7) == expected


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ("8", "--blocks 8 is out of range; this model has blocks 0 to 7"),
        ("5-9", "--blocks 9 is out of range"),
        ([-1], "--blocks -1 is out of range"),
        ("7-5", "--blocks 7-5 runs backwards; write 5-7"),
        ("", "--blocks names nothing"),
        ("  ", "--blocks names nothing"),
        ([], "--blocks names nothing"),
        ("1,,2", "got '' in '1,,2'"),
        ("one", "got 'one'"),
        ("-1", "got '-1'"),
        ("\u0663", "takes numbers and ranges"),
        ([True], "takes whole numbers; got True"),
    ],
)
def test_what_is_no_list_of_blocks_is_said(given_, said):
    with pytest.raises(UsageError) as left:
        index_list("--blocks", given_, 7)
    assert said in str(left.value)


@given(st.floats(1e-3, 1e3), st.floats(1.1, 1e6), st.integers(2, 40))
def test_a_grid_has_equal_steps_on_a_log_axis(first, factor, count):
    grid = np.array(log_grid(first, first * factor, count))
    assert (grid[0], grid[-1], len(grid)) == (first, first * factor, count)
    np.testing.assert_allclose(grid, np.geomspace(first, first * factor, count), rtol=1e-5)  # six digits are kept


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("10,100", (10.0, 100.0)),
        ("1:100:3,7", (1.0, 7.0, 10.0, 100.0)),
        ([5.0, 0.5, 5.0], (0.5, 5.0)),
        ("3,inf", (3.0,)),
        ("1e3", (1000.0,)),
    ],
)
def test_gammas_are_ascending_and_stand_once(given_, expected):
    assert gamma_list(given_) == expected


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ("0", "above 0; got 0"),
        ("-3", "above 0; got -3"),
        ([0.0], "above 0; got 0"),
        ([math.nan], "above 0; got nan"),
        ("nan", "above 0; got nan"),
        ("0:10:3", "above 0; got '0:10:3'"),
        ("-1:10:3", "above 0; got '-1:10:3'"),
        ("10:1:3", "got '10:1:3'"),
        ("1:10:1", "got '1:10:1'"),
        ("1:10", "got '1:10'"),
        ("1:10:x", "got '1:10:x'"),
        ("1:inf:3", "got '1:inf:3'"),
        ("", "got ''"),
        ("ten", "got 'ten'"),
        ("inf", "names no finite value"),
        ([], "names no finite value"),
        (f"1:2:{MOST},3", f"at most {MOST} values"),
    ],
)
def test_what_is_no_gamma_is_said(given_, said):
    with pytest.raises(UsageError) as left:
        gamma_list(given_)
    assert said in str(left.value)
    assert str(left.value).startswith("--gamma")

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import DataError
from thalweg.prompts import Prompt, batches, padded
from thalweg.prompts._tokens import SLACK, TINY

lengths = st.lists(st.integers(1, 60) | st.integers(1, 300), max_size=40)
options = st.fixed_dictionaries(
    {
        "token_budget": st.integers(1, 2000),
        "batch_size": st.none() | st.integers(1, 8),
        "same_side_of": st.none() | st.integers(0, 60),
    }
)


def prompts_of(sizes):
    return [
        Prompt(row, tuple(range(row, row + size)), "text", "hash", truncated=False) for row, size in enumerate(sizes)
    ]


@given(lengths, options)
def test_every_prompt_is_in_exactly_one_batch(sizes, how):
    prompts = prompts_of(sizes)
    rows = [prompt.row for batch in batches(prompts, **how) for prompt in batch]
    assert sorted(rows) == [prompt.row for prompt in prompts]


@given(lengths, options)
def test_no_batch_passes_its_bounds(sizes, how):
    for batch in batches(prompts_of(sizes), **how):
        longest, shortest = max(map(len, batch)), min(map(len, batch))
        assert batch
        assert len(batch) == 1 or len(batch) * longest <= how["token_budget"]
        assert how["batch_size"] is None or len(batch) <= how["batch_size"]
        assert longest <= max(SLACK * shortest, TINY) or len(batch) == 1
        switch = how["same_side_of"]
        assert switch is None or len({len(prompt) <= switch for prompt in batch}) == 1


@given(lengths, options, st.randoms())
def test_the_grouping_depends_on_the_prompts_alone(sizes, how, random):
    prompts = prompts_of(sizes)
    again = batches(prompts, **how)
    assert batches(prompts, **how) == again
    random.shuffle(prompts)
    shuffled = batches(sorted(prompts, key=lambda prompt: prompt.row), **how)
    assert shuffled == again


@given(lengths, options)
def test_lengths_rise_and_equal_lengths_keep_their_order(sizes, how):
    flat = [(len(prompt), prompt.row) for batch in batches(prompts_of(sizes), **how) for prompt in batch]
    assert flat == sorted(flat)


@given(lengths, options)
def test_no_batch_is_closed_before_it_must_be(sizes, how):
    result = batches(prompts_of(sizes), **how)
    for batch, following in pairwise(result):
        joined = batches([*batch, following[0]], **how)
        assert len(joined) > 1


def test_the_documented_example():
    result = batches(prompts_of([10, 100, 12]), token_budget=200)
    assert [[len(prompt) for prompt in batch] for batch in result] == [[10, 12], [100]]


def test_a_switch_parts_lengths_that_would_share_a_batch():
    prompts = prompts_of([11, 12, 10, 13])
    assert [len(batch) for batch in batches(prompts, token_budget=200)] == [4]
    parted = batches(prompts, token_budget=200, same_side_of=11)
    assert [[len(prompt) for prompt in batch] for batch in parted] == [[10, 11], [12, 13]]


def test_a_prompt_longer_than_the_budget_goes_alone():
    assert [len(batch) for batch in batches(prompts_of([500, 500]), token_budget=100)] == [1, 1]


def test_no_prompts_make_no_batches():
    assert batches([], token_budget=10) == []


@pytest.mark.parametrize("how", [{"token_budget": 0}, {"token_budget": 5, "batch_size": 0}])
def test_a_bound_below_one_is_refused(how):
    with pytest.raises(DataError, match="expected 1 or more; got 0"):
        batches(prompts_of([1]), **how)


def test_padding_goes_to_the_right():
    tokens = padded(prompts_of([2, 4]), fill=9)
    assert tokens.dtype == np.int64
    assert tokens.tolist() == [[0, 1, 9, 9], [1, 2, 3, 4]]

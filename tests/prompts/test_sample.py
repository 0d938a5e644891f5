"""A random sample of the rows: which ones, in which windows, and what is left to read of it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import DataError
from thalweg.prompts import Window, open_source, read_shards, rows_left, tokenization


@pytest.fixture
def source(jsonl):
    """Two hundred rows; every tenth is empty."""
    return open_source(jsonl(*({"text": "" if row % 10 == 9 else f"row {row}"} for row in range(200))))


def rows_of(shards):
    return [row.row for shard in shards for row in sorted([*shard.prompts, *shard.skipped], key=lambda row: row.row)]


def test_the_same_seed_draws_the_same_rows_and_another_one_others(source):
    first, again, other = (source.sampled(40, seed=seed) for seed in (3, 3, 4))
    assert first.drawn == again.drawn
    assert first.drawn != other.drawn
    assert len(set(first.drawn)) == 40
    assert first.sample == "40 of 200 rows, seed 3"
    assert max(first.drawn) > 160  # not the first rows


def test_what_is_drawn_stays_what_it_is():
    assert open_source().sampled(5, seed=0).drawn == (25, 35, 40, 52, 56)


def test_every_row_is_drawn_as_often_as_any_other():
    source = open_source()
    times = [0] * 64
    for seed in range(400):
        for row in source.sampled(16, seed=seed).drawn:
            times[row] += 1
    assert all(60 < count < 145 for count in times)  # 100 expected, the deviation is 8.7


def test_rows_are_drawn_from_the_first_ones_up_to_the_limit(source):
    sample = source.sampled(40, seed=0, limit=50)
    assert max(sample.drawn) < 50
    assert sample.sample == "40 of 50 rows, seed 0"


def test_a_sample_larger_than_the_data_is_all_of_them(source):
    sample = source.sampled(1000, seed=0)
    assert sample.drawn == tuple(range(200))
    assert sample.sample == "200 of 200 rows, seed 0"


def test_the_first_rows_of_a_sample_lie_before_a_row(source):
    drawn = source.sampled(40, seed=0)
    assert [row for row in drawn.drawn if row < drawn.first_rows(16)] == list(drawn.drawn[:16])
    assert drawn.first_rows(99) == drawn.drawn[-1] + 1
    assert source.first_rows(16) == 16


def test_data_that_do_not_say_how_many_rows_they_have_need_a_limit(source, monkeypatch):
    monkeypatch.setattr(type(source), "count", lambda _: None)
    with pytest.raises(DataError, match=r"--sample: .* Add --limit N: the rows are then drawn from the first N"):
        source.sampled(5, seed=0)
    assert source.sampled(5, seed=0, limit=9).sample == "5 of 9 rows, seed 0"


def test_the_drawn_rows_are_read_and_no_others(source, gpt2_like):
    sample = source.sampled(50, seed=1)
    shards = list(read_shards(sample, tokenization(gpt2_like), size=8))
    assert tuple(rows_of(shards)) == sample.drawn
    assert [len(shard.prompts) + len(shard.skipped) for shard in shards] == [8] * 6 + [2]
    assert all(shard.stop - shard.first == len(rows_of([shard])) + shard.left_out for shard in shards)
    assert {prompt.text for shard in shards for prompt in shard.prompts} <= {f"row {row}" for row in sample.drawn}


@given(seed=st.integers(0, 50), size=st.integers(1, 9), done=st.data())
def test_resuming_reads_what_is_missing_in_windows_that_overlap_nothing(seed, size, done):
    sample, how = open_source().sampled(20, seed=seed), tokenization(Letters())
    every = list(read_shards(sample, how, size=size))
    kept = done.draw(st.lists(st.sampled_from(every), unique_by=lambda shard: shard.first))
    again = done.draw(st.sets(st.sampled_from(rows_of(kept)))) if kept else set()
    finished = [window for shard in kept for window in without(shard, again)]
    rest = list(read_shards(sample, how, size=size, done=finished))
    missing = set(rows_of(every)) - (set(rows_of(kept)) - again)
    assert rows_of(rest) == sorted(missing)
    assert rows_left(sample, None, finished) == len(missing)
    spans = sorted(
        [*((shard.first, shard.stop) for shard in rest), *((window.first, window.stop) for window in finished)]
    )
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def without(shard, again):
    """What is done of a shard some of whose rows are to be tried again, as a run says it."""
    edges = [shard.first - 1, *sorted(row for row in again if shard.first <= row < shard.stop), shard.stop]
    return [Window(a + 1, b) for a, b in pairwise(edges) if a + 1 < b]


class Letters:
    """A token a letter."""

    bos_token = bos_token_id = None

    def __call__(self, texts, **_):
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}

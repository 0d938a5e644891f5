from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import DataError
from thalweg.prompts import Shard, Skipped, Window, open_source, read_shards, require_prompts, tokenization, windows

ranges = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 60)).map(lambda pair: Window(pair[0], sum(pair))), max_size=6
)


def covered(parts):
    return {row for part in parts for row in range(part.first, part.stop)}


@given(st.integers(1, 220), st.integers(1, 70), ranges)
def test_windows_cover_exactly_what_is_missing_without_overlap(limit, size, done):
    result = list(windows(limit, size=size, done=done))
    assert covered(result) == set(range(limit)) - covered(done)
    assert sum(window.stop - window.first for window in result) == len(covered(result))
    assert result == sorted(result)


@given(st.integers(1, 220), st.integers(1, 70), ranges)
def test_windows_never_cross_a_multiple_of_the_shard_size(limit, size, done):
    for window in windows(limit, size=size, done=done):
        assert window.first // size == (window.stop - 1) // size


@given(st.integers(1, 70), ranges)
def test_windows_without_a_limit_go_on_for_ever_as_windows_with_one(size, done):
    unlimited = windows(None, size=size, done=done)
    limited = list(windows(size * 20, size=size, done=done))
    assert list(islice(unlimited, len(limited))) == limited


def test_raising_the_limit_extends_a_run_exactly():
    first = list(windows(500, size=64))
    assert first[-1] == Window(448, 500)
    assert list(windows(1000, size=64, done=first))[:2] == [Window(500, 512), Window(512, 576)]
    assert list(windows(400, size=64, done=first)) == []


@pytest.mark.parametrize("limit", [0, -5])
def test_a_limit_below_one_is_refused_before_anything_is_read(limit):
    with pytest.raises(DataError, match=f"--limit: expected 1 or more rows; got {limit}"):
        windows(limit)


@pytest.fixture
def numbered(jsonl):
    """Twenty rows; every fifth is empty."""
    return open_source(jsonl(*({"text": "" if row % 5 == 4 else "x" * (row + 1)} for row in range(20))))


def rows_of(shard):
    return sorted([prompt.row for prompt in shard.prompts] + [row.row for row in shard.skipped])


@pytest.mark.parametrize("limit", [None, 1, 7, 8, 20, 50])
def test_every_row_is_a_prompt_or_skipped_in_its_own_shard(numbered, gpt2_like, limit):
    shards = list(read_shards(numbered, tokenization(gpt2_like), limit=limit, size=8))
    assert [rows_of(shard) for shard in shards] == [list(range(shard.first, shard.stop)) for shard in shards]
    assert covered(shards) == set(range(min(limit or 20, 20)))
    assert {row.reason for shard in shards for row in shard.skipped} <= {"empty text"}


def test_the_last_shard_ends_where_the_data_ends(numbered, gpt2_like):
    assert [(shard.first, shard.stop) for shard in read_shards(numbered, tokenization(gpt2_like), size=8)] == [
        (0, 8),
        (8, 16),
        (16, 20),
    ]


@given(done=ranges, limit=st.none() | st.integers(1, 30), size=st.integers(1, 9))
def test_resuming_adds_what_an_undisturbed_run_would_have_given(done, limit, size):
    source, how = open_source(), tokenization(Letters(), max_length=20)
    whole = list(read_shards(source, how, limit=limit, size=size))
    rest = list(read_shards(source, how, limit=limit, size=size, done=done))
    prompts = {prompt.row: prompt for shard in whole for prompt in shard.prompts}
    assert covered(rest) == covered(whole) - covered(done)
    assert all(prompts[prompt.row] == prompt for shard in rest for prompt in shard.prompts)
    assert all(rows_of(shard) == list(range(shard.first, shard.stop)) for shard in rest)


def test_rows_that_are_done_are_not_tokenized(numbered):
    tokenizer = Letters()
    how = tokenization(tokenizer)
    tokenizer.seen.clear()
    list(read_shards(numbered, how, size=4, done=[Window(0, 4), Window(8, 18)]))
    assert sorted(map(len, tokenizer.seen)) == [6, 7, 8, 19]


def test_nothing_missing_opens_nothing(numbered, gpt2_like, tmp_path):
    (tmp_path / "data.jsonl").unlink()
    assert list(read_shards(numbered, tokenization(gpt2_like), limit=10, done=[Window(0, 10)])) == []


def test_shards_are_given_before_the_data_breaks_off(jsonl, gpt2_like):
    source = open_source(jsonl({"text": "a"}, {"text": "b"}, "nonsense"))
    shards = read_shards(source, tokenization(gpt2_like), size=2)
    assert next(shards).stop == 2
    with pytest.raises(DataError, match="line 3"):
        next(shards)


def test_a_shard_of_skipped_rows_is_given_too(jsonl, gpt2_like):
    source = open_source(jsonl({"text": ""}, {"text": ""}))
    assert list(read_shards(source, tokenization(gpt2_like))) == [
        Shard(0, 2, (), (Skipped(0, "empty text"), Skipped(1, "empty text")))
    ]


def test_no_usable_prompt_is_said_with_the_reasons_counted(numbered):
    skipped = {"field missing": 1, "empty text": 2}
    require_prompts(numbered, 1, skipped)
    with pytest.raises(DataError, match=r"rows skipped: empty text: 2, field missing: 1"):
        require_prompts(numbered, 0, skipped)


class Letters:
    """The least that is asked of a tokenizer: a token a letter."""

    bos_token = bos_token_id = None

    def __init__(self):
        self.seen = []

    def __call__(self, texts, **_):
        self.seen.extend(texts)
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}

"""Every prompt is measured once or skipped with its reason; a shard is handed on once, whole, in order."""

import gc
import weakref
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.engines import BatchOptions, Progress, run_shards
from thalweg.prompts import Prompt, Shard, Skipped


def prompt(row, length):
    return Prompt(row, (7,) * length, "", "", truncated=False)


def shards_of(*lengths):
    """A shard for each list of lengths; every seventh row was skipped before."""
    made, first = [], 0
    for shard in lengths:
        rows = range(first, first + len(shard))
        kept = tuple(prompt(row, length) for row, length in zip(rows, shard, strict=True) if row % 7 != 6)
        lost = tuple(Skipped(row, "empty text") for row in rows if row % 7 == 6)
        made.append(Shard(first, rows.stop, kept, lost))
        first = rows.stop
    return made


class Memory:
    """Measures batches of up to so many padded tokens; anything larger does not fit."""

    def __init__(self, tokens=10**9):
        self.tokens, self.tried, self.measured = tokens, [], []

    def __call__(self, batch):
        self.tried.append([one.row for one in batch])
        if len(batch) * max(map(len, batch)) > self.tokens:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.measured.extend(one.row for one in batch)
        return [one.row for one in batch]


def run(shards, measure, **options):
    finished = []
    options = BatchOptions(**{"token_budget": 100, **options})
    run_shards(shards, measure=measure, finish=lambda *handed: finished.append(handed), options=options)
    return finished


def test_shards_are_handed_on_whole_and_in_order():
    shards = shards_of([3, 50, 8], [60, 60, 60, 2], [1])
    memory = Memory()
    finished = run(iter(shards), memory)
    assert [shard for shard, _ in finished] == shards
    for shard, results in finished:
        assert Counter(row for batch in results for row in batch) == Counter(one.row for one in shard.prompts)


def test_a_shard_is_handed_on_before_the_next_is_read():
    happened = []

    def read():
        for shard in shards_of([3], [4]):
            happened.append(("read", shard.first))
            yield shard

    run_shards(
        read(),
        measure=lambda batch: happened.append(("measure", batch[0].row)),
        finish=lambda shard, _: happened.append(("finish", shard.first)),
        options=BatchOptions(100),
    )
    assert happened == [(what, row) for row in (0, 1) for what in ("read", "measure", "finish")]


def test_a_batch_that_does_not_fit_is_halved():
    memory = Memory(tokens=50)
    [(shard, results)] = run(shards_of([20, 20, 20, 20, 20]), memory)
    assert memory.tried == [[0, 1, 2, 3, 4], [0, 1], [2, 3, 4], [2], [3, 4]]
    assert results == [[0, 1], [2], [3, 4]]
    assert shard.skipped == ()


def test_a_prompt_that_does_not_fit_alone_is_skipped_with_its_reason():
    memory = Memory(tokens=50)
    [(shard, results)] = run(shards_of([20, 80, 10, 90]), memory, token_budget=10_000)
    assert [one.row for one in shard.prompts] == [0, 2]
    assert shard.skipped == (Skipped(1, "out of memory"), Skipped(3, "out of memory"))
    assert sorted(row for batch in results for row in batch) == [0, 2]
    assert (shard.first, shard.stop) == (0, 4)


def test_what_was_skipped_before_stays_skipped():
    [(shard, _)] = run(shards_of([99, *[5] * 7]), Memory(tokens=60))
    assert shard.skipped == (Skipped(6, "empty text"), Skipped(0, "out of memory"))


def test_a_shard_without_prompts_is_handed_on_too():
    empty = Shard(4, 6, (), (Skipped(4, "empty text"), Skipped(5, "field missing")))
    memory = Memory()
    assert run([empty], memory) == [(empty, [])]
    assert memory.tried == []


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("x"), KeyboardInterrupt()])
def test_other_errors_are_nobodys_to_hide(error):
    finished = []

    def measure(batch):
        if batch[0].row == 2:
            raise error
        return batch

    with pytest.raises(type(error)):
        run_shards(
            shards_of([3, 3], [3], [3]),
            measure=measure,
            finish=lambda shard, _: finished.append(shard.first),
            options=BatchOptions(100),
        )
    assert finished == [0]


def test_the_failed_pass_is_let_go_before_the_next_try():
    """What it held is what the next try needs."""

    class Large:
        pass

    held = []

    def measure(batch):
        assert [one() for one in held] == [None] * len(held)
        large = Large()
        held.append(weakref.ref(large))
        if len(batch) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return len(batch)

    gc.disable()
    try:
        [(_, results)] = run(shards_of([5, 5, 5, 5]), measure)
    finally:
        gc.enable()
    assert results == [1, 1, 1, 1]
    assert len(held) == 7


def test_batches_keep_to_their_limits():
    memory = Memory()
    run(shards_of([10] * 5 + [30] * 4), memory, token_budget=60, batch_size=4, switch=20)
    assert memory.tried == [[0, 1, 2, 3], [4], [5, 7], [8]]


def test_progress_is_told_of_every_batch_and_shard():
    class Told(Progress):
        def __init__(self):
            super().__init__()
            self.counted, self.done = 0, 0

        def tokens(self, count):
            self.counted += count

        def rows(self, count):
            self.done += count

    told = Told()
    shards = shards_of([3, 50, 8], [60, 60, 60, 2])
    run_shards(shards, measure=len, finish=lambda *_: None, options=BatchOptions(100), progress=told)
    assert (told.counted, told.done) == (3 + 50 + 8 + 60 + 60 + 60, 7)


@settings(max_examples=150)
@given(
    st.lists(st.lists(st.integers(1, 40), max_size=12), max_size=5),
    st.integers(1, 300),
    st.one_of(st.none(), st.integers(1, 5)),
    st.one_of(st.none(), st.integers(1, 40)),
    st.integers(1, 120),
)
def test_every_prompt_is_measured_once_or_skipped_once(lengths, budget, size, switch, fits):
    shards, memory = shards_of(*lengths), Memory(tokens=fits)
    finished = run(shards, memory, token_budget=budget, batch_size=size, switch=switch)
    assert [(shard.first, shard.stop) for shard, _ in finished] == [(shard.first, shard.stop) for shard in shards]
    assert len(memory.measured) == len(set(memory.measured))
    for before, (after, results) in zip(shards, finished, strict=True):
        measured = sorted(row for batch in results for row in batch)
        assert measured == sorted(one.row for one in after.prompts)
        lost = [one.row for one in after.skipped if one.reason == "out of memory"]
        assert sorted(measured + lost) == [one.row for one in before.prompts]
        assert after.skipped[: len(before.skipped)] == before.skipped
        assert all(len(one) <= fits for one in after.prompts)
        assert all(len(one) > fits for one in before.prompts if one.row in lost)

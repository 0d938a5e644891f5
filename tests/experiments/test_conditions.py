"""The plan of an ablation: what is compared, at which rows, and what the controls leave alone."""

import math

import pytest
import torch

from thalweg.experiments._ablate.measure import Changes, Chosen, Condition
from thalweg.experiments._attribute.writers import Writers
from thalweg.experiments._planned import Plan, SegmentRows, Target
from thalweg.interventions import Remove, Replace, Rescale
from thalweg.prompts import Prompt

DEPTH = 10
SHARES = {0: 0.004, 1: 0.05, 2: -0.003, 3: 0.02, 4: 0.95, 5: -0.009, 6: 0.0, 7: 0.0101, 8: 0.002, 9: math.nan}


def target(name, first, last, dims=(17,)):
    where = {"first": first, "last": last, "peak": first, "until": last, "reference_state": first or 0}
    row = {"position": 0, "sink_position": None, "dims": dims, "largest": 100.0, "ordinary": 1.0}
    return Target(name=name, **where, **row)


WAVE, COMPRESS = target("wave", 2, 3), target("compress", 5, 9)


def chosen(blocks, *, writers=None, targets=(WAVE, COMPRESS), shares=SHARES):
    """By segment, the blocks that are removed; those that write it are the same unless given."""
    writers = {name: Writers(own, 1.0, None if own else "nobody wrote it") for name, own in (writers or blocks).items()}
    return Chosen(Plan(tuple(targets)), blocks, writers, dict.fromkeys(blocks, shares))


TWO = chosen({"wave": (0, 1), "compress": (4,)})


def named(conditions, name):
    return [one for one in conditions if one.name.startswith(name)]


def test_each_writer_alone_each_segments_own_and_all_together_with_every_control():
    shown = [(one.name, one.control, one.seed, one.row_of, one.blocks) for one in TWO.conditions(2)]
    every = (0, 1, 4)
    assert [one for one in shown if not one[0].startswith("other blocks")] == [
        ("intact", None, None, None, ()),
        ("blocks 0", None, None, None, (0,)),
        ("blocks 1", None, None, None, (1,)),
        ("blocks 4", None, None, None, (4,)),
        ("blocks 0-1", None, None, None, (0, 1)),
        ("blocks 0-1,4", None, None, None, every),
        ("nothing", "negative", None, None, every),
        ("other position", "negative", 0, None, every),
        ("other position", "negative", 1, None, every),
        ("rescaled wave", "positive", None, "wave", ()),
        ("emptied wave", "positive", None, "wave", ()),
        ("rescaled compress", "positive", None, "compress", ()),
        ("emptied compress", "positive", None, "compress", ()),
    ]
    assert named(TWO.conditions(1), "emptied")[0].dims == (17,)
    assert len({(one[0], one[2]) for one in shown}) == len(shown)


def test_one_block_alone_is_one_condition():
    conditions = chosen({"compress": (4,)}, targets=(COMPRESS,)).conditions(0)
    assert [one.name for one in conditions if one.control is None] == ["intact", "blocks 4"]


def test_other_blocks_come_after_the_first_writer_and_change_the_segment_and_write_next_to_nothing():
    seen = set()
    for seeds in range(1, 9):
        drawn = named(TWO.conditions(seeds), "other blocks compress")
        assert 1 <= len(drawn) <= seeds
        assert len({one.blocks for one in drawn}) == len(drawn)
        assert {(one.control, one.row_of, len(one.blocks), one.reason) for one in drawn} == {
            ("negative", "compress", 1, None)
        }
        seen |= {block for one in drawn for block in one.blocks}
    assert seen == {5, 6, 8}  # not 0 and 2, which come before; not 7, which writes; nor 9, which is not known
    again = named(TWO.conditions(8), "other blocks compress")
    assert [one.blocks for one in again] == [one.blocks for one in drawn]


@pytest.mark.parametrize(
    ("blocks", "count", "removed"), [((4, 5, 6), "1 other block", 3), ((0, 1, 2, 5), "2 other blocks", 4)]
)
def test_where_too_few_are_left_none_are_drawn_and_it_is_said(blocks, count, removed):
    (others,) = named(
        chosen({"wave": (), "compress": blocks}, writers={"wave": (), "compress": (4,)}).conditions(3), "other"
    )[3:]
    assert others.blocks == ()
    assert others.reason.startswith(
        f"{count} of {removed} to draw between block 4 and state 9: the rest write at least"
    )


def test_a_wave_of_one_state_leaves_none_to_draw():
    (others,) = named(TWO.conditions(2), "other blocks wave")
    assert others.reason.startswith("1 other block of 2 to draw between block 0 and state 3")


def test_what_is_not_run_has_a_reason():
    bare = target("compress", 5, 9, dims=())
    conditions = chosen({"wave": (), "compress": (4,)}, targets=(WAVE, bare)).conditions(1)
    assert {one.name: one.reason for one in conditions if one.reason} == {
        "writers of wave": "nobody wrote it",
        "emptied compress": "its row has no massive coordinates to empty",
    }


def test_blocks_that_a_person_names_are_removed_for_every_segment():
    both = chosen({"wave": (2, 7), "compress": (2, 7)}, writers={"wave": (1,), "compress": (4,)})
    names = [one.name for one in both.conditions(0) if one.control is None]
    assert names == ["intact", "blocks 2", "blocks 7", "blocks 2,7"]


def test_where_nothing_is_massive_nothing_is_judged_and_nothing_controlled():
    none = chosen({"none": (2,)}, targets=(target("none", None, None),))
    assert [one.name for one in none.conditions(1)] == ["intact", "blocks 2", "nothing", "other position"]


def prompt(row, length):
    return Prompt(row, tuple(range(length)), "", "", truncated=False)


BATCH = [prompt(3, 9), prompt(4, 1)]
ROWS = torch.tensor([[0, 3], [0, 0]])


def changed(condition, among=TWO, batch=BATCH, rows=ROWS, massive=None):
    massive = massive or [{5}] * len(batch)
    return Changes(among, DEPTH, batch, SegmentRows(among.plan, rows), massive).under(condition)


def test_what_is_done_to_the_model():
    wave, compress = [[0], [0]], [[3], [0]]
    (removed,) = changed(Condition("blocks 1,4", blocks=(1, 4)))
    assert (removed.part, removed.blocks, removed.positions.tolist()) == ("mlp", (1, 4), ROWS.tolist())
    (others,) = changed(Condition("other blocks compress", "negative", 0, "compress", (6,)))
    assert (type(others), others.blocks, others.positions.tolist()) == (Remove, (6,), compress)
    (rescaled,) = changed(Condition("rescaled wave", "positive", row_of="wave"))
    assert (type(rescaled), list(rescaled.states), rescaled.positions.tolist()) == (Rescale, list(range(1, 11)), wave)
    replaced, again = changed(Condition("emptied compress", "positive", row_of="compress", dims=(5,)))
    assert (type(replaced), replaced.value, replaced.dims) == (Replace, 0.0, (5,))
    assert (list(replaced.states), replaced.positions.tolist()) == (list(range(1, 11)), compress)
    assert isinstance(again, Rescale)
    (nothing,) = changed(Condition("nothing", "negative", blocks=(1,)))
    assert nothing.positions.tolist() == [[9], [1]]


def test_another_position_is_never_massive_nor_a_segments_row_and_depends_on_its_prompt_alone():
    seen = set()
    for seed in range(200):
        condition = Condition("other position", "negative", seed, blocks=(1,))
        (removed,) = changed(condition)
        first, second = removed.positions.flatten().tolist()
        assert second == -1  # a prompt of one token has no other
        seen.add(first)
        (alone,) = changed(condition, batch=BATCH[:1], rows=ROWS[:1])
        assert alone.positions.tolist() == [[first]]
    assert seen == set(range(9)) - {0, 3, 5}
    (none,) = changed(condition, massive=[set(range(9)), set()])
    assert none.positions.tolist() == [[-1], [-1]]

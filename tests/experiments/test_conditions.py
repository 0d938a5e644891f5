"""The plan of an ablation: what is compared, and what the controls leave alone."""

import torch

from thalweg.experiments._ablate.measure import Condition, interventions, plan
from thalweg.interventions import Remove, Replace, Rescale
from thalweg.prompts import Prompt

SHARES = {0: 0.004, 1: 0.95, 2: -0.003, 3: 0.02, 4: -0.9, 5: 0.0, 6: 0.009, 7: 0.0101}
ORDINARY = {0, 2, 5, 6}


def prompt(row, length):
    return Prompt(row, tuple(range(length)), "", "", truncated=False)


def named(conditions, name):
    return [one for one in conditions if one.name == name]


def test_each_block_alone_and_all_together_with_every_control():
    conditions = plan((1, 3), SHARES, (17,), seeds=2)
    shown = [(one.name, one.control, one.seed, one.blocks) for one in conditions if one.name != "other blocks"]
    assert shown == [
        ("intact", None, None, ()),
        ("blocks 1", None, None, (1,)),
        ("blocks 3", None, None, (3,)),
        ("blocks 1,3", None, None, (1, 3)),
        ("nothing", "negative", None, (1, 3)),
        ("other position", "negative", 0, (1, 3)),
        ("other position", "negative", 1, (1, 3)),
        ("rescaled", "positive", None, ()),
        ("emptied", "positive", None, ()),
    ]
    assert all(one.runs for one in conditions)
    assert named(conditions, "emptied")[0].dims == (17,)
    assert len({(one.name, one.seed) for one in conditions}) == len(conditions)


def test_other_blocks_are_as_many_and_write_next_to_nothing():
    for seeds in range(1, 9):
        drawn = named(plan((1, 3), SHARES, (), seeds=seeds), "other blocks")
        assert 1 <= len(drawn) <= seeds
        assert len({one.blocks for one in drawn}) == len(drawn)
        assert all(len(one.blocks) == 2 and set(one.blocks) <= ORDINARY for one in drawn)
        assert all(one.reason is None for one in drawn)
    assert {block for one in drawn for block in one.blocks} == ORDINARY
    again = named(plan((1, 3), SHARES, (), seeds=8), "other blocks")
    assert [one.blocks for one in again] == [one.blocks for one in drawn]


def test_blocks_that_are_removed_are_no_control_whatever_they_write():
    (drawn,) = named(plan((0, 2, 5), SHARES, (), seeds=1), "other blocks")
    assert drawn.blocks == (6,)
    assert drawn.reason.startswith("1 other block of 3 to draw: the rest write at least 1%")
    assert drawn.runs


def test_where_there_is_no_control_to_run_it_is_said():
    conditions = plan((1,), {0: 0.2, 1: 0.7, 2: float("nan")}, (), seeds=3)
    (others,) = named(conditions, "other blocks")
    assert (others.runs, others.blocks) == (False, ())
    assert others.reason.startswith("no other blocks of 1 to draw")
    (emptied,) = named(conditions, "emptied")
    assert (emptied.runs, emptied.reason) == (False, "the sink's row has no massive coordinates to empty")
    assert [one.name for one in conditions if not one.runs] == ["other blocks", "emptied"]


BATCH = [prompt(3, 9), prompt(4, 1), prompt(8, 40)]


def changed(condition, sink=0, batch=BATCH):
    return interventions(condition, batch, blocks=8, sinks=torch.tensor([sink] * len(batch)))


def test_what_is_done_to_the_model():
    assert changed(Condition("intact")) == ()
    (removed,) = changed(Condition("blocks 1,3", blocks=(1, 3)), sink=2)
    assert (type(removed), removed.part, removed.blocks) == (Remove, "mlp", (1, 3))
    assert removed.positions.tolist() == [[2], [2], [2]]
    (rescaled,) = changed(Condition("rescaled", "positive"))
    assert (type(rescaled), list(rescaled.states)) == (Rescale, list(range(1, 9)))
    assert rescaled.positions.tolist() == [[0], [0], [0]]
    replaced, again = changed(Condition("emptied", "positive", dims=(5,)))
    assert (type(replaced), replaced.value, replaced.dims) == (Replace, 0.0, (5,))
    assert list(replaced.states) == list(range(1, 9))
    assert isinstance(again, Rescale)
    (nothing,) = changed(Condition("nothing", "negative", blocks=(1,)))
    assert nothing.positions.tolist() == [[9], [1], [40]]


def test_another_position_is_never_the_sink_and_depends_on_its_prompt_alone():
    for sink in (0, 5):
        for seed in range(20):
            (removed,) = changed(Condition("other position", "negative", seed, (1,)), sink=sink)
            chosen = removed.positions.flatten().tolist()
            for one, position in zip(BATCH, chosen, strict=True):
                others = set(range(len(one))) - {sink}
                assert position in others or (position, others) == (-1, set())
            (alone,) = changed(Condition("other position", "negative", seed, (1,)), sink, [BATCH[2]])
            assert alone.positions.tolist() == [[chosen[2]]]
    drawn = {int(changed(Condition("other position", "negative", seed, (1,)))[0].positions[2]) for seed in range(400)}
    assert drawn == set(range(1, 40))
    assert torch.is_tensor(removed.positions)

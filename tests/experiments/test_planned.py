"""What an intervention acts on is found once, on the first rows, and is what plain loops over the states find."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests import waved
from tests.families import tiny

import thalweg
from thalweg.capture import subject_of
from thalweg.errors import UsageError
from thalweg.experiments import _planned as module
from thalweg.experiments._planned import Plan, SegmentRows, Target
from thalweg.prompts import Prompt

QUIET = thalweg.SurveyOptions(progress=False)


def target(name, first, last, until=None, **changes):
    plain = {"peak": first, "reference_state": first, "position": 0, "sink_position": None, "dims": ()}
    sizes = {"largest": math.nan, "ordinary": math.nan}
    return Target(**{"name": name, "first": first, "last": last, "until": until or last, **plain, **sizes, **changes})


WAVES = Plan((target("wave 1", 1, 1, 2), target("compress", 4, 6), target("wave 2", 9, 9)))
NONE = Plan((target("none", None, None, reference_state=0),))


@pytest.mark.parametrize(
    ("given", "name"), [("compress", "compress"), (5, "compress"), ("9", "wave 2"), (" wave 1 ", "wave 1")]
)
def test_a_segment_is_named_or_one_of_its_states_is(given, name):
    (found,) = WAVES.narrowed(given, "words").targets
    assert found.name == name
    assert WAVES.narrowed(None, "words") is WAVES
    assert NONE.narrowed(None, "words").main.name == "none"


@pytest.mark.parametrize(
    ("plan", "given"), [(WAVES, "wave"), (WAVES, 2), (WAVES, "20"), (WAVES, ""), (NONE, "none"), (NONE, 0)]
)
def test_what_is_no_segment_is_refused_in_a_line_that_lists_those_there_are(plan, given):
    with pytest.raises(UsageError) as refused:
        plan.narrowed(given, "words")
    there = "expected one of wave 1 (state 1), compress (states 4-6) and wave 2 (state 9), or a state inside one."
    none = "no state is massive, so there is none."
    assert str(refused.value) == f"--segment {given} is no segment on words: {none if plan is NONE else there}"


def test_a_state_counts_for_its_own_segment_and_for_compress_elsewhere():
    assert [WAVES.place_of(state) for state in range(11)] == [1, 0, 0, 1, 1, 1, 1, 1, 1, 2, 1]
    rows = SegmentRows(WAVES, torch.tensor([[3, 0, 7], [5, 1, -1]]))
    assert [rows.at(depth).tolist() for depth in (0, 2, 9)] == [[0, 1], [3, 5], [7, -1]]
    alone = WAVES.narrowed("wave 2", "words")
    assert [alone.place_of(state) for state in (1, 5, 9)] == [0, 0, 0]
    assert NONE.place_of(3) == 0


@torch.no_grad()
def test_rows_are_the_largest_at_the_peak_of_each_prompt_or_where_they_are_told_to_be():
    model = tiny("llama")
    batch = [Prompt(row, tuple(range(2, 2 + length)), "", "", truncated=False) for row, length in enumerate((9, 3, 6))]
    plan = Plan((target("wave", 1, 1), target("compress", 3, 3, sink_position=4)))
    found = plan.positions(subject_of(model), batch)
    for own, prompt in zip(found.tolist(), batch, strict=True):
        states = model.model(torch.tensor([prompt.tokens]), output_hidden_states=True).hidden_states
        assert own == [int(states[1][0].norm(dim=1).argmax()), 4 if len(prompt) > 4 else -1]


@torch.no_grad()
def states_of(model, text):
    """Every state before the last one, whose norm Hugging Face applies."""
    tokens = waved.byte_tokenizer()(text).input_ids
    states = model.model(torch.tensor([tokens]), output_hidden_states=True).hidden_states
    return [state[0].double().numpy() for state in states[:-1]]


def test_the_plan_is_that_of_plain_loops_and_stays_when_the_run_grows(tmp_path):
    planted, model = waved.drawn(2)
    data = tmp_path / "prompts.jsonl"
    positions = waved.prompts(data, 2, count=5)
    with data.open("a") as file:
        file.write('{"text": ""}\n{"text": "a"}\n' * 6)  # too short to say anything of segments, or to be counted
    path, out = waved.save(tmp_path / "model", model), tmp_path / "run"
    few = thalweg.attribute(path, data, out=out, options=replace(QUIET, limit=1)).table("segments").collect()
    whole = thalweg.attribute(path, data, out=out, options=QUIET)
    assert whole.table("segments").collect().equals(few)
    texts = [line["text"] for line in map(waved.json.loads, data.read_text().splitlines()[:5])]
    prompts = [(states_of(model, text), row) for text, row in zip(texts, positions, strict=True)]
    for found, segment in zip(few.iter_rows(named=True), planted, strict=True):
        inside = range(found["first"], found["last"] + 1)
        lengths = {
            state: np.mean([np.log(np.linalg.norm(states[state][row])) for states, row in prompts]) for state in inside
        }
        assert found["reference_state"] == max(lengths, key=lengths.get)
        assert found["dims"] == sorted(segment.values)
        assert found["largest"] == pytest.approx(
            max(np.abs(state[row]).max() for states, row in prompts for state in states[1:]), rel=1e-4
        )
        assert found["ordinary"] == pytest.approx(
            max(np.abs(np.delete(states[state], row, 0)).max() for states, row in prompts for state in inside), rel=1e-4
        )
        most = max(sorted(set(positions)), key=positions.count)
        assert (found["position"], found["position_share"]) == (most, positions.count(most) / 5)
        assert found["tokens"] == ["\n"]
        assert found["sink_position"] is None


def sizes(row, norms, massive=()):
    """One prompt of five tokens with these norms of its rows, by state; its massive coordinates everywhere."""
    found = {(state, position): tuple(massive) for state in range(len(norms)) for position in range(5)}
    return module._Sizes(Prompt(row, (1, 2, 3, 4, 5), "", "", truncated=False), np.array(norms), np.array(norms), found)


SEGMENT = {"peak": 1, "first": 1, "last": 2}
PLAIN, HIGH = [1.0] * 5, [40.0, *[1.0] * 4]


def test_a_row_given_by_hand_takes_the_place_of_the_largest():
    norms = [PLAIN, [40.0, 1.0, 1.0, 20.0, 1.0], [30.0, 1.0, 1.0, 25.0, 1.0]]
    found = module._row_of(SEGMENT, [sizes(0, norms, (1,))], 3, 10.0)
    assert (found["reference_state"], found["position"], found["sink_position"]) == (2, 3, 3)
    assert (found["largest"], found["ordinary"]) == (25.0, 40.0)
    assert module._row_of(SEGMENT, [sizes(0, norms, (1,))], None, 10.0)["largest"] == 40.0


@pytest.mark.parametrize(
    ("votes", "dims"), [([(1,), (1, 5), (1, 7)], [1]), ([(1, 5), (5, 7)], [1, 5, 7]), ([(1,), None, None], [])]
)
def test_dimensions_are_those_of_half_of_the_prompts_where_half_have_the_row(votes, dims):
    rows = [
        sizes(number, [PLAIN, PLAIN if vote is None else HIGH, PLAIN], vote or ()) for number, vote in enumerate(votes)
    ]
    found = module._row_of(SEGMENT, rows, None, 10.0)
    assert found["dims"] == dims
    assert math.isnan(found["largest"]) == (not dims)


def test_without_a_segment_the_row_counts_where_it_stands_out_and_not_where_it_is_longest():
    norms = [PLAIN, [8.0, *[1.0] * 4], [90.0, *[80.0] * 4]]
    assert module._row_of({}, [sizes(0, norms)], 0, 10.0)["reference_state"] == 1
    assert module._row_of(SEGMENT, [sizes(0, norms)], 0, 10.0)["reference_state"] == 2


def test_the_help_says_how_many_rows_are_read():
    for experiment in (thalweg.attribute, thalweg.clip):
        assert f"first {module.ROWS} rows" in " ".join(experiment.__doc__.split())


@pytest.mark.parametrize("sample", [None, 4])
def test_no_more_than_the_first_rows_are_read_of_all_and_of_a_sample(tmp_path, monkeypatch, sample):
    _, model = waved.drawn(2)
    data, read = tmp_path / "prompts.jsonl", []
    waved.prompts(data, 2, count=6)
    own = module._SizesOf
    monkeypatch.setattr(module, "ROWS", 3)
    monkeypatch.setattr(
        module, "_SizesOf", lambda batch, sink: read.extend(one.row for one in batch) or own(batch, sink)
    )
    path = waved.save(tmp_path / "model", model)
    options = replace(QUIET, sample=sample, limit=None if sample else 1)
    found = thalweg.attribute(path, data, out=tmp_path / "run", options=options)
    rows = found.table("states").select("prompt").unique().collect()["prompt"].sort().to_list()
    assert sorted(read) == (rows[:3] if sample else [0, 1, 2])


def test_a_position_given_by_hand_is_a_setting_of_its_own(tmp_path):
    _, model = waved.drawn(2)
    data = tmp_path / "prompts.jsonl"
    waved.prompts(data, 2, count=2)
    path, out = waved.save(tmp_path / "model", model), tmp_path / "run"
    for options in (QUIET, replace(QUIET, sink_position=0)):
        thalweg.attribute(path, data, out=out, options=options)
    own, by_hand = thalweg.open_run(out).experiments("attribution")
    assert "sink_position" not in own.header.settings
    assert by_hand.header.settings["sink_position"] == 0
    assert by_hand.table("segments").collect()["sink_position"].to_list() == [0, 0]
    assert by_hand.table("states").collect()["position"].unique().to_list() == [0]
    assert "leave out --sink-position" in by_hand.table("writers").collect()["reason"][0]

"""``thalweg advise``: a few lines with numbers, JSON; mistakes in one line."""

import json

import pytest
from tests.advice.test_advice import FALLING, HILL, RISING
from tests.advised import with_lens, with_mcq, with_mteb
from tests.synthetic_run import PLANTED, build_run


@pytest.fixture
def run(tmp_path):
    path = build_run(tmp_path / "run", (PLANTED,), ("words",), prompts=4).path
    return with_lens(with_mcq(with_mteb(path, {"STS12": HILL, "STS13": HILL}), {"arc_easy": RISING}), FALLING)


def test_it_answers_in_a_few_lines(thalweg, run):
    outcome = thalweg("advise", run)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert len(lines) == 4
    assert lines[0] == "lab/planted: 8 blocks; mix up to state 1, compress at states 2-7, refine from state 8 on"
    assert lines[1].startswith(
        "  which state for embeddings: state 4 of 8 (50% of depth, compress): mean main score 0.700"
    )
    assert lines[2].startswith(
        "  from which state on an early exit keeps the accuracy: less than 1% from state 7 on (88%"
    )
    assert lines[3].startswith("  from which state on an early exit keeps the perplexity: less than 1% from state 7 on")


def test_costs_are_asked_for_and_json_has_every_number(thalweg, run):
    (told,) = json.loads(thalweg("advise", run, "--cost", "2,50", "--json").out)
    assert [one["cost"] for one in told["answers"][1]["exits"]] == [2.0, 50.0]
    assert told["answers"][0]["state"] == 4
    assert told["unanswered"] == []


@pytest.mark.parametrize("cost", ["0", "a", "-5", ""])
def test_a_cost_that_is_none_is_one_line(thalweg, run, cost):
    assert thalweg("advise", run, "--cost", cost).complaint.startswith(
        "--cost takes per cents above 0, such as 1,5,10;"
    )


def test_a_directory_that_is_no_run_is_one_line(thalweg, tmp_path):
    assert thalweg("advise", tmp_path).complaint

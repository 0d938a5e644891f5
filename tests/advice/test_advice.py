"""Advice on made-up tables is what these tables say; what they do not say is named with the verb that measures it."""

import math
import re
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from tests.advised import with_lens, with_mcq, with_mteb, with_probe
from tests.synthetic_run import PLAIN, PLANTED, build_run

from thalweg.advice import advise
from thalweg.advice._states import cheap_exits, phase_of
from thalweg.errors import UsageError
from thalweg.store import open_run

HILL = [0.30, 0.40, 0.50, 0.60, 0.70, 0.65, 0.60, 0.50, 0.45]
RISING = [0.25, 0.26, 0.30, 0.35, 0.42, 0.46, 0.49, 0.505, 0.51]
FALLING = [900.0, 400.0, 200.0, 100.0, 60.0, 44.0, 41.5, 40.2, 40.0]


def shifted(by, *, noise=0.0):
    return [score + by + noise * (-1) ** state for state, score in enumerate(HILL)]


@pytest.fixture
def run(tmp_path):
    """A survey of a model that compresses at states 2 to 7 of 8."""
    return build_run(tmp_path / "run", (PLANTED,), ("words",), prompts=4).path


def only(run, **options):
    (found,) = advise(run, **options)
    return found


def test_the_best_state_by_mteb_with_its_interval_ties_and_phase(run):
    tasks = ("STS12", "STS13", "Banking77Classification")
    with_mteb(run, {task: shifted(0.05 * place, noise=0.001 * place) for place, task in enumerate(tasks)})
    answer = only(run).answers[0]
    assert (answer.question, answer.state, answer.phase, answer.tied) == (
        "which state for embeddings",
        4,
        "compress",
        (),
    )
    assert answer.value == pytest.approx(0.751)
    assert answer.low < answer.value < answer.high
    assert re.fullmatch(r"mteb/\w{10}/means", answer.source)
    assert answer.text.startswith("state 4 of 8 (50% of depth, compress): mean main score 0.751 [0.6")
    assert "over 3 tasks of MTEB; the last state 0.501; by 3 tasks no other state is as good" in answer.text


def test_states_that_the_tasks_do_not_tell_apart_are_tied(run):
    with_mteb(
        run, {"STS12": shifted(0.0), "STS13": shifted(0.0), "Banking77Classification": [*HILL[:3], 0.75, *HILL[4:]]}
    )
    answer = only(run).answers[0]
    assert answer.state == 4
    assert 3 in answer.tied
    assert "by 3 tasks not to be told from state" in answer.text


def test_one_task_says_that_it_cannot_tell(run):
    with_mteb(run, {"STS12": HILL})
    answer = only(run).answers[0]
    assert (answer.state, answer.tied, answer.low) == (4, None, None)
    assert answer.text.endswith("1 task cannot tell which states are as good")


def test_most_tasks_count_whatever_was_scored_last(run):
    with_mteb(run, {"STS12": HILL, "STS13": HILL})
    with_mteb(run, {"STS12": HILL[::-1]}, pooling="last")
    assert "over 2 tasks" in only(run).answers[0].text


def test_a_probe_answers_where_mteb_is_missing_and_is_chosen_by_validation(run):
    test = [0.5, 0.6, 0.7, 0.80, 0.79, 0.7, 0.6, 0.6, 0.55]
    with_probe(run, test, [0.5, 0.6, 0.7, 0.75, 0.82, 0.7, 0.6, 0.6, 0.5])
    answer = only(run).answers[0]
    assert (answer.state, answer.value) == (4, 0.79)
    assert 3 in answer.tied
    assert 8 not in answer.tied
    assert re.fullmatch(r"probe/\w{10}/accuracy", answer.source)
    assert "chosen by the validation accuracy of a linear probe on sst2, for want of MTEB" in answer.text
    with_mteb(run, {"STS12": HILL, "STS13": HILL})
    assert re.fullmatch(r"mteb/\w{10}/means", only(run).answers[0].source)


def test_exits_by_accuracy_are_of_the_mean_over_tasks(run):
    with_mcq(run, {"arc_easy": RISING, "hellaswag": [value - 0.1 for value in RISING]})
    (answer,) = (one for one in only(run).answers if one.source.startswith("mcq/"))
    final = 0.46
    assert answer.value == pytest.approx(final)
    mean = [value - 0.05 for value in RISING]
    for found in answer.exits:
        limit = final * (1 - found.cost / 100)
        assert all(value >= limit for value in mean[found.state :])
        assert mean[found.state - 1] < limit
    assert [(one.cost, one.state, one.phase) for one in answer.exits] == [
        (1.0, 8, "refine"),
        (5.0, 6, "compress"),
        (10.0, 6, "compress"),
    ]
    told = "acc 0.460 at the last state (arc_easy, hellaswag; 0 shots; logit lens); told apart by McNemar's test, "
    assert answer.text.endswith(f"{told}answer by answer")


def test_an_exit_is_told_from_the_last_state_by_the_same_questions(run):
    few, many = [0.50, 0.52, 0.53], [0.50, 0.522, 0.53]  # of 100 three questions apart, of 1000 eight
    for scores, n, p in ((few, 100, 2 * 0.5**1), (many, 1000, 2 * 0.5**8)):
        with_mcq(run, {"arc_easy": scores}, n=n, shots=n)
        answer = next(one for one in only(run, costs=[2]).answers if f"{n} shots" in one.text)
        (found,) = answer.exits
        assert (found.state, found.told_apart) == (1, p < 0.05)
        assert f", {'' if p < 0.05 else 'not '}told from the last state)" in answer.text


def test_what_an_exit_costs_has_an_interval_over_the_same_prompts(run):
    prompts = [(10, [40.0, 33.0, 30.0]), (30, [99.0, 92.0, 90.0]), (20, [70.0, 61.5, 60.0])]
    with_lens(run, [30.0, 21.5, 20.0], prompts=prompts)
    (answer,) = only(run, costs=[10, 1]).answers
    near, last = answer.exits
    counts, more = np.array([10, 30, 20]), np.array([3.0, 2.0, 1.5])
    mean = more.sum() / counts.sum()
    half = stats.t.ppf(0.975, 2) * np.sqrt(3 * np.var(more - mean * counts, ddof=1)) / counts.sum()
    low, high = 100 * np.expm1([mean - half, mean + half])
    assert (near.state, near.low, near.high) == (1, pytest.approx(low), pytest.approx(high))
    assert f"21.5, {low:+.1f}% to {high:+.1f}%)" in answer.text
    assert (last.state, last.low, last.high) == (2, None, None)


def test_each_lens_and_number_of_shots_has_an_answer_the_latest_of_it(run):
    with_mcq(run, {"arc_easy": RISING})
    with_mcq(run, {"arc_easy": RISING}, shots=5)
    with_mcq(run, {"arc_easy": RISING}, lens="tuned")
    with_mcq(run, {"hellaswag": RISING}, shots=5)
    answers = [one.text for one in only(run).answers]
    assert len(answers) == 3
    assert sum("5 shots" in one for one in answers) == sum("hellaswag; 5 shots" in one for one in answers) == 1


def test_a_last_state_no_better_than_chance_is_said(run):
    with_mcq(run, {"arc_easy": [0.25] * 8 + [0.26]}, n=100)
    assert "; on arc_easy the last state is no better than chance; told" in only(run).answers[0].text


def test_exits_by_perplexity(run):
    with_lens(run, FALLING)
    (answer,) = only(run, costs=[1, 5, 10, 50]).answers
    assert answer.value == 40.0
    assert [one.state for one in answer.exits] == [7, 6, 5, 4]
    assert [one.value for one in answer.exits] == [40.2, 41.5, 44.0, 60.0]
    assert "less than 10% from state 5 on (62% of depth, compress: 44)" in answer.text
    assert answer.text.endswith("40 at the last state (words; logit lens)")


@pytest.mark.parametrize(
    ("values", "falls", "state"),
    [
        ([0.2, 0.5, 0.4, 0.48, 0.5], False, 3),  # state 1 would do, but state 2 after it does not
        ([0.5, 0.5, 0.5], False, 0),
        ([0.9, 0.1, 0.5], False, 2),
        ([math.nan, 0.5, 0.5], False, 1),
        ([90.0, 10.4, 10.0], True, 1),
        ([9.0, 99.0, 10.0], True, 2),
    ],
)
def test_an_exit_is_cheap_from_there_to_the_end(values, falls, state):
    (found,) = cheap_exits(values, [5.0], lambda state: phase_of(state, None, surveyed=False), falls=falls)
    assert (found.state, found.value, found.phase) == (state, values[state], None)


def test_phases_of_states():
    assert [phase_of(state, (2, 3), surveyed=True) for state in range(5)] == [
        "mix",
        "mix",
        "compress",
        "compress",
        "refine",
    ]
    assert phase_of(1, None, surveyed=True) == "no compress phase"
    assert phase_of(1, None, surveyed=False) is None


def test_an_empty_survey_names_the_verbs_that_would_answer(run):
    found = only(run)
    assert found.answers == []
    assert found.phases == "mix up to state 1, compress at states 2-7, refine from state 8 on"
    assert [one.command.split()[1] for one in found.unanswered] == ["mteb", "mcq", "lens"]
    assert all(one.command.split()[2] == str(run) for one in found.unanswered)


def test_without_a_survey_states_have_no_phase_and_the_survey_is_named(tmp_path):
    found = only(with_mteb(tmp_path / "run", {"STS12": HILL, "STS13": shifted(0.1)}))
    assert found.phases == "phases not measured"
    assert found.answers[0].phase is None
    assert found.answers[0].text.startswith("state 4 of 8 (50% of depth): mean main score")
    assert found.unanswered[-1].command == f"thalweg survey {tmp_path / 'run'}"


def test_a_model_without_a_compress_phase_says_so(tmp_path):
    path = build_run(tmp_path / "run", (PLANTED, PLAIN), ("words",), prompts=4).path
    with_mteb(path, {"STS12": HILL[:7], "STS13": HILL[:7]}, plant=PLAIN)
    planted, plain = advise(path)
    assert planted.answers == []
    assert plain.phases == "no compress phase: no massive activation"
    assert plain.answers[0].phase == "no compress phase"


@pytest.mark.parametrize("costs", [[0.0], [-1.0], [math.nan], []])
def test_costs_are_above_0(run, costs):
    with pytest.raises(UsageError, match="--cost takes per cents above 0"):
        advise(run, costs=costs)


def test_advice_needs_no_torch_and_no_harness(run):
    with_mteb(run, {"STS12": HILL, "STS13": HILL})
    code = (
        "import sys; from thalweg.advice import advise; advise(sys.argv[1]);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'mteb', 'lm_eval')))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(run)], check=False).returncode == 0
    assert open_run(run).experiments("mteb")


def test_a_probe_that_has_not_converged_is_never_ranked_on(run):
    """Whatever it says, and however many answers it has; another one, with fewer, is."""
    with_probe(run, HILL, unconverged=(4, 5, 6), n=4000)
    found = only(run)
    assert found.answers == []
    missing = found.unanswered[0]
    assert missing.question == "which state for embeddings"
    assert missing.reason == "the probe on sst2 has not converged at states 4-6"
    with_probe(run, HILL[::-1], n=40, pooling="last")
    assert only(run).answers[0].state == 4
    assert only(run).answers[0].value == pytest.approx(0.7)


def test_states_of_a_probe_are_compared_answer_by_answer(run):
    """Whole intervals overlap, and yet no answer that the best state has wrong is right at the others: p = 2 ** -15."""
    with_probe(run, [0.5, 0.6, 0.7, 0.66, 0.7 + 1 / 400, 0.7, 0.6, 0.6, 0.5])
    answer = only(run).answers[0]
    assert answer.state == 4
    assert answer.tied == (2, 5)
    assert "by McNemar's test, answer by answer, not to be told from states 2, 5" in answer.text

"""``thalweg advise``: a few lines with numbers, JSON; mistakes in one line."""

import json
import shlex

import pytest
from tests import local_mteb
from tests.advice.test_advice import FALLING, HILL, RISING
from tests.advised import with_lens, with_mcq, with_mteb
from tests.local_mcq import Tasks
from tests.synthetic_run import PLANTED, build_run

from saved import llama, save
from thalweg.experiments import _prepare
from thalweg.experiments._mcq import harness as mcq_harness
from thalweg.experiments._mteb import harness as mteb_harness


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


@pytest.fixture
def at_hand(monkeypatch, tmp_path, data):
    """What the commands read from the hub, from this disk."""
    tasks = Tasks(tmp_path / "tasks")
    tasks.choice()
    build, ask, opened = mcq_harness.LmEvalTasks, mcq_harness.HarnessOptions, _prepare.open_source
    few = ask(num_fewshot=0, limit=4, include_path=(str(tasks.path),), bars=False)
    monkeypatch.setattr(
        mcq_harness, "LmEvalTasks", lambda _, tokenizer, config, __: build(["small_choice"], tokenizer, config, few)
    )
    monkeypatch.setattr(mteb_harness, "mteb_tasks", lambda *_: [local_mteb.similarity_task(tmp_path / "mteb")])
    monkeypatch.setattr(
        _prepare, "open_source", lambda name, **how: opened(data if name == "wikitext2" else name, **how)
    )


@pytest.mark.usefixtures("at_hand")
def test_every_command_runs_as_printed(thalweg, data, tmp_path):
    """Of a run that was not measured by default, in a place that a shell has to be told of."""
    own, run = save(llama(max_position_embeddings=256), tmp_path / "a model"), tmp_path / "a run"
    how = ("--dtype", "float64", "--bos", "always", "--max-length", 24, "--limit", 3, "--tau", 0.2)
    assert thalweg("lens", own, "--data", data, *how[:4], "--limit", 2, "--no-final-norm", "--out", run).code == 0
    (told,) = json.loads(thalweg("advise", run, "--json").out)
    first = [shlex.split(missing["command"]) for missing in told["unanswered"]]
    assert [command[:3] for command in first] == [["thalweg", verb, str(run)] for verb in ("mteb", "mcq", "survey")]
    assert thalweg("survey", own, "--data", data, *how, "--out", tmp_path / "surveyed run").code == 0
    (told,) = json.loads(thalweg("advise", tmp_path / "surveyed run", "--json").out)
    for _, *argv in [*first, *(shlex.split(missing["command"]) for missing in told["unanswered"])]:
        left = thalweg(*argv)
        assert left.code == 0, left
    for place in (run, tmp_path / "surveyed run"):
        (told,) = json.loads(thalweg("advise", place, "--json").out)
        assert told["unanswered"] == []
    header = json.loads((tmp_path / "surveyed run" / "run.json").read_text())
    assert {model["dtype"] for model in header["models"]} == {"float64"}


def test_of_several_models_the_command_names_one(thalweg, data, tmp_path):
    """And of what a person has to agree to, it says that they have."""
    models = [save(llama(), tmp_path / name) for name in ("one", "two")]
    run = tmp_path / "run"
    assert thalweg("survey", *models, "--data", data, "--limit", 2, "--allow-pickle", "--out", run).code == 0
    told = json.loads(thalweg("advise", run, "--json").out)
    commands = [shlex.split(missing["command"]) for advice in told for missing in advice["unanswered"]]
    assert {command[2] for command in commands} == set(models)
    assert all(command[3:6] == ["--out", str(run), "--allow-pickle"] for command in commands)
    refused = thalweg("lens", run, "--data", data).complaint
    assert refused.startswith(f"lens takes one model at a time; got {models[0]} at local, {models[1]} at local.")

"""``thalweg mcq``: scores as tables and as JSON, and mistakes in one line."""

import json
import sys

import pytest
from tests.local_mcq import Tasks

import thalweg as library
from saved import llama, save
from thalweg.experiments._mcq import harness as module


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return save(llama(max_position_embeddings=256), tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    tasks = Tasks(tmp_path_factory.mktemp("tasks"))
    tasks.choice()
    tasks.letters()
    return tasks


def test_scores_are_printed_by_state_and_the_run_can_be_drawn(thalweg, own, tasks, tmp_path):
    run = tmp_path / "run"
    left = thalweg("mcq", own, "--task", "small_choice", "--include-path", tasks.path, "--limit", 6, "--out", run)
    assert left.code == 0
    assert "small_choice, 6 questions; chance 0." in left.out
    assert [line.split()[0] for line in left.out.splitlines()[2:5]] == ["0", "1", "2"]
    assert "logit lens; small_choice 0-shot, 6 questions; scored by lm-eval 0." in left.out
    assert left.err == ""
    drawn = thalweg("figures", run)
    assert drawn.code == 0
    assert sum("mcq_" in line for line in drawn.out.splitlines()) == 2
    assert thalweg("report", run).code == 0
    assert 'id="mcq"' in (run / "report.html").read_text()


def test_json_holds_settings_answers_and_scores(thalweg, own, tasks, tmp_path):
    given = ("--task", "small_choice,letters", "--include-path", tasks.path, "--num-fewshot", 2)
    left = thalweg("mcq", own, *given, "--limit", 0.5, "--out", tmp_path / "run", "--json")
    said = json.loads(left.out)
    assert said["status"] == "finished"
    assert said["settings"]["tasks"] == ["small_choice", "letters"]
    assert (said["settings"]["num_fewshot"], said["settings"]["limit"]) == (2, 0.5)
    assert {row["n"] for row in said["scores"] if row["task"] == "small_choice"} == {6}
    assert {row["shots"] for row in said["scores"]} == {2}
    assert len(said["answers"]) == 2
    (found,) = library.open_run(tmp_path / "run").experiments("mcq")
    assert len(said["scores"]) == found.table("scores").collect().height == 2 * 2 * 3


def test_mistakes_are_one_line(thalweg, own, tasks, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_manager", lambda names, paths: module._Manager(None, [*paths], False))  # noqa: ARG005
    tasks.write("writes", {"test": []}, output_type="generate_until", doc_to_text="{{ask}}", doc_to_target="x")
    base = ("mcq", own, "--include-path", tasks.path, "--out", tmp_path / "run")
    for given, said in (
        (("--task", "small_choise"), "--task small_choise is unknown to lm-eval: did you mean small_choice?"),
        (("--task", "writes"), "--task writes is a generation task: expected one whose answers are scored"),
        (("--task", "letters", "--limit", "0"), "--limit takes a number of questions, or a share below 1; got 0"),
        (("--task", "letters", "--tuned", tmp_path), "expected one tuned lens"),
        (("--include-path", tmp_path / "none"), "expected a directory with YAML files of tasks; got none"),
    ):
        assert said in thalweg(*base, *given).complaint
    assert not (tmp_path / "run").exists()


def test_without_lm_eval_every_other_verb_works_and_this_one_says_what_to_install(thalweg, own, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "lm_eval"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "thalweg.experiments._mcq.harness", raising=False)
    said = thalweg("mcq", own, "--task", "arc_easy").complaint
    assert said == "mcq needs lm-eval, which is not installed. Run: pip install lm-eval"
    assert thalweg("verify", own).code == 0


def test_help_has_examples(thalweg):
    said = thalweg("mcq", "--help").out
    assert "--include-path" in said
    assert "Needs the extra lm-eval" in " ".join(said.split())

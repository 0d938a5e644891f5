"""``thalweg probe``: a table by state, a sentence, JSON; mistakes in one line."""

import json
import sys

import pytest
from tests.probed import films, questions

from thalweg.experiments._options import ExampleOptions
from thalweg.experiments._probe import Recipe


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return films(tmp_path_factory.mktemp("data") / "films.jsonl", 100, 0)


def test_it_says_where_a_classifier_reads_most(thalweg, model, labelled, tmp_path):
    argv = ["probe", model, "--train", labelled, "--epochs", 8, "--learning-rate", 0.05, "--out", tmp_path / "run"]
    outcome = thalweg(*argv)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].startswith(f"{model} on films.jsonl: accuracy by state; chance 0.500, most frequent class 0.")
    assert lines[1].split()[:5] == ["state", "depth", "train", "validation", "test"]
    assert [line.split()[:2] for line in lines[2:5]] == [["0", "0%"], ["1", "50%"], ["2", "100%"]]
    assert any(
        line.startswith("Best at state 0 of 2 (0% of depth) by validation accuracy: test 1.000") for line in lines
    )
    assert any("train 80 from a share of " in line for line in lines)
    assert lines[-1] == f"run: {tmp_path / 'run'}    draw it: thalweg figures {tmp_path / 'run'}"
    again = thalweg(*argv, "--classifier", "logistic", "--json")
    assert again.err == ""
    told = json.loads(again.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert told["settings"]["classifier"] == "logistic"
    assert [row["split"] for row in told["splits"]] == ["train", "validation", "test"]
    assert {row["converged"] for row in told["accuracy"]} == {True}
    assert thalweg("figures", tmp_path / "run").out.count("/probe_") == 4
    assert thalweg("report", tmp_path / "run").code == 0


def test_questions_are_read_with_one_option_at_a_time(thalweg, model, tmp_path):
    argv = [questions(tmp_path / "train.jsonl", 60, 0), "--test", questions(tmp_path / "test.jsonl", 20, 1)]
    outcome = thalweg("probe", model, "--data", *argv, "--pair", "--out", tmp_path / "run")
    assert outcome.code == 0
    assert "chance 0.292" in outcome.out
    assert "one option at a time" in outcome.out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "--data: expected labelled data, such as sst2"),
        (["--data", "sts2"], "--data sts2: expected a file, organisation/name on the hub, or one of sst2, arc-easy"),
        (["--data", "{}", "--label-field", "stars"], "expected a class in the field 'stars'"),
        (["--data", "{}", "--epochs", "0"], "--epochs must be a whole number of at least 1; got 0"),
        (["--data", "{}", "--validation", "{}"], "--validation: expected --test beside it"),
        (["--data", "{}", "--pair"], "--pair: expected questions with options"),
        (["--data", "{}", "--limit", "1"], "expected 10 rows or more to share out"),
    ],
)
def test_mistakes_are_one_line(thalweg, model, labelled, tmp_path, argv, said):
    asked = [labelled if word == "{}" else word for word in argv]
    assert said in thalweg("probe", model, *asked, "--out", tmp_path / "run").complaint


def test_without_scikit_learn_the_line_that_installs_it(thalweg, model, labelled, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    argv = ["probe", model, "--data", labelled, "--out", tmp_path / "run"]
    assert "pip install scikit-learn" in thalweg(*argv, "--classifier", "logistic").complaint
    assert not (tmp_path / "run").exists()
    assert thalweg(*argv).code == 0


def test_every_option_arrives_in_its_own_place(thalweg, asked, tmp_path):
    calls = asked("probe")
    own = ["--test", "t", "--validation", "v", "--label-field", "l", "--pair", "--pooling", "last", "--out", tmp_path]
    recipe = ["--classifier", "logistic", "--learning-rate", 0.1, "--epochs", 2, "--batch", 3, "--seed", 4]
    assert thalweg("probe", "one", "--train", "here", *own, *recipe, "--limit", 7, "--bos", "never").code == 130
    assert calls.pop() == {
        "model": "one",
        "data": "here",
        "test": "t",
        "validation": "v",
        "label_field": "l",
        "pair": True,
        "pooling": "last",
        "recipe": Recipe("logistic", 0.1, 2, 3, 4),
        "out": str(tmp_path),
        "options": ExampleOptions(limit=7, bos="never"),
    }
    thalweg("probe")
    assert calls.pop()["recipe"] is None

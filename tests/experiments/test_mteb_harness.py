"""Tasks of MTEB are found by name and refused in one line; every state is scored by mteb itself, alike."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from tests import local_mteb
from tests.hub_stub import hub

from thalweg.errors import DataError, UsageError
from thalweg.experiments._mteb.harness import SKEAN32, States, mteb_tasks, state_scores

TYPES = {"Classification": 10, "Clustering": 6, "Reranking": 4, "PairClassification": 3, "STS": 9}


def test_all_tasks_of_the_paper_are_in_the_installed_mteb_with_one_english_subset_each():
    tasks = mteb_tasks("skean32")
    assert tuple(task.metadata.name for task in tasks) == SKEAN32
    assert len(set(SKEAN32)) == 32
    counts = {kind: sum(task.metadata.type == kind for task in tasks) for kind in TYPES}
    assert counts == TYPES
    assert {(*task.eval_splits,) for task in tasks} == {("test",)}
    assert {(*task.hf_subsets,) for task in tasks} == {("default",), ("en",), ("en-en",)}


def test_other_languages_are_taken_when_they_are_asked_for():
    def subsets(name, languages):
        (task,) = mteb_tasks(name, languages)
        return task.hf_subsets

    assert subsets("AmazonReviewsClassification", ["deu", "fra"]) == ["de", "fr"]
    assert len(subsets("STS17", [])) == 11
    assert subsets("STS17", ["eng"]) == ["en-en"]


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ("Banking77", "is no task of the installed mteb, nor one of skean32. Nearest: Banking77Classification,"),
        ("STS12,sts13", "--tasks sts13 is no task of the installed mteb, nor one of skean32. Nearest: STS13,"),
        ("qqqqqqqqqqqqqqqq", "mteb.get_tasks() lists them."),
        ("STS12,STS12", "--tasks STS12 is given twice; name each once."),
        ("skean32,STS12", "--tasks STS12 is given twice"),
        (" , ", "--tasks must name at least one MTEB task, or skean32; got none."),
        ("CIFAR10", "--tasks CIFAR10 is about image; a language model reads text."),
        ("AngryTweetsClassification", "has nothing in eng; it has dan. Name them with --languages, or all."),
    ],
)
def test_a_task_that_cannot_be_used_is_refused_in_one_line(tasks, said):
    with pytest.raises(UsageError) as refused:
        mteb_tasks(tasks)
    assert said in str(refused.value)


def test_without_mteb_the_line_that_installs_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(UsageError, match=r"pip install mteb"):
        mteb_tasks("STS12")


def letters(texts, _):
    """An embedding that reads something: how often each letter comes."""
    return np.array([[text.count(chr(97 + letter)) for letter in range(26)] for text in texts], dtype=np.float32)


def test_states_that_are_alike_score_alike_whatever_was_drawn_before(tmp_path):
    for make in (local_mteb.classification_task, local_mteb.bootstrapped_clustering_task):
        found = state_scores(make(tmp_path), States("m", "k", 3, letters), tmp_path / make.__name__)
        assert len({one.score for one in found}) == 1


def test_every_state_is_asked_for_the_same_texts(tmp_path):
    asked = [[], [], []]

    def embed(texts, state):
        random.random()  # whoever draws in between changes nothing
        asked[state] += texts
        return letters(texts, state)

    for make in (local_mteb.similarity_task, local_mteb.classification_task, local_mteb.bootstrapped_clustering_task):
        state_scores(make(tmp_path), States("m", "k", 3, embed), tmp_path / "cache")
    assert asked[0] == asked[1] == asked[2] != []


def test_what_is_in_the_cache_is_neither_loaded_nor_asked_for_again(tmp_path, monkeypatch):
    states = States("m", "k", 2, letters)
    task = local_mteb.similarity_task(tmp_path)
    first = state_scores(task, states, tmp_path / "cache")
    assert not task.data_loaded
    monkeypatch.setattr(task, "load_data", lambda *_, **__: pytest.fail("the data is loaded"))

    def nothing(texts, state):
        pytest.fail(f"{len(texts)} texts are asked for at {state}")

    assert state_scores(task, States("m", "k", 2, nothing), tmp_path / "cache") == first
    with pytest.raises(pytest.fail.Exception):
        state_scores(task, States("m", "another key", 2, nothing), tmp_path / "cache")
    task.metadata = task.metadata.model_copy(update={"dataset": {"path": "x", "revision": "of today"}})
    with pytest.raises(pytest.fail.Exception):
        state_scores(task, states, tmp_path / "cache")


def test_an_embedding_that_is_not_finite_has_no_score_and_the_others_have(tmp_path):
    def embed(texts, state):
        rows = letters(texts, state)
        rows[-1, 3] = np.nan if state == 1 else rows[-1, 3]
        return rows

    found = state_scores(local_mteb.classification_task(tmp_path), States("m", "k", 3, embed), tmp_path / "cache")
    assert [(one.reason, np.isnan(one.score)) for one in found] == [(None, False), ("not finite", True), (None, False)]


def test_a_score_that_is_undefined_says_so(tmp_path):
    embed = lambda texts, _: np.ones((len(texts), 4), dtype=np.float32)  # noqa: E731
    (found,) = state_scores(local_mteb.similarity_task(tmp_path), States("m", "k", 1, embed), tmp_path / "cache")
    assert np.isnan(found.score)
    assert found.reason == "undefined on these embeddings"


def test_data_that_cannot_be_had_is_one_line(tmp_path):
    task = local_mteb.similarity_task(tmp_path)
    task.metadata = task.metadata.model_copy(update={"dataset": {"path": str(tmp_path / "nothing"), "revision": "1"}})
    with pytest.raises(DataError) as refused:
        state_scores(task, States("m", "k", 1, letters), tmp_path / "cache")
    assert str(refused.value).startswith(f"STS12: expected its data, {tmp_path / 'nothing'}, from the hub; got ")


FROM_THE_HUB = """
import sys, warnings
from pathlib import Path
import numpy as np
from thalweg.experiments._mteb.harness import States, mteb_tasks, state_scores
letters = lambda texts, _: np.array([[text.count(chr(97 + at)) for at in range(26)] for text in texts], np.float32)
(task,) = mteb_tasks("STS12")
print([one.score for one in state_scores(task, States("m", "k", 2, letters), Path(sys.argv[1]))], task.data_loaded)
"""


def test_data_comes_from_the_hub_in_the_pinned_revision(tmp_path):
    (task,) = mteb_tasks("STS12")
    rows, repository = local_mteb.paired(12, 1), tmp_path / "repository"
    repository.mkdir()
    (repository / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    wanted = state_scores(local_mteb.similarity_task(tmp_path, rows), States("m", "k", 2, letters), tmp_path / "cache")
    with hub({f"mteb/sts12-sts@{task.metadata.dataset['revision']}": repository}) as served:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTEST"))}
        place = {"HF_ENDPOINT": served.endpoint, "HF_HOME": str(tmp_path / "home")}
        code = [sys.executable, "-c", FROM_THE_HUB, str(tmp_path / "own")]
        done = subprocess.run(code, env=clean | place, capture_output=True, text=True, check=False)
    assert done.stdout == f"{[one.score for one in wanted]} False\n", done.stderr
    read = [line for line in served.asked if line.startswith("GET /datasets/mteb/sts12-sts/resolve/")]
    assert len(read) == 1
    assert read[0].endswith("/test.jsonl")

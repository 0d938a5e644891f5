"""``thalweg mteb``: a table by state, a sentence, JSON; mistakes in one line."""

import json
import sys

import pytest
from tests import local_mteb

from thalweg.experiments._options import TextOptions


@pytest.fixture
def at_hand(tmp_path, monkeypatch):
    """MTEB's own STS12, its data being here."""
    local = local_mteb.similarity_task(tmp_path)
    monkeypatch.setattr("mteb.tasks.sts.eng.sts12_sts.STS12STS.metadata", local.metadata)


@pytest.mark.usefixtures("at_hand")
def test_it_says_which_state_embeds_best(thalweg, model, tmp_path):
    argv = ["mteb", model, "--tasks", "STS12", "--out", tmp_path / "run"]
    outcome = thalweg(*argv)
    assert outcome.code == 0, outcome
    lines = outcome.out.splitlines()
    assert lines[0] == f"{model}: mean main score by state"
    assert lines[1].split() == ["state", "depth", "mean", "behind", "the", "best", "95%", "tied"]
    assert [line.split()[0] for line in lines[2:5]] == ["0", "1", "2"]
    assert lines[6].startswith("Best at state ")
    assert lines[8] == "1 task (STS12); cosine_spearman; mean over tokens."
    assert lines[-1] == f"run: {tmp_path / 'run'}    draw it: thalweg figures {tmp_path / 'run'}"
    told = json.loads(thalweg(*argv, "--json").out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert told["settings"]["tasks"] == ["STS12"]
    assert [row["state"] for row in told["tasks"]] == [0, 1, 2]
    assert {row["subset"] for row in told["scores"]} == {"default"}
    assert "mteb_" in thalweg("figures", tmp_path / "run").out
    said = thalweg("advise", tmp_path / "run").out.splitlines()
    assert said[1].startswith("  which state for embeddings: state ")
    assert said[-1].startswith("  in which phase a state lies: not measured. Run: thalweg survey ")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ["--tasks", "Banking77"],
            "--tasks Banking77 is no task of the installed mteb, nor one of skean32. Nearest: Bank",
        ),
        (["--tasks", "STS12", "--languages", "dan"], "--tasks STS12 has nothing in dan; it has eng."),
        (["--tasks", ""], "--tasks must name at least one MTEB task"),
    ],
)
def test_mistakes_are_one_line(thalweg, model, tmp_path, argv, said):
    assert said in thalweg("mteb", model, *argv, "--out", tmp_path / "run").complaint
    assert not (tmp_path / "run").exists()


def test_without_mteb_the_line_that_installs_it_is_said(thalweg, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)
    assert thalweg("mteb", model).complaint.endswith("Run: pip install mteb")


def test_every_option_arrives_in_its_own_place(thalweg, asked, tmp_path):
    calls = asked("mteb")
    own = ["--languages", "eng,deu", "--pooling", "last", "--forget", "--out", tmp_path]
    assert thalweg("mteb", "one", "--tasks", "A,B", *own, "--max-length", 7).code == 130
    wanted = {"languages": ["eng", "deu"], "pooling": "last", "keep_features": False, "out": str(tmp_path)}
    assert calls.pop() == {"model": "one", "tasks": "A,B", **wanted, "options": TextOptions(max_length=7)}
    thalweg("mteb", "--languages", "all")
    wanted = {"languages": [], "pooling": "mean", "keep_features": True, "out": None, "options": None}
    assert calls.pop() == {"model": "reference", "tasks": "skean32", **wanted}

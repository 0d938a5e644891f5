"""Figures' files are called by what their models and data sets are called, each by another name."""

import re

import pytest
from tests.synthetic_run import PLANTED, Plant, build_run

from thalweg.experiments import experiments, file_names, labels
from thalweg.experiments._views import file_name, pairs


def test_a_plain_name_is_itself():
    names = ["SmolLM2-135M-Instruct.Q4_1.gguf", "gsm8k"]
    assert list(file_names(names).values()) == ["SmolLM2-135M-Instruct-Q4_1-gguf", "gsm8k"]


@pytest.mark.parametrize(
    "names",
    [["a/b", "a.b"], ["GPT2", "gpt2"], ["模型", "…"], ["x" * 60, "y" + "x" * 60], ["a", "a/"], ["../../a", "a", "<b>"]],
    ids=["punctuation", "capitals", "no letters", "too long", "ends", "hostile"],
)
def test_names_that_would_be_alike_are_told_apart(names):
    found = file_names(names)
    assert len({name.lower() for name in found.values()}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in found.values())
    assert found == file_names(reversed(names))


def test_figures_end_in_the_short_label_and_no_two_are_called_the_same(tmp_path):
    paths = ("/models/here/tiny", "/models/there/tiny", "hub/other")
    run = build_run(
        tmp_path / "run", tuple(Plant(path, blocks=6, heads=4) for path in paths), ("words", "sums"), prompts=4
    )
    names = [file_name(run, pair) for pair in pairs(run)]
    assert names[:3] == ["here-tiny_words", "there-tiny_words", "other_words"]
    sections = [section for each in experiments() for chapter in each.chapters(run) for section in chapter.sections]
    named = [section.name for section in sections if section.panels and section.name]
    assert len(set(named)) == len(named) > len(names)
    assert not any("models" in name for name in named)


def test_a_planted_model_says_so_in_its_files_name(tmp_path):
    run = build_run(tmp_path / "run", (PLANTED,), ("words",), prompts=4)
    (label,) = labels(run.header).values()
    assert file_name(run, pairs(run)[0]) == file_names([label])[label]

"""What the page says over training and over sizes: the sections of its own, and nothing where there is none."""

import pytest
from tests.report.test_page import page_of
from tests.synthetic_run import PLANTED, build_run
from tests.synthetic_training import CHECKPOINTS, TRAINED, build_sizes, build_training

from thalweg.experiments._checkpoints.view import chapters
from thalweg.store._findings_header import write_findings_header


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_training(tmp_path_factory.mktemp("training") / "run")


def test_a_training_has_its_own_chapter(run):
    page = page_of(run)
    training, _ = chapters(run)
    for section in training.sections:
        for sentence in section.sentences:
            assert sentence in page.text
    assert "Over training" in page.text
    assert "Over sizes" not in page.text
    assert f"{TRAINED}, 5 checkpoints" in page.text


def test_sizes_have_their_own_chapter(tmp_path):
    page = page_of(build_sizes(tmp_path / "run"))
    assert "Over sizes" in page.text
    assert "Over training" not in page.text


def test_a_run_without_checkpoints_has_neither_chapter(tmp_path):
    text = page_of(build_run(tmp_path / "run", (PLANTED,), ("words",), prompts=2)).text
    assert "Over training" not in text
    assert "Over sizes" not in text


def test_a_training_that_goes_on_is_not_told_to_be_finished_by_a_command(tmp_path):
    run = build_training(tmp_path / "run", CHECKPOINTS[:2])
    changes = {"status": "started", "resolved": {"every": 10}, "command": ()}
    write_findings_header(run.survey.directory, run.survey.header.model_copy(update=changes))
    text = page_of(run).text
    assert "A training writes it: it grows with every measurement." in text
    assert "To finish it" not in text

"""``thalweg report`` and ``thalweg figures``: draw a run and say where."""

from pathlib import Path

import pytest
from tests.synthetic_run import PLAIN, build_run, header, open_survey


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("runs") / "run", models=(PLAIN,), data=("words",)).path


def test_report_prints_its_path(thalweg, run, tmp_path):
    for outcome, expected in (
        (thalweg("report", run), run / "report.html"),
        (thalweg("report", run, "--out", tmp_path / "mine.html"), tmp_path / "mine.html"),
    ):
        assert (outcome.code, outcome.err, outcome.out) == (0, "", f"{expected}\n")
        assert expected.read_text(encoding="utf-8").lower().startswith("<!doctype html>")


def test_figures_print_their_paths(thalweg, run, tmp_path):
    outcome = thalweg("figures", run, "--out", tmp_path / "figures")
    assert (outcome.code, outcome.err) == (0, "")
    paths = [Path(line) for line in outcome.out.splitlines()]
    assert sorted(paths) == sorted((tmp_path / "figures").iterdir())
    assert {path.suffix for path in paths} == {".png", ".pdf"}
    assert all(path.stat().st_size > 1000 for path in paths)


@pytest.mark.parametrize("verb", ["report", "figures"])
def test_what_is_no_run_is_refused(thalweg, verb, tmp_path):
    assert "there is no such directory" in thalweg(verb, tmp_path / "nowhere").complaint
    assert "it has no run.json" in thalweg(verb, tmp_path).complaint
    (tmp_path / "run.json").write_text("{")
    assert "is damaged: it is not JSON" in thalweg(verb, tmp_path).complaint


@pytest.mark.parametrize(("verb", "place"), [("report", "file/report.html"), ("report", ""), ("figures", "file")])
def test_a_place_that_cannot_be_written_is_refused(thalweg, run, verb, place, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write" in thalweg(verb, run, "--out", tmp_path / place).complaint
    assert (tmp_path / "file").read_text() == ""


def test_a_run_without_prompts_has_no_figures_and_says_so(thalweg, tmp_path):
    with open_survey(tmp_path / "run", header()):
        pass
    outcome = thalweg("figures", tmp_path / "run")
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == "nothing to draw yet: the run has no finished prompts.\n"

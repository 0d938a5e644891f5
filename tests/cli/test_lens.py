"""``thalweg lens``: what it prints, what it refuses, and what the run can be drawn as afterwards."""

import json

import pytest
from tests.viewed import means, sections, spans

from thalweg.experiments import surveyed_span
from thalweg.experiments._lens import view
from thalweg.store import open_run


@pytest.fixture
def run(thalweg, model, data, tmp_path):
    outcome = thalweg("lens", model, "--data", data, "--limit", 6, "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    return tmp_path / "run", outcome


def test_it_prints_a_row_a_state_and_a_sentence(run):
    path, outcome = run
    lines = outcome.out.splitlines()
    assert "logit lens, row by row" in lines[0]
    assert "6 prompts" in lines[0]
    assert [line.split()[0] for line in lines[2:5]] == ["0", "1", "2"]
    assert lines[4].split()[-2:] == ["1.000", "0.000"]
    assert "Perplexity is" in outcome.out
    assert f"thalweg figures {path}" in lines[-1]


def test_json_holds_the_averages(thalweg, model, data, tmp_path):
    outcome = thalweg("lens", model, "--data", data, "--limit", 2, "--no-final-norm", "--json", "--out", tmp_path / "r")
    found = json.loads(outcome.out)
    assert found["settings"] == {
        "lens": "logit",
        "final_norm": False,
        "block_length": None,
        "max_length": 1024,
    }
    assert {row["metric"] for row in found["curves"]} == {"loss", "perplexity", "output_entropy", "agreement", "kl"}
    assert len(found["curves"]) == 3 * 5


def test_a_lens_is_trained_and_then_used(thalweg, model, data, tmp_path):
    asked = ("--train-tuned", "--steps", 3, "--step-tokens", 100, "--limit", 6)
    trained = thalweg("lens", model, "--data", data, *asked, "--out", tmp_path / "run")
    assert trained.code == 0, trained.err
    assert "KL at step 2" in trained.out
    used = thalweg("lens", model, "--data", data, "--limit", 6, "--tuned", tmp_path / "run", "--out", tmp_path / "run")
    assert used.code == 0, used.err
    assert "tuned lens" in used.out
    told = thalweg("lens", model, "--data", data, *asked, "--json", "--out", tmp_path / "run")
    assert json.loads(told.out)["lens"] in trained.out


def test_figures_and_report_show_it(thalweg, run):
    path, _ = run
    assert "lens_" in thalweg("figures", path).out
    assert thalweg("report", path).code == 0
    page = (path / "report.html").read_text()
    assert 'id="lens"' in page
    read = open_run(path)
    together, alone = sections(view, read)
    (findings,) = read.experiments("lens")
    assert alone.sentences[0].replace("'", "&#39;") in page
    curves = findings.table("curves").collect()
    for panel, metric in ((together.panels[0], "perplexity"), (together.panels[3], "kl")):
        wanted = curves.filter(metric=metric).sort("state")["value"].to_list()
        assert means(panel) == {"logit lens, row by row": wanted}


def test_the_phases_of_a_survey_are_shaded_and_every_lens_has_a_line(thalweg, data, tmp_path):
    path = tmp_path / "run"
    assert thalweg("survey", "planted", "--data", data, "--limit", 4, "--out", path).code == 0
    for asked in ((), ("--no-final-norm",)):
        assert thalweg("lens", "planted", "--data", data, "--limit", 4, *asked, "--out", path).code == 0
    read = open_run(path)
    (model,) = read.header.models
    together = sections(view, read)[0]
    for panel in together.panels:
        assert spans(panel) == {"compress phase": surveyed_span(read, model.name, model.revision)}
        assert set(means(panel)) == {"logit lens, row by row", "logit lens without final norm, row by row"}
        assert all(line.named for line in panel.lines)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--tuned", "nowhere"), "--tuned nowhere"),
        (("--train-tuned", "--tuned", "AlignmentResearch/tuned-lens"), "--train-tuned trains"),
        (("--train-tuned", "--no-final-norm"), "--no-final-norm"),
        (("--block-length", 8), "--blocks"),
        (("--train-tuned", "--steps", 0), "--steps"),
    ],
)
def test_a_mistake_is_one_line(thalweg, model, data, tmp_path, asked, said):
    outcome = thalweg("lens", model, "--data", data, *asked, "--out", tmp_path / "run")
    assert said in outcome.complaint

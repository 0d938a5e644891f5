"""``thalweg lens``: what it prints, what it refuses, and what the run can be drawn as afterwards."""

import json

import pytest
from matplotlib.patches import Rectangle

from thalweg.figures import lens as draw_lens
from thalweg.figures import lens_answers, lens_series, lenses_of, pairs, surveyed_span
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
    assert found["settings"] == {"lens": "logit", "final_norm": False, "block_length": None}
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
    (pair,) = pairs(read)
    (experiment,) = lenses_of(read, pair)
    assert lens_answers(experiment)[0].replace("'", "&#39;") in page
    rows, curves = lens_series(read, pair), experiment.table("curves").collect()
    assert rows["series"].unique().to_list() == ["logit lens, row by row"]
    for metric in ("perplexity", "kl"):
        wanted = curves.filter(metric=metric).sort("state")["value"].to_list()
        assert rows.filter(metric=metric).sort("state")["mean"].to_list() == wanted


def test_the_phases_of_a_survey_are_shaded_and_every_lens_has_a_line(thalweg, data, tmp_path):
    path = tmp_path / "run"
    assert thalweg("survey", "planted", "--data", data, "--limit", 4, "--out", path).code == 0
    for asked in ((), ("--no-final-norm",)):
        assert thalweg("lens", "planted", "--data", data, "--limit", 4, *asked, "--out", path).code == 0
    read = open_run(path)
    (pair,) = pairs(read)
    first, last = surveyed_span(read, pair.model, pair.revision)
    figure = draw_lens(read, pair)
    for panel in figure.axes:
        boxes = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
        assert (boxes[0].get_x(), boxes[0].get_x() + boxes[0].get_width()) == (first - 0.5, last + 0.5)
        assert len(panel.get_lines()) == 2
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"logit lens, row by row", "logit lens without final norm, row by row", "compress phase"} == set(names)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--tuned", "nowhere"), "--tuned nowhere"),
        (("--train-tuned", "--tuned", "x"), "--train-tuned trains"),
        (("--train-tuned", "--no-final-norm"), "--no-final-norm"),
        (("--block-length", 8), "--blocks"),
        (("--train-tuned", "--steps", 0), "--steps"),
    ],
)
def test_a_mistake_is_one_line(thalweg, model, data, tmp_path, asked, said):
    outcome = thalweg("lens", model, "--data", data, *asked, "--out", tmp_path / "run")
    assert said in outcome.complaint

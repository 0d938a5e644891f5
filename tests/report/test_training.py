"""What the page says over training and over sizes: the figures' own tables, and nothing where there is none."""

import pytest
from tests.report.test_page import page_of
from tests.synthetic_run import PLANTED, build_run
from tests.synthetic_training import CHECKPOINTS, TRAINED, build_sizes, build_training

from thalweg.figures import checkpoint_answers, training_grid, trainings
from thalweg.report._training import sizes_pages, training_pages
from thalweg.store._findings_header import write_findings_header


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_training(tmp_path_factory.mktemp("training") / "run")


@pytest.fixture(scope="module")
def page(run):
    return page_of(run)


def test_sentences_curves_maps_and_every_checkpoint_are_on_the_page(run, page):
    [own] = training_pages(run)
    assert (own.model, own.data) == (TRAINED, "words")
    for answer in checkpoint_answers(run.experiments("checkpoints")[-1]):
        assert answer in page.text
    assert [len(own.curves), len(own.maps), len(own.table.rows)] == [3, 3, len(CHECKPOINTS)]
    assert [row[0] for row in own.table.rows] == ["0", "10", "100", "2,000", "main"]
    assert "Over training" in page.text
    assert "Over sizes" not in page.text
    assert f"{TRAINED}, 5 checkpoints" in page.text


def test_a_map_holds_the_grid_of_the_figure(run, page):
    [axis] = trainings(run)
    maps = [one["data"][0] for one in page.charts if one["data"][0].get("type") == "heatmap"][:3]
    for drawn, metric in zip(maps, ("norm_ratio", "sink_rate", "entropy_normalized"), strict=True):
        expected = training_grid(run, axis, metric)
        for row, own in zip(drawn["customdata"], expected, strict=True):
            assert row == pytest.approx(list(own), rel=1e-5)  # the page holds six digits


def test_sizes_have_their_own_section(tmp_path):
    run = build_sizes(tmp_path / "run")
    [own] = sizes_pages(run)
    assert [row[:2] for row in own.table.rows] == [
        ("lab/small", "45,376"),
        ("lab/middle", "410,000,000"),
        ("lab/large", "6,900,000,000"),
    ]
    page = page_of(run)
    assert "Over sizes" in page.text
    assert "Over training" not in page.text


def test_a_run_without_checkpoints_has_neither_section(tmp_path):
    run = build_run(tmp_path / "run", (PLANTED,), ("words",), prompts=2)
    assert training_pages(run) == sizes_pages(run) == []
    text = page_of(run).text
    assert "Over training" not in text
    assert "Over sizes" not in text


def test_a_training_that_goes_on_is_not_told_to_be_finished_by_a_command(tmp_path):
    run = build_training(tmp_path / "run", CHECKPOINTS[:2])
    changes = {"status": "started", "resolved": {"every": 10}, "command": ()}
    write_findings_header(run.survey.directory, run.survey.header.model_copy(update=changes))
    text = page_of(run).text
    assert "A training writes it: it grows with every measurement." in text
    assert "To finish it" not in text

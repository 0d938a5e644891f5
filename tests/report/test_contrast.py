"""The report's section on top and bottom prompts: there where a run holds a contrast, and nowhere else."""

import pytest
from tests.contrasted import DEPENDENT, MODEL, contrasted_run
from tests.report.test_page import EVIL, page_of
from tests.synthetic_run import Plant

import thalweg
from thalweg.store import open_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = contrasted_run(tmp_path_factory.mktemp("runs") / "run").path
    thalweg.contrast(path)
    return open_run(path)


def test_it_says_what_was_found_and_how_to_read_it(run):
    page = page_of(run)
    text = page.text
    assert "Top and bottom prompts" in text
    assert "heads change their sink score from the top prompts to the bottom ones" in text
    assert "60 prompts of 20 tokens compared, 6 a side." in text
    assert "A dot marks a head that changes" in text
    assert "Both ends of the ranking by the mean sink score of all heads" in text
    assert any(attrs.get("href") == "#contrast" for _, attrs in page.elements)


def test_its_charts_are_the_figures_maps(run):
    drawn = page_of(run).charts[-3:]
    for chart in drawn:
        assert len(chart["data"][0]["z"]) == MODEL.heads
        assert len(chart["data"][0]["z"][0]) == MODEL.blocks
    assert [len(chart["data"]) for chart in drawn] == [1, 2, 2]
    assert set(DEPENDENT) <= set(zip(drawn[1]["data"][1]["x"], drawn[1]["data"][1]["y"], strict=True))
    assert drawn[1]["data"][0]["zmin"] == -drawn[1]["data"][0]["zmax"]


def test_a_run_without_one_has_no_such_section(tmp_path):
    page = page_of(contrasted_run(tmp_path / "run", prompts=4))
    assert "Top and bottom prompts" not in page.text
    assert not any(attrs.get("href") == "#contrast" for _, attrs in page.elements)


def test_where_no_head_changes_the_section_has_no_table_of_heads(tmp_path):
    path = contrasted_run(tmp_path / "run", prompts=6).path
    thalweg.contrast(path, top=1)
    text = page_of(open_run(path)).text
    assert "none of 24 heads" in text
    assert "changes most" not in text


def test_names_from_outside_are_escaped(tmp_path):
    path = contrasted_run(tmp_path / "run", models=(Plant(EVIL, 2, 2),), data=(EVIL,), change=lambda heads: heads).path
    thalweg.contrast(path, top=5)
    page = page_of(open_run(path))
    assert EVIL in page.text
    assert not [tag for tag, _ in page.elements if tag == "img"]

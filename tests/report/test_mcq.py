"""The page shows multiple choice where the run holds it, with or without a survey, and nothing of it elsewhere."""

import pytest
from tests.report.test_page import page_of
from tests.scored_run import RISING, undefined, with_mcq
from tests.synthetic_run import PLANTED, build_run


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "run"
    build_run(path, (PLANTED,), ("words",))
    return page_of(with_mcq(path))


def sections(page):
    return [attrs["id"] for tag, attrs in page.elements if tag == "section" and "id" in attrs]


def test_it_has_a_section_that_the_page_links_to(page):
    assert "mcq" in sections(page)
    assert "#mcq" in {attrs["href"] for tag, attrs in page.elements if tag == "a"}
    for words in ("rising: acc 0.500 [0.461, 0.539]", "0.550 ± 0.020", "scored by lm-eval 0.4.13"):
        assert words in page.text


def test_a_chart_a_task_shows_every_accuracy_and_chance(page):
    charts = [chart for chart in page.charts if "chance" in {trace.get("name") for trace in chart["data"]}]
    assert len(charts) == 2
    (line,) = [one for one in charts[0]["data"] if one.get("name") == "acc" and one.get("fill") is None]
    assert line["y"] == list(RISING)
    assert charts[0]["layout"]["shapes"]


@pytest.mark.parametrize("scores", [None, undefined()])
def test_a_run_of_nothing_else_has_a_page(tmp_path, scores):
    assert "mcq" in sections(page_of(with_mcq(tmp_path / "run", scores)))


def test_a_run_without_it_says_nothing_of_it(tmp_path):
    page = page_of(build_run(tmp_path / "run", (PLANTED,), ("words",)))
    assert "mcq" not in sections(page)
    assert "Multiple choice" not in page.text

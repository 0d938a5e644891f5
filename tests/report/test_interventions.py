"""The page shows an ablation and a sweep of gamma where the run holds one, and nothing of them where it does not."""

import pytest
from tests.compared_run import with_ablation, with_clip
from tests.report.test_page import page_of
from tests.synthetic_run import PLANTED, build_run


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "run"
    build_run(path, (PLANTED,), ("words",))
    with_ablation(path)
    return page_of(with_clip(path))


def sections(page):
    return [attrs["id"] for tag, attrs in page.elements if tag == "section" and "id" in attrs]


def test_both_have_a_section_that_the_page_links_to(page):
    named = sections(page)
    assert named.index("massive") < named.index("coupling") < named.index("ablation") < named.index("clip")
    links = {attrs["href"] for tag, attrs in page.elements if tag == "a"}
    assert {"#ablation", "#clip"} <= links


def test_answers_settings_and_tables_are_words(page):
    for words in (
        "Without the MLPs of blocks 1, 3, compress (states 2-7): compression removed",
        "Negative controls that leave what they must: 3 of 3",
        "Clamped to 10, normalized entropy goes",
        "blocks: auto",
        "gammas: 10, 100, 1000, states: 1-8, massive only: no",
        "compress's row emptied",
        "not clipped",
    ):
        assert words in page.text


def test_charts_show_every_condition_and_gamma(page):
    names = [{trace.get("name") for trace in chart["data"]} for chart in page.charts]
    through = [own for own in names if "compress's row rescaled" in own]
    assert len(through) == 3
    expected = {"intact", "without the MLPs of blocks 1, 3", "other position", "nothing removed"}
    assert all(expected <= own for own in through)
    for chart in page.charts:
        named = [trace.get("name") for trace in chart["data"] if trace.get("showlegend") is not False]
        if "nothing removed" in named:
            assert sorted(named) == sorted(set(named))
            assert not any(name.endswith(", others") for name in named)
    against = [chart for chart in page.charts if chart["layout"]["xaxis"]["title"]["text"].startswith("gamma")]
    assert len(against) == 3
    for chart in against:
        assert chart["layout"]["xaxis"]["type"] == "log"
        (clipped,) = [one for one in chart["data"] if one["name"] == "clipped" and one.get("fill") is None]
        assert clipped["x"] == [10.0, 100.0, 1000.0]
        # marks: lines in units, their words in powers of ten, as plotly has it on a log axis
        assert [one["x0"] for one in chart["layout"]["shapes"]] == [8.0, 1000.0]
        assert [round(one["x"], 3) for one in chart["layout"]["annotations"]] == [0.903, 3.0]


def test_a_run_without_them_says_nothing_of_them(tmp_path):
    page = page_of(build_run(tmp_path / "run", (PLANTED,), ("words",)))
    assert {"ablation", "clip"}.isdisjoint(sections(page))
    assert "Clipping" not in page.text


@pytest.mark.parametrize("make", [with_ablation, with_clip])
def test_a_run_of_nothing_else_has_a_page(tmp_path, make):
    page = page_of(make(tmp_path / "run", massive=False))
    assert "no compress phase" in page.text
    assert "This run holds no survey." in page.text
    assert f"thalweg survey lab/planted --out {tmp_path / 'run'}" in page.text
    assert "is not finished" not in page.text
    only = {"with_ablation": "ablation", "with_clip": "clip"}[make.__name__]
    assert sections(page) == ["answers", only, "run", "definitions"]

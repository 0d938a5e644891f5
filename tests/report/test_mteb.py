"""The report's section on MTEB: there where a run holds scores, with a survey or without, and nowhere else."""

from tests.advised import with_mteb
from tests.figures.test_mteb import HILL, SCORES
from tests.report.test_page import EVIL, page_of
from tests.synthetic_run import PLANTED, Plant, build_run

from thalweg.report._mteb import mteb_pages
from thalweg.store import open_run


def test_it_says_which_state_embeds_best_and_draws_it(tmp_path):
    path = build_run(tmp_path / "run", (PLANTED,), ("words",), prompts=4).path
    assert not any(attrs.get("href") == "#mteb" for _, attrs in page_of(open_run(path)).elements)
    run = open_run(with_mteb(path, SCORES))
    page = page_of(run)
    assert "Best at state 4 of 8" in page.text
    assert any(attrs.get("href") == "#mteb" for _, attrs in page.elements)
    (own,) = mteb_pages(run)
    assert [chart.title for chart in own.charts] == ["Mean main score by state", "Main score of each task"]
    assert len(own.table.rows) == 9
    assert [trace["name"] for trace in page.charts[-1]["data"]] == [*SCORES]


def test_it_is_there_without_a_survey(tmp_path):
    page = page_of(open_run(with_mteb(tmp_path / "run", {"STS12": HILL})))
    assert "one task alone does not tell" in page.text


def test_names_from_outside_are_escaped(tmp_path):
    page = page_of(open_run(with_mteb(tmp_path / "run", {"STS12": HILL}, plant=Plant(EVIL, 8, 2))))
    assert EVIL in page.text
    assert not [tag for tag, _ in page.elements if tag == "img"]

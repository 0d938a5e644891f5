"""A run, what an experiment found, a comparison and a section show themselves in a notebook, and run nothing there."""

from html.parser import HTMLParser

import pytest
from tests.compared_run import with_ablation
from tests.gallery import EVIL, sections
from tests.synthetic_run import PLANTED, Plant, build_run

import thalweg
from thalweg.errors import RunError
from thalweg.store import _reader, open_run

TAGS = {"div", "b", "ul", "li", "p", "small", "img", "table", "caption", "thead", "tbody", "tr", "th", "td", "pre"}
HOSTILE = f"{EVIL} $\\frac{{a}}{{b}}$ 'x' onload=1"
SHORT = HOSTILE.rpartition("/")[2]


class Html(HTMLParser):
    """Elements, their attributes and the text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def run(tmp_path):
    return build_run(tmp_path / "run", (Plant(HOSTILE, 3, 1), Plant("lab/other", 3, 1)), ("words",))


def shown(what):
    html = Html(what._repr_html_())
    assert html.tags <= TAGS
    assert html.attributes <= {"class", "style", "alt", "src"}
    return html


def test_a_run_says_what_it_holds_and_reads_no_table(run, monkeypatch):
    def read(*_):
        raise AssertionError("a table was read")

    monkeypatch.setattr(_reader, "_scan", read)
    html = shown(run)
    assert HOSTILE in html.text
    assert f"{run.path}: finished" in html.text
    assert "survey" in html.text
    assert "img" not in html.tags


def test_an_experiment_shows_its_answers_sentences_and_tables(run, tmp_path):
    assert SHORT in shown(run.survey).text
    ablated = with_ablation(tmp_path / "ablated")
    (findings,) = ablated.experiments("ablation")
    html = shown(findings)
    assert f"ablation of {ablated.path}: finished" in html.text
    assert "blocks: auto" in html.text
    assert "is not run: no other blocks of 2 to draw." in html.text
    assert "img" not in html.tags


def test_a_section_shows_its_figure_as_a_picture(run):
    html = shown(thalweg.compare(run).sections[0])
    assert {"img", "table", "li"} <= html.tags
    assert SHORT in html.text
    assert EVIL in shown(next(section for section in sections() if EVIL in str(section))).text


def test_what_is_too_long_is_cut_and_colours_are_the_notebooks(tmp_path):
    long = build_run(tmp_path / "run", (Plant("x" * 10_000, 3, 1),), ("words",))
    html = long._repr_html_()
    assert len(html) < 5_000
    assert "color" not in html
    assert "background" not in html


def test_a_damaged_run_says_so_where_it_is_shown(run):
    survey = run.survey
    (survey.directory / "header.json").write_text("{")
    for what in (run, survey):
        assert shown(what).tags == {"pre"}
    with pytest.raises(RunError):
        _ = open_run(run.path).survey


def test_a_training_of_many_checkpoints_has_a_short_table(tmp_path):
    models = [Plant("lab/a", 2, 1, revision=f"step{step}") for step in range(20)]
    assert "and 8 more" in shown(build_run(tmp_path / "run", (*models,), ("words",), prompts=1)).text
    assert PLANTED.name not in shown(open_run(tmp_path / "run")).text

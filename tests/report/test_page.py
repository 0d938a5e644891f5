"""The page is one file that opens without a network, knows no experiment, escapes everything, copes with every run."""

import json
import re
from html.parser import HTMLParser

import pytest
from tests.gallery import EVIL, alone, sections
from tests.synthetic_run import PLANTED, Plant, build_run, header, open_survey, write_aggregates, write_parts

from thalweg.catalogue import METRICS
from thalweg.errors import RunError
from thalweg.report import write_report
from thalweg.report._page import _term
from thalweg.store import open_run


class Page(HTMLParser):
    """What a browser would see: elements, text, and the charts' JSON."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.words, self.charts, self._inside = [], [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        kind = dict(attrs).get("type", "program") if tag == "script" else tag
        self._inside = "numbers" if (tag, "id") in {(tag, name) for name, _ in attrs} and tag == "script" else kind

    def handle_endtag(self, _tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "application/json":
            self.charts.append(json.loads(data))
        elif self._inside not in ("program", "style", "numbers"):
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def page_of(run):
    return Page(write_report(run).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("report") / "run", (PLANTED,), ("words",))


@pytest.fixture(autouse=True, scope="module")
def only_the_gallery():
    with alone():
        yield


@pytest.fixture(scope="module")
def page(run):
    return page_of(run)


def test_the_answers_come_first(page):
    text = page.text
    assert text.index("states 2 to 7 of 8") < text.index("Which heads sink?") < text.index("Entropy falls to 0.2")
    assert "A test model: planted." in text
    assert "A note. Another." in text
    assert "The strongest: block 2" in text


def test_every_chapter_is_there_with_all_its_sections(page):
    links = [attrs["href"] for tag, attrs in page.elements if tag == "a"]
    assert [link for link in links if not link.startswith("#def-")] == [
        *("#answers", "#answers", "#gallery", "#only", "#run", "#definitions")
    ]
    headings = [attrs["id"] for tag, attrs in page.elements if tag == "section"]
    assert headings == ["answers", "gallery", "only", "run", "definitions"]
    for words in ("Entropy falls to 0.2 at state 4.", "gamma: 1, 10.", "Everything there is.", "1 more."):
        assert words in page.text
    assert (
        page.text.index("gpt2 on words") < page.text.index("over training. It emerges.") < page.text.index("and stays.")
    )


def test_a_table_of_nothing_is_left_out(page):
    assert "single rows" not in page.text
    assert "Nothing folded" not in page.text


def test_what_is_for_the_terminal_alone_is_not_on_the_page(page):
    assert "said on the page alone." in page.text
    assert "table of the page" in page.text
    assert "of the terminal" not in page.text
    assert "terminal alone" not in page.text


def test_folded_things_have_a_name(page):
    folds = [attrs for tag, attrs in page.elements if tag == "details"]
    assert [attrs.get("class") for attrs in folds] == [None, None, "shown", None]
    assert [attrs.get("id") for attrs in folds if "open" in attrs] == ["contents"]
    assert "Every row folded" in page.text


def test_cells_are_written_as_people_read_them(page):
    assert "0 0.500 \N{EN DASH} yes 1 \N{EN DASH}" in page.text
    assert "a 12345" in page.text


def test_lines_can_be_shown_and_hidden_by_name(page):
    switches = [attrs["data-series"] for tag, attrs in page.elements if tag == "button"]
    names = ["first", "second", "chance", "threshold", "the row itself", "attention", "MLP", "peak"]
    assert switches[: len(names)] == names
    groups = {trace["legendgroup"] for chart in page.charts[:5] for trace in chart["data"]}
    assert groups == {*names, "embedding"}


def test_what_is_shaded_and_what_a_mark_says_is_told(page):
    assert "compress phase" in page.text
    dots = [trace["name"] for trace in page.charts[5]["data"] if trace.get("showlegend")]
    assert dots == ["the head changes"]


def test_charts_have_legends_of_their_own_where_a_section_says_so(page):
    own = [chart["layout"]["showlegend"] for chart in page.charts]
    assert own == [False] * 5 + [True, False, False, False] + [False] * 5 + [True, False]


def test_the_file_asks_for_nothing_outside_itself(run, page):
    assert write_report(run) == run.path / "report.html"
    addresses = [attrs[name] for _, attrs in page.elements for name in ("src", "href") if name in attrs]
    assert all(address.startswith("#") or address == "data:," for address in addresses)
    policy = next(attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split(";")[1]


def test_plotly_is_embedded_once(run):
    html = write_report(run).read_text(encoding="utf-8")
    assert html.count("plotly.js (cartesian") == 1
    assert len(html.encode()) < 2_000_000


def test_every_chart_has_a_name_and_no_impossible_number(page):
    assert len(page.charts) == sum(len(section.panels) for section in sections()) + 1 == 16
    assert sum(tag == "figcaption" for tag, _ in page.elements) == len(page.charts)
    for chart in page.charts:
        axes = chart["layout"]["xaxis"]["title"]["text"], chart["layout"]["yaxis"]["title"]["text"]
        assert all(axes)


def test_facts_and_definitions_are_told(page):
    for words in ("thalweg survey lab/planted", "sha256:words", "too short for a sink rate", "two cores"):
        assert words in page.text
    assert all(metric.reads_as in page.text for metric in METRICS)


def test_every_string_from_outside_is_escaped(tmp_path):
    models = (Plant(f"evil/{EVIL}", 2, 1, 1, 1, (3,), 900.0), Plant(EVIL, 3, 1, revision=EVIL))
    data = (f"data {EVIL}",)
    with open_survey(tmp_path, header(models, data)) as writer:
        write_parts(writer, models, data, prompts=2, token=EVIL)
        write_aggregates(writer, models, data)
        writer.update(status="finished")
    page = page_of(open_run(tmp_path))
    scripts = [attrs.get("type", "code") for tag, attrs in page.elements if tag == "script"]
    assert scripts.count("code") == 4
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert EVIL in page.text
    names = [trace["name"] for chart in page.charts for trace in chart["data"] if "name" in trace]
    assert any("alert(1)" in name for name in names)
    assert not any("<" in name for name in names)


@pytest.mark.parametrize("prompts", [0, 2])
def test_an_unfinished_run_says_what_is_missing_and_how_to_finish(tmp_path, prompts):
    with open_survey(tmp_path / "my run", header()) as writer:
        write_parts(writer, (PLANTED,), ("words",), prompts=prompts)
        writer.update(status="interrupted")
    text = page_of(open_run(tmp_path / "my run")).text
    assert "its status is interrupted, and profile, phases, segments, claims, coupling are not written yet" in text
    assert f"thalweg survey lab/planted lab/plain --out '{tmp_path / 'my run'}'" in text


def test_the_same_run_gives_the_same_page(run, tmp_path):
    assert write_report(run).read_bytes() == write_report(run, tmp_path / "sub" / "page.html").read_bytes()


def test_a_place_that_cannot_be_written_is_one_clear_line(run, tmp_path):
    with pytest.raises(RunError, match="cannot write"):
        write_report(run, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        write_report(run, tmp_path / "file" / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("heading", "metric"),
    [
        ("normalized entropy", "entropy_normalized"),
        ("normalized mixing", "mixing_normalized"),
        ("sink norm", "sink_norm"),
        ("Norm of the sink token (others in grey)", "sink_norm"),
        ("Sink score: top minus bottom prompts", "sink_score"),
        ("C", ""),
        ("alpha", ""),
        ("states", ""),
        (EVIL, ""),
    ],
)
def test_headings_and_titles_name_the_metric_that_they_are_defined_by(heading, metric):
    assert _term(heading) == metric

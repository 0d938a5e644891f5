"""The page is one file that opens without a network, escapes everything, and copes with every run."""

import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser

import polars as pl
import pytest
from tests.synthetic_run import (
    PLAIN,
    PLANTED,
    Plant,
    build_run,
    header,
    open_survey,
    part_tables,
    write_aggregates,
    write_parts,
)

from thalweg.catalogue import METRICS
from thalweg.errors import RunError
from thalweg.report import write_report
from thalweg.report._charts import _inside_script
from thalweg.store import Shard, open_run

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """What a browser would see: elements, text, and the charts' JSON."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.words, self.charts, self._inside = [], [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = dict(attrs).get("type", "program") if tag == "script" else tag

    def handle_endtag(self, _tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "application/json":
            self.charts.append(json.loads(data))
        elif self._inside not in ("program", "style"):
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def page_of(run):
    return Page(write_report(run).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def page(run):
    return page_of(run)


def test_the_answers_come_first(page):
    text = page.text
    assert text.index("states 2 to 7 of 8") < text.index("No massive activation") < text.index("Through depth")
    assert "No sink: no block's mean sink rate over prompts of 10 tokens or more is above 0." in text


def test_the_file_asks_for_nothing_outside_itself(run, page):
    assert write_report(run) == run.path / "report.html"
    addresses = [attrs[name] for _, attrs in page.elements for name in ("src", "href") if name in attrs]
    assert all(address.startswith("#") or address == "data:," for address in addresses)
    policy = next(attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split(";")[1]


def test_plotly_is_embedded_once(run):
    html = write_report(run).read_text(encoding="utf-8")
    assert html.count("plotly.js v") == 1
    assert len(html) < 6_000_000


def test_every_chart_has_a_name_and_no_impossible_number(page):
    # two data sets of 3 + 3 panels and a norm chart a model; six bound panels and a map for each of four pairs
    assert len(page.charts) == 2 * (3 + 3 + 2) + 4 * (6 + 1)
    assert sum(tag == "figcaption" for tag, _ in page.elements) == len(page.charts)
    for chart in page.charts:
        axes = chart["layout"]["xaxis"]["title"]["text"], chart["layout"]["yaxis"]["title"]["text"]
        assert all(axes)


def test_facts_and_definitions_are_told(page):
    for words in ("thalweg survey lab/planted lab/plain", "sha256:words", "too short for a sink rate", "two cores"):
        assert words in page.text
    assert all(metric.reads_as in page.text for metric in METRICS)
    assert "the sink rate is the same in every block" in page.text


def test_every_string_from_outside_is_escaped(tmp_path):
    models = (Plant(f"evil/{EVIL}", 2, 1, 1, 1, (3,), 900.0), Plant(EVIL, 3, 1, revision=EVIL))
    data = (f"data {EVIL}",)
    with open_survey(tmp_path, header(models, data)) as writer:
        write_parts(writer, models, data, prompts=2, token=EVIL)
        write_aggregates(writer, models, data)
        writer.update(status="finished")
    page = page_of(open_run(tmp_path))
    scripts = [attrs.get("type", "code") for tag, attrs in page.elements if tag == "script"]
    assert scripts.count("code") == 2
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert EVIL in page.text
    names = [trace["name"] for chart in page.charts for trace in chart["data"] if "name" in trace]
    assert any("alert(1)" in name for name in names)
    assert not any("<" in name for name in names)


def test_a_charts_json_cannot_end_its_script_element():
    content = json.dumps({"name": f"{EVIL}<!--&\u2028\u2029"}, ensure_ascii=False)
    safe = _inside_script(content)
    assert not set(safe) & set("<>&\u2028\u2029")
    assert json.loads(safe) == json.loads(content)


def test_gaps_are_gaps_in_charts(tmp_path):
    with open_survey(tmp_path, header((PLANTED,), ("words",))) as writer:
        tables = part_tables(PLANTED, "words", range(4))
        tables["heads"] = tables["heads"].filter(pl.col("block") != 4)
        writer.write_part(Shard(PLANTED.name, "main", "words", 0, 4), tables)
        write_aggregates(writer, (PLANTED,), ("words",))
    charts = page_of(open_run(tmp_path)).charts
    rate = charts[1]["data"][-1]
    assert rate["y"][4] is None
    assert rate["connectgaps"] is False
    bands = [trace for trace in charts[1]["data"] if trace.get("fill") == "toself"]
    assert [sorted(set(band["x"])) for band in bands] == [[0, 1, 2, 3], [5, 6, 7]]


def test_a_run_without_any_value_is_reported(tmp_path):
    with open_survey(tmp_path, header((PLAIN,), ("words",))) as writer:
        tables = part_tables(PLAIN, "words", range(3), lengths=(12,))
        for table, frame in tables.items():
            floats = [name for name, kind in frame.schema.items() if kind.is_float()]
            tables[table] = frame.with_columns(pl.lit(math.nan).alias(name) for name in floats)
        writer.write_part(Shard(PLAIN.name, "main", "words", 0, 3), tables)
        write_aggregates(writer, (PLAIN,), ("words",))
        writer.update(status="finished")
    text = page_of(open_run(tmp_path)).text
    assert "No row it speaks about." in text
    assert "none in any prompt and state" in text


@pytest.mark.parametrize("prompts", [0, 2])
def test_an_unfinished_run_says_what_is_missing_and_how_to_finish(tmp_path, prompts):
    with open_survey(tmp_path / "my run", header()) as writer:
        write_parts(writer, (PLANTED,), ("words",), prompts=prompts)
        writer.update(status="interrupted")
    text = page_of(open_run(tmp_path / "my run")).text
    assert "its status is interrupted, and profile, phases, coupling are not written yet" in text
    assert f"thalweg survey lab/planted lab/plain --out '{tmp_path / 'my run'}'" in text
    assert "Not drawn: the profile is not written yet." in text


def test_the_same_run_gives_the_same_page(run, tmp_path):
    assert write_report(run).read_bytes() == write_report(run, tmp_path / "sub" / "page.html").read_bytes()


def test_a_place_that_cannot_be_written_is_one_clear_line(run, tmp_path):
    with pytest.raises(RunError, match="cannot write"):
        write_report(run, tmp_path)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_browser_draws_every_open_chart_without_an_error_or_a_request(run, tmp_path):
    file = write_report(run, tmp_path / "page.html")
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    log = ["--enable-logging=stderr", "--v=0", "--virtual-time-budget=15000", f"--user-data-dir={tmp_path / 'profile'}"]
    found = subprocess.run(
        [CHROMIUM, *quiet, *log, f"--log-net-log={tmp_path / 'net.json'}", "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in found.stderr
    open_charts = 2 * (3 + 3 + 2) + 6 + 4
    assert found.stdout.count('class="main-svg"') >= open_charts
    assert found.stdout.count('data-drawn="yes"') == open_charts
    assert "states 2 to 7 of 8" in found.stdout
    network = (tmp_path / "net.json").read_text(encoding="utf-8")
    assert not re.search(r'"url":"https?://[^"]*(plot|mapbox|cdn|googleapis\.com/css)', network)

"""Names and tokens made of what others obey: on the page, on the terminal and on paper they stay text."""

import json
import random
import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from tests.faults.share import some
from tests.synthetic_run import Plant, header, open_survey, write_aggregates, write_parts

from thalweg.cli import main
from thalweg.experiments import experiments
from thalweg.report import write_report
from thalweg.shown import figure_of
from thalweg.store import open_run

PIECES = (
    *(
        "<",
        ">",
        "&",
        '"',
        "'",
        "`",
        "=",
        "/",
        "\\",
        "%",
        "$",
        "{",
        "}",
        "_",
        "^",
        "#",
        "\n",
        "\r",
        "\t",
        "\0",
        "\x1b[2J",
    ),
    *("<script>", "</script>", "<!--", "-->", "]]>", "<svg onload=x>", "<img src=x onerror=x>", "javascript:x", "&lt;"),
    *("</style>", "</title>", "</textarea>", "<b>", "<a href='x'>", "<br>", "\\u003c", "&#60;", "{{7*7}}", "{% x %}"),
    *("$\\frac{", "$x^{2}$", "\\n", "\u2028", "\u2029", "\u202e", "\u200b", "\ufeff", "\x85", "\x07", "\x9b31m"),
    *(
        "[bold]",
        "[/]",
        "[link=x]",
        "%{x}",
        "%{customdata}",
        "../",
        "C:\\",
        "~",
        "-rf",
        "\U0001f9ea",
        "模型",
        "é",
        "e\u0301",
    ),
    *("a", "word", "9" * 30, "x" * 300),
)
"""Of the languages that a page, a template, plotly, matplotlib, rich, a shell and a terminal read."""
FAULTS, MODELS = 30, 3
"""Runs, each with so many models whose names, revisions, data and tokens are hostile."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e\u200b\ufeff]")


def text(chance):
    return "".join(chance.choices(PIECES, k=chance.randint(1, 12)))


def run_of(place, told):
    models = [Plant(f"a{told()}", 3, 2, 1, 2, (3,), 900.0, sinks=(0,), revision=f"r{told()}") for _ in range(MODELS)]
    data = (f"d{told()}",)
    with open_survey(place, header(models, data)) as writer:
        write_parts(writer, models, data, prompts=2, token=told())
        write_aggregates(writer, models, data)
        writer.update(status="finished")
    return open_run(place)


class Elements(HTMLParser):
    """Which elements and attributes a page has, and how many of each."""

    def __init__(self, html):
        super().__init__()
        self.found, self.charts, self._in_json = Counter(), [], False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.update([tag, *(f"{tag}.{name}" for name, _ in attrs)])
        self._in_json = ("type", "application/json") in attrs

    def handle_data(self, data):
        if self._in_json:
            self.charts.append(json.loads(data))
            self._in_json = False


def strings(value):
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from strings(each)
    elif isinstance(value, str):
        yield value


OURS = re.compile(r"<(extra></extra|br)>")
"""What thalweg itself writes for plotly, which reads a small HTML of its own."""


def test_hostile_text_stays_text(tmp_path, capsys, monkeypatch):
    harmless = (f"name {number}" for number in range(99))
    plain = Elements(write_report(run_of(tmp_path / "plain", lambda: next(harmless))).read_text(encoding="utf-8"))
    for place, seed in enumerate(some(range(FAULTS))):
        chance = random.Random(seed)
        run = run_of(tmp_path / str(seed), lambda chance=chance: text(chance))
        page = Elements(write_report(run).read_text(encoding="utf-8"))
        assert page.found == plain.found, seed
        assert [shown for shown in strings(page.charts) if "<" in OURS.sub("", shown)] == [], seed
        monkeypatch.setattr("sys.argv", ["thalweg", "advise", str(run.path)])
        with pytest.raises(SystemExit):
            main()
        told = capsys.readouterr()
        assert CONTROL.search(told.out + told.err) is None, seed
        if place % 10 == 0:
            chapters = [chapter for known in experiments() for chapter in known.chapters(run)]
            for section in (section for chapter in chapters for section in chapter.sections if section.panels):
                figure_of(section).canvas.draw()

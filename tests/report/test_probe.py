"""The report's section on probes: there where a run holds some, and nowhere else."""

import pytest
from tests.probed import with_probe
from tests.report.test_page import EVIL, page_of
from tests.synthetic_run import Plant, build_run

from thalweg.report._probe import probe_pages


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return with_probe(tmp_path_factory.mktemp("runs") / "run")


def test_it_says_what_was_found_and_shows_the_curves(run):
    (page,) = probe_pages(run)
    assert page.title == "planted on films"
    assert page.answers[0].startswith("Best at state 3 of 8")
    assert [chart.title for chart in page.charts] == ["Accuracy by state"]
    drawn = page_of(run)
    assert any(attrs.get("href") == "#probe" for _, attrs in drawn.elements)
    assert "Share of right answers of the classifier trained on each state" in drawn.text
    chart = drawn.charts[-1]
    lines = {trace["name"]: trace for trace in chart["data"] if trace.get("mode") == "lines+markers"}
    assert list(lines) == ["train", "validation", "test", "chance", "most frequent class"]
    assert lines["test"]["y"] == pytest.approx([0.85 - 0.05 * abs(state - 3) for state in range(9)])
    assert lines["train"]["y"][-1] is None
    assert chart["layout"]["shapes"][0]["x0"] == 1.5


def test_names_from_outside_are_only_text(tmp_path):
    models = (Plant(EVIL, 2, 1),)
    build_run(tmp_path / "run", models, ("words",))
    page = page_of(with_probe(tmp_path / "run", models[0], data=EVIL))
    assert EVIL in page.text
    assert not any(name == "img" for name, _ in page.elements)


def test_a_run_without_probes_has_no_such_section(tmp_path):
    page = page_of(build_run(tmp_path / "run"))
    assert "Probes" not in page.text

"""The page shows lenses, multiple choice, probes and MTEB where the run holds them, and nothing of them elsewhere."""

import pytest
from tests.advised import with_lens, with_maps, with_mteb
from tests.probed import with_probe
from tests.report.test_page import EVIL, page_of
from tests.scored_run import undefined, with_mcq
from tests.synthetic_run import PLANTED, Plant, build_run

from thalweg.store import open_run

HILL = [0.30, 0.40, 0.50, 0.60, 0.70, 0.65, 0.60, 0.50, 0.45]
FALLING = [900.0, 400.0, 200.0, 100.0, 60.0, 44.0, 41.5, 40.2, 40.0]
WORDS = {
    "lens": ("Perplexity is ", "averaged over tokens"),
    "mcq": ("rising: acc 0.500 [0.461, 0.539]", "0.550 ± 0.020", "scored by lm-eval 0.4.13"),
    "probe": ("Best at state 3 of 8", "Share of right answers of the classifier trained on each state"),
    "mteb": ("Best at state 4 of 8",),
}
TITLES = ("Lens", "Multiple choice", "Probes", "Embeddings")


def anchors(page):
    return [attrs["id"] for tag, attrs in page.elements if tag == "section" and "id" in attrs]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "run"
    build_run(path, (PLANTED,), ("words",), prompts=4)
    with_lens(path, FALLING)
    with_mcq(path)
    with_probe(path)
    return page_of(open_run(with_mteb(path, {"STS12": HILL, "STS13": HILL})))


@pytest.mark.parametrize("anchor", WORDS)
def test_each_has_a_section_that_the_page_links_to(page, anchor):
    assert anchor in anchors(page)
    assert f"#{anchor}" in {attrs["href"] for tag, attrs in page.elements if tag == "a"}
    for words in WORDS[anchor]:
        assert words in page.text


def test_their_charts_shade_the_phase(page):
    charts = [chart for chart in page.charts if "chance" in {trace.get("name") for trace in chart["data"]}]
    assert len(charts) == 3
    assert all(chart["layout"]["shapes"] for chart in charts)


@pytest.mark.parametrize("scores", [None, undefined()])
def test_a_run_of_multiple_choice_alone_has_a_page(tmp_path, scores):
    assert "mcq" in anchors(page_of(with_mcq(tmp_path / "run", scores)))


def test_a_run_of_embeddings_alone_has_a_page(tmp_path):
    page = page_of(open_run(with_mteb(tmp_path / "run", {"STS12": HILL})))
    assert "one task alone does not tell" in page.text


def test_names_from_outside_are_only_text(tmp_path):
    evil = Plant(EVIL, 8, 2)
    build_run(tmp_path / "probed", (evil,), ("words",))
    with_probe(tmp_path / "probed", evil, data=EVIL)
    with_mteb(tmp_path / "scored", {"STS12": HILL}, plant=evil)
    for path in (tmp_path / "probed", tmp_path / "scored"):
        page = page_of(open_run(path))
        assert EVIL in page.text
        assert not [tag for tag, _ in page.elements if tag == "img"]


def test_a_run_without_them_says_nothing_of_them(tmp_path):
    page = page_of(build_run(tmp_path / "run", (PLANTED,), ("words",)))
    assert not set(anchors(page)) & set(WORDS)
    assert not any(attrs.get("href") in {f"#{anchor}" for anchor in WORDS} for _, attrs in page.elements)
    assert not [title for title in TITLES if title in page.text]


def test_maps_of_heads_alone_have_a_page(tmp_path):
    with_maps(tmp_path / "run")
    page = page_of(open_run(tmp_path / "run"))
    assert not [attrs for _, attrs in page.elements if "data-heads" in attrs or attrs.get("id") == "one-head"]

"""What is shown of a sweep of gamma, and what its tables say in words."""

import pytest
from tests.compared_run import with_clip
from tests.synthetic_run import PLANTED, build_run

from thalweg.experiments._clip.view import COLUMNS, chapters
from thalweg.shown import MARK


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return with_clip(tmp_path_factory.mktemp("runs") / "run")


def sections(run):
    (chapter,) = chapters(run)
    assert (chapter.title, chapter.anchor) == ("Clipping", "clip")
    return chapter.sections


@pytest.fixture(scope="module")
def section(run):
    (section,) = sections(run)
    return section


def test_curves_are_over_the_compress_phase_with_the_model_as_it_is(section):
    assert [panel.title for panel in section.panels] == ["Normalized entropy", "Sink rate", "Next-token loss"]
    (entropy,), (rate,), (loss,) = (panel.lines for panel in section.panels)
    assert entropy.rows["at"].to_list() == [10.0, 100.0, 1000.0]
    flat, valley = (2.05 + 0.02) / 3, (0.3 + 0.02) / 3
    assert entropy.rows["mean"].to_list() == pytest.approx([flat, flat, valley])
    assert [rule.value for rule in section.panels[0].rules if rule.name == "not clipped"] == [pytest.approx(valley)]
    assert (entropy.rows["upper"] - entropy.rows["mean"]).to_list() == pytest.approx([0.02 / 3] * 3)
    assert rate.rows["mean"].to_list() == pytest.approx([0.0, 0.0, 0.5])
    assert loss.rows["mean"].to_list() == pytest.approx([3.35, 3.35, 3.1])


def test_what_the_row_is_made_of_is_marked(section, tmp_path):
    for panel in section.panels:
        marks = {rule.name: rule for rule in panel.rules if rule.upright}
        assert {name: rule.value for name, rule in marks.items()} == {
            "largest ordinary coordinate": 8.0,
            "largest massive coordinate": 1000.0,
        }
        assert {rule.color for rule in marks.values()} == {MARK}
        assert len({rule.dash for rule in marks.values()}) == 2
    (bare,) = sections(with_clip(tmp_path / "run", massive=False))
    assert [[rule.name for rule in panel.rules] for panel in bare.panels] == [["not clipped"]] * 3


def test_three_panels_have_a_log_axis_of_gamma(section):
    assert len(section.panels) == 3
    for panel in section.panels:
        assert panel.log_x
        assert panel.x == "gamma [activation units]"
        assert [line.name for line in panel.lines] == ["clipped"]
        assert panel.lines[0].rows["at"].to_list() == [10.0, 100.0, 1000.0]
    assert [panel.y for panel in section.panels] == ["[share of ln r]", "[share of heads]", "[nats]"]
    assert [panel.share for panel in section.panels] == [True, True, False]


def test_the_table_ends_with_the_model_as_it_is(section):
    (table,) = section.tables
    assert table.title == (
        "planted on words: the massive row at states 1-8 clamped to gamma; means over the compress phase, states 2-7"
    )
    assert table.folded == "Every condition"
    assert table.columns == COLUMNS
    assert [row[0] for row in table.rows] == ["10", "100", "1000", "not clipped"]
    first = dict(zip(COLUMNS, table.rows[0], strict=True))
    assert (first["entropy"], first["sink rate"], first["norm ratio"]) == ("0.690", "0.000", "1.500")
    assert [row[-1] for row in table.rows] == ["+0.250 [+0.250, +0.250]"] * 2 + ["+0.000 [+0.000, +0.000]", "3.100"]


def test_one_sentence_says_it(section, tmp_path):
    (said,) = section.sentences
    assert said == (
        "Clamped to 10, normalized entropy goes 0.107 -> 0.690, the sink rate 0.500 -> 0.000 (on another token "
        "0.000 -> 0.000), the loss by +0.250 [+0.250, +0.250] nats; at 100 at most half of the compression is left"
    )
    assert section.headline == f"planted on words: {said}"
    assert section.facts == "gammas: 10, 100, 1000, states: 1-8, massive only: no"
    (kept,) = sections(with_clip(tmp_path / "kept", gammas=(10.0,)))
    assert kept.sentences[0].endswith("more than half of the compression stays at every gamma")
    (bare,) = sections(with_clip(tmp_path / "bare", massive=False))
    assert bare.sentences[0].endswith("there is no compress phase")
    assert bare.tables[0].title.endswith("(no compress phase)")


def test_massive_coordinates_alone_are_said_to_be(tmp_path):
    settings = {"gammas": [10.0], "states": "2", "massive_only": True}
    (section,) = sections(with_clip(tmp_path / "run", gammas=(10.0,), settings=settings))
    said = "massive coordinates (17, 42) of the massive row at states 2 clamped"
    assert said in section.tables[0].title


def test_it_has_a_figure(run, section):
    assert section.name.startswith("clip_planted")
    assert section.key == run.experiments("clip")[-1].header.key


def test_a_run_without_one_shows_nothing_of_it(tmp_path):
    assert sections(build_run(tmp_path / "run", (PLANTED,), ("words",))) == []

"""What the figure of a sweep of gamma shows, and what its tables say in words."""

import pytest
from tests.compared_run import with_clip

from thalweg.figures import (
    CLIP_COLUMNS,
    ablations_of,
    clip,
    clip_answers,
    clip_curves,
    clip_marks,
    clip_table,
    pairs,
    save_figures,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return with_clip(tmp_path_factory.mktemp("runs") / "run")


def latest(run):
    return ablations_of(run, pairs(run)[0], "clip", "curves")[-1]


def test_curves_are_over_the_compress_phase_with_the_model_as_it_is(run):
    rows = clip_curves(latest(run), pairs(run)[0])
    assert rows["quantity"].unique(maintain_order=True).to_list() == ["entropy_normalized", "sink_rate", "loss"]
    entropy = rows.filter(quantity="entropy_normalized")
    assert entropy["gamma"].to_list() == [10.0, 100.0, 1000.0]
    flat, valley = (2.05 + 0.02) / 3, (0.3 + 0.02) / 3
    assert entropy["mean"].to_list() == pytest.approx([flat, flat, valley])
    assert entropy["intact"].to_list() == pytest.approx([valley] * 3)
    assert (entropy["upper"] - entropy["mean"]).to_list() == pytest.approx([0.02 / 3] * 3)
    assert rows.filter(quantity="sink_rate")["mean"].to_list() == pytest.approx([0.0, 0.0, 0.5])
    assert rows.filter(quantity="loss")["mean"].to_list() == pytest.approx([3.35, 3.35, 3.1])


def test_what_the_row_is_made_of_is_marked(run, tmp_path):
    expected = {"largest ordinary coordinate": 8.0, "largest massive coordinate": 1000.0}
    assert clip_marks(latest(run), pairs(run)[0]) == expected
    bare = with_clip(tmp_path / "run", massive=False)
    assert clip_marks(latest(bare), pairs(bare)[0]) == {}


def test_the_figure_shows_curves_on_a_log_axis_the_level_and_the_marks(run):
    figure = clip(run, pairs(run)[0], latest(run))
    assert len(figure.axes) == 3
    for panel in figure.axes:
        assert panel.get_xscale() == "log"
        assert panel.get_xlabel() == "gamma [activation units]"
        named = {line.get_label(): list(line.get_xdata()) for line in panel.get_lines()}
        assert named["clipped"] == [10.0, 100.0, 1000.0]
        assert named["largest ordinary coordinate"] == [8.0, 8.0]
        assert named["largest massive coordinate"] == [1000.0, 1000.0]
        assert "not clipped" in named
    assert [panel.get_ylabel() for panel in figure.axes] == ["[share of ln r]", "[share of heads]", "[nats]"]


def test_the_table_ends_with_the_model_as_it_is(run):
    [(title, rows)] = clip_table(latest(run))
    assert title == (
        "lab/planted on words: the sink token's row at states 1-8 clamped to gamma; means over the compress phase, "
        "states 2-7"
    )
    assert [row[0] for row in rows] == ["10", "100", "1000", "not clipped"]
    first = dict(zip(CLIP_COLUMNS, rows[0], strict=True))
    assert (first["entropy"], first["sink rate"], first["norm ratio"]) == ("0.690", "0.000", "1.500")
    assert [row[-1] for row in rows] == ["+0.250 [+0.250, +0.250]"] * 2 + ["+0.000 [+0.000, +0.000]", "3.100"]


def test_one_sentence_says_it(run, tmp_path):
    [said] = clip_answers(latest(run))
    assert said == (
        "Clamped to 10, normalized entropy goes 0.107 -> 0.690, the sink rate 0.500 -> 0.000, the loss by +0.250 "
        "[+0.250, +0.250] nats; at 100 at most half of the compression is left"
    )
    kept = with_clip(tmp_path / "kept", gammas=(10.0,))
    assert clip_answers(latest(kept))[0].endswith("more than half of the compression stays at every gamma")
    bare = with_clip(tmp_path / "bare", massive=False)
    assert clip_answers(latest(bare))[0].endswith("there is no compress phase")
    assert clip_table(latest(bare))[0][0].endswith("(no compress phase)")
    clip(bare, pairs(bare)[0], latest(bare))


def test_massive_coordinates_alone_are_said_to_be(tmp_path):
    settings = {"gammas": [10.0], "states": "2", "massive_only": True}
    run = with_clip(tmp_path / "run", gammas=(10.0,), settings=settings)
    title = clip_table(latest(run))[0][0]
    assert "massive coordinates (17, 42) of the sink token's row at states 2 clamped" in title


def test_saved_figures_include_it(tmp_path):
    saved = [file.name for file in save_figures(with_clip(tmp_path / "run"))]
    assert len(saved) == 2
    assert all(name.startswith("clip_lab-planted") for name in saved)

"""What the figure of an ablation shows, and what its tables say in words."""

import pytest
from tests.compared_run import CONDITIONS, FLAT, VALLEY, with_ablation

from thalweg.figures import (
    ABLATION_COLUMNS,
    ablation,
    ablation_answers,
    ablation_curves,
    ablation_table,
    ablations_of,
    condition_looks,
    pairs,
    save_figures,
)
from thalweg.figures._ablated import change_of_loss, number


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return with_ablation(tmp_path_factory.mktemp("runs") / "run")


def latest(run):
    return ablations_of(run, pairs(run)[0])[-1]


def test_every_condition_has_a_whole_curve_in_the_order_planned(run):
    rows = ablation_curves(latest(run), pairs(run)[0], ("entropy_normalized", "sink_rate"))
    assert rows.group_by("condition", "seed", "metric").len()["len"].unique().sort().to_list() == [8, 9]
    names = rows.select("series", "role").unique(maintain_order=True).rows()
    assert names == [
        ("intact", "intact"),
        ("without the MLP of block 1", "alone"),
        ("without the MLP of block 3", "alone"),
        ("without the MLPs of blocks 1, 3", "ablated"),
        ("nothing removed", "negative"),
        ("other position", "negative"),
        ("sink's row rescaled", "positive"),
        ("sink's row emptied", "positive"),
    ]
    for condition, expected in (("intact", VALLEY), ("blocks 1,3", FLAT)):
        own = rows.filter(condition=condition, metric="entropy_normalized").sort("index")
        assert own["mean"].to_list() == pytest.approx([(value + 0.02) / 3 for value in expected])
        assert (own["upper"] - own["mean"]).to_list() == pytest.approx([0.02 / 3] * 9)  # of 0, 0.02 and 0.04 thirds
        assert (own["mean"] - own["lower"]).to_list() == pytest.approx([0.02 / 3] * 9)


def test_looks_tell_controls_from_what_is_compared(run):
    looks = condition_looks(ablation_curves(latest(run), pairs(run)[0], ("sink_rate",)))
    assert len({(look.color, look.linestyle) for look in looks.values()}) == len(looks)
    solid = {name for name, look in looks.items() if look.linestyle == "-"}
    assert solid == {name for name in looks if name.startswith(("intact", "without"))}
    assert looks["intact"].width > looks["nothing removed"].width


def test_the_figure_shows_three_panels_with_every_condition_and_the_phase(run):
    figure = ablation(run, pairs(run)[0], latest(run))
    assert [panel.get_xlabel() for panel in figure.axes] == ["state", "block", "state"]
    ran = [one for one in CONDITIONS if one[4] is not None]
    for panel, rest in zip(figure.axes, (0, 0, len(ran)), strict=True):
        assert len(panel.get_lines()) == len(ran) + rest
        assert panel.get_ylabel().startswith("[")
        spans = [patch for patch in panel.patches if patch.get_label() == "compress phase"]
        assert [(span.get_x(), span.get_x() + span.get_width()) for span in spans] == [(1.5, 7.5)]
    assert figure.axes[2].get_yscale() == "log"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(legend) == len(set(legend)) == 9
    assert "Without the MLPs of blocks 1, 3 at the sink token, compression is removed" in " ".join(
        figure.get_suptitle().split()
    )


def test_the_table_has_a_row_for_every_condition_that_ran(run):
    [(title, rows)] = ablation_table(latest(run))
    assert title == "lab/planted on words: means over the compress phase, states 2-7"
    table = {row[0]: dict(zip(ABLATION_COLUMNS, row, strict=True)) for row in rows}
    assert list(table) == [
        "intact",
        "without the MLP of block 1",
        "without the MLP of block 3",
        "without the MLPs of blocks 1, 3",
        "nothing removed",
        "other position, draw 0",
        "other position, draw 1",
        "sink's row rescaled",
        "sink's row emptied",
    ]
    whole, intact = table["without the MLPs of blocks 1, 3"], table["intact"]
    assert (whole["compression"], whole["sinks"]) == ("removed", "removed")
    assert (intact["entropy"], whole["entropy"]) == ("0.107", "0.107 -> 0.690")
    assert (whole["sink rate"], whole["norm ratio"]) == ("0.500 -> 0.000", "100 -> 1.500")
    assert (intact["next-token loss"], whole["next-token loss"]) == ("3.100", "+0.250 [+0.250, +0.250]")
    assert (table["sink's row rescaled"]["compression"], table["sink's row rescaled"]["sinks"]) == (
        "removed",
        "unchanged",
    )


def test_sentences_say_the_verdict_its_cost_and_whether_controls_agree(run):
    [said] = ablation_answers(latest(run))
    assert len(said) == 6
    assert said[1] == (
        "Without the MLP of block 3 at the sink token, compression is unchanged (0.849 -> 0.849), and position 0 is "
        "still massive at states 2-7; the sinks are unchanged (0.500 -> 0.500); the next-token loss changes by +0.000 "
        "[+0.000, +0.000] nats"
    )
    assert said[2].startswith("Without the MLPs of blocks 1, 3 at the sink token, compression is removed (0.849 -> ")
    cost = "the next-token loss changes by +0.250 [+0.250, +0.250] nats"
    assert said[2].endswith(f"the sinks are removed (0.500 -> 0.000); {cost}")
    assert said[3] == "Negative controls that leave both, as they must: 3 of 3"
    assert said[4].startswith("Positive controls that remove both, as they must: 1 of 2; sink's row rescaled: sinks")
    assert said[4].endswith("its direction is still there, and norms take lengths away")
    assert said[5] == "The control 'other blocks' is not run: no other blocks of 2 to draw"


def test_without_a_massive_state_there_is_no_verdict_and_it_is_said(tmp_path):
    run = with_ablation(tmp_path / "run", massive=False)
    [(title, rows)] = ablation_table(latest(run))
    assert title.endswith("means over all blocks and the states after them (no compress phase)")
    assert rows[1][1:3] == ["-", "-"]
    [said] = ablation_answers(latest(run))
    reason = "no massive state: no compress phase"
    assert said[0].startswith(f"Without the MLP of block 1 at the sink token: no verdict ({reason})")
    assert not any("controls that" in one for one in said)
    figure = ablation(run, pairs(run)[0], latest(run))
    assert not [one for panel in figure.axes for one in panel.patches if one.get_label() == "compress phase"]


def test_saved_figures_include_every_setting(tmp_path):
    with_ablation(tmp_path / "run", settings={"blocks": "1"})
    run = with_ablation(tmp_path / "run")
    saved = [file.name for file in save_figures(run)]
    first, latest_ = (one.header.key for one in run.experiments("ablation"))
    assert len(saved) == 4
    assert all(name.startswith("ablation_lab-planted") for name in saved)
    assert [first in name for name in saved] == [True, True, False, False]
    assert not any(latest_ in name for name in saved)  # the latest has the plain name


def test_numbers_as_words():
    assert [number(value) for value in (0.0, 0.5, 12.0, 177.3, 1e-5, float("nan"), None)] == [
        "0.000",
        "0.500",
        "12.000",
        "177",
        "1e-05",
        "-",
        "-",
    ]
    assert change_of_loss(-0.0001, -0.0002, 0.0) == "+0.000 [+0.000, +0.000]"
    assert change_of_loss(-1.5, float("nan"), float("nan")) == "-1.500"
    assert change_of_loss(float("nan"), 0.0, 0.0) == "-"

"""What is shown of an ablation: every condition through depth, and what its tables say in words."""

import pytest
from tests.compared_run import CONDITIONS, FLAT, VALLEY, with_ablation
from tests.synthetic_run import PLANTED, build_run

from thalweg.experiments._ablate.view import COLUMNS, chapters
from thalweg.shown import Span


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return with_ablation(tmp_path_factory.mktemp("runs") / "run")


def sections(run):
    (chapter,) = chapters(run)
    assert (chapter.title, chapter.anchor) == ("Ablation", "ablation")
    return chapter.sections


@pytest.fixture(scope="module")
def section(run):
    (section,) = sections(run)
    return section


def lines_of(section, place):
    """The lines of one panel, the other tokens left out."""
    return [line for line in section.panels[place].lines if not line.name.endswith(", others")]


def test_every_condition_has_a_whole_curve_and_controls_lie_on_top(section):
    entropy, rate = lines_of(section, 0), lines_of(section, 1)
    assert {line.rows.height for line in entropy} == {9}
    assert {line.rows.height for line in rate} == {8}
    assert list(dict.fromkeys(line.name for line in entropy)) == [
        "intact",
        "without the MLPs of blocks 1, 3",
        "without the MLP of block 1",
        "without the MLP of block 3",
        "nothing removed",
        "other position",
        "sink's row rescaled",
        "sink's row emptied",
    ]
    for name, expected in (("intact", VALLEY), ("without the MLPs of blocks 1, 3", FLAT)):
        (rows,) = [line.rows for line in entropy if line.name == name]
        assert rows["at"].to_list() == list(range(9))
        assert rows["mean"].to_list() == pytest.approx([(value + 0.02) / 3 for value in expected])
        assert (rows["upper"] - rows["mean"]).to_list() == pytest.approx([0.02 / 3] * 9)  # of 0, 0.02 and 0.04 thirds
        assert (rows["mean"] - rows["lower"]).to_list() == pytest.approx([0.02 / 3] * 9)


def test_looks_tell_controls_from_what_is_compared(section):
    looks = {line.name: (line.color, line.dash) for line in lines_of(section, 1)}
    assert len(set(looks.values())) == len(looks)
    solid = {name for name, (_, dash) in looks.items() if dash == "-"}
    assert solid == {name for name in looks if name.startswith(("intact", "without"))}
    widths = {line.name: line.width for line in lines_of(section, 1)}
    assert widths["intact"] == widths["without the MLPs of blocks 1, 3"] > widths["nothing removed"]
    assert {line.name for line in lines_of(section, 1) if line.band} == {"intact", "without the MLPs of blocks 1, 3"}


def test_three_panels_show_every_condition_and_the_phase(section):
    assert [panel.x for panel in section.panels] == ["state", "block", "state"]
    ran = [condition for condition in CONDITIONS if condition[4] is not None]
    for panel, rest in zip(section.panels, (0, 0, len(ran)), strict=True):
        assert len(panel.lines) == len(ran) + rest
        assert panel.y.startswith("[")
        assert panel.spans == (Span("compress phase", 2, 7),)
        named = [line.name for line in panel.lines if line.named]
        assert len(named) == len(set(named)) == 8  # one for all draws of a control, none for the other tokens
        assert not any(name.endswith(", others") for name in named)
    assert [panel.log_y for panel in section.panels] == [False, False, True]
    assert [panel.share for panel in section.panels] == [True, True, False]
    assert section.legend == "shared"
    assert "Without the MLPs of blocks 1, 3 at the sink token, compression is removed" in section.headline


def test_the_other_tokens_are_shown_and_hidden_with_their_condition(section):
    others = [line for line in section.panels[2].lines if line.name.endswith(", others")]
    assert {line.name for line in others} == {f"{line.group}, others" for line in others}
    assert {line.group for line in others} == {line.name for line in lines_of(section, 2)}
    assert {tuple(line.rows["mean"]) for line in others} == {(10.0,) * 9}


def test_the_table_has_a_row_for_every_condition_that_ran(section):
    (shown,) = section.tables
    assert shown.title == "planted on words: means over the compress phase, states 2-7"
    assert shown.folded == "Every condition"
    assert shown.columns == COLUMNS
    table = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in shown.rows}
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


def test_sentences_say_the_verdict_its_cost_and_whether_controls_agree(section):
    said = section.sentences
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
    assert section.facts == "blocks: auto"


def test_without_a_massive_state_there_is_no_verdict_and_it_is_said(tmp_path):
    (section,) = sections(with_ablation(tmp_path / "run", massive=False))
    (table,) = section.tables
    assert table.title.endswith("means over all blocks and the states after them (no compress phase)")
    assert table.rows[1][1:3] == ["-", "-"]
    reason = "no massive state: no compress phase"
    assert section.sentences[0].startswith(f"Without the MLP of block 1 at the sink token: no verdict ({reason})")
    assert not any("controls that" in said for said in section.sentences)
    assert not any(panel.spans for panel in section.panels)


def test_what_is_measured_and_not_judged_yet_is_said_to_be(tmp_path):
    run = with_ablation(tmp_path / "run")
    (experiment,) = run.experiments("ablation")
    (experiment.directory / "verdicts.parquet").unlink()
    (section,) = sections(run)
    assert section.headline == "planted on words: not judged yet"
    assert section.sentences == ["The control 'other blocks' is not run: no other blocks of 2 to draw"]


def test_every_setting_has_a_figure_and_the_latest_the_plain_name(tmp_path):
    with_ablation(tmp_path / "run", settings={"blocks": "1"})
    run = with_ablation(tmp_path / "run")
    first, latest = (experiment.header.key for experiment in run.experiments("ablation"))
    shown = sections(run)
    assert [section.key for section in shown] == [latest, first]
    plain, keyed = (section.name for section in shown)
    assert plain.startswith("ablation_lab-planted")
    assert keyed == f"{plain}_{first}"
    assert not any(section.only for section in shown)
    assert [section.facts for section in shown] == ["blocks: auto", "blocks: 1"]


def test_of_several_data_sets_each_has_its_own(tmp_path):
    first, second = sections(with_ablation(tmp_path / "run", data=("words", "sums")))
    assert (first.title, second.title) == ("planted on words", "planted on sums")
    assert "_words-" in first.name
    assert "_sums-" in second.name
    assert first.tables[0].rows == second.tables[0].rows


def test_a_run_without_one_shows_nothing_of_it(tmp_path):
    assert sections(build_run(tmp_path / "run", (PLANTED,), ("words",))) == []

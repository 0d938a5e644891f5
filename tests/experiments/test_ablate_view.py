"""What is shown of an ablation: every condition through depth, and what its tables say in words."""

import pytest
from tests.compared_run import CONDITIONS, FLAT, VALLEY, with_ablation
from tests.synthetic_run import PLANTED, add_findings, build_run

from thalweg.experiments._ablate.view import COLUMNS, chapters
from thalweg.experiments._ablate.words import Condition, Judged, control_sentences, phrase
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
        "compress's row rescaled",
        "compress's row emptied",
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
    ran = [condition for condition in CONDITIONS if condition[5] is not None]
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
    assert "Without the MLPs of blocks 1, 3, compress (states 2-7): compression removed" in section.headline


def test_the_other_tokens_are_shown_and_hidden_with_their_condition(section):
    others = [line for line in section.panels[2].lines if line.name.endswith(", others")]
    assert {line.name for line in others} == {f"{line.group}, others" for line in others}
    assert {line.group for line in others} == {line.name for line in lines_of(section, 2)}
    assert {tuple(line.rows["mean"]) for line in others} == {(10.0,) * 9}


def test_the_table_has_a_row_for_every_condition_that_ran(section):
    (shown,) = section.tables
    assert shown.title == "planted on words: means over the states and blocks of each segment"
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
        "compress's row rescaled",
        "compress's row emptied",
    ]
    whole, intact = table["without the MLPs of blocks 1, 3"], table["intact"]
    assert {row["segment"] for row in table.values()} == {"compress"}
    assert (whole["compression"], whole["C"]) == ("removed", ".84 -> .00")
    assert (whole["sinks"], whole["at its row"], whole["anywhere"]) == ("removed", ".50 -> .00", ".50 -> .00")
    assert (intact["compression"], intact["C"], intact["at its row"], intact["anywhere"]) == ("", ".84", ".50", ".50")
    assert (intact["entropy"], whole["entropy"]) == ("0.107", "0.107 -> 0.690")
    assert whole["norm ratio"] == "100 -> 1.500"
    assert (intact["next-token loss"], whole["next-token loss"]) == ("3.100", "+0.250 [+0.250, +0.250]")
    rescaled = table["compress's row rescaled"]
    assert (rescaled["compression"], rescaled["sinks"]) == ("removed", "unchanged")


def test_sentences_say_the_verdict_its_cost_and_whether_controls_agree(section):
    said = section.sentences
    assert len(said) == 6
    assert said[1] == (
        "Without the MLP of block 3, compress (states 4-7): compression unchanged (C .84 -> .84), sinks unchanged "
        "(.50 -> .50; anywhere .50 -> .50), position 0 is still massive at states 4 to 7; no other row becomes "
        "massive; the next-token loss changes by +0.000 [+0.000, +0.000] nats"
    )
    assert said[2] == (
        "Without the MLPs of blocks 1, 3, compress (states 2-7): compression removed (C .84 -> .00), sinks removed "
        "(.50 -> .00; anywhere .50 -> .00: gone); no other row becomes massive; the next-token loss changes by +0.250 "
        "[+0.250, +0.250] nats"
    )
    assert said[3] == "Negative controls that leave what they must: 3 of 3"
    assert said[4] == "Positive controls that remove what they must: 2 of 2"  # rescaled rows may go on as sinks
    assert said[5] == 'The control "other blocks at compress\'s row" is not run: no other blocks of 2 to draw'
    assert section.facts == "blocks: auto"


def with_changed(path, **effects):
    """The same with other effects, by condition."""
    changed = [
        (*row[:5], effects.get(row[0].replace(" ", "_").replace(",", "_"), row[5]), row[6]) for row in CONDITIONS
    ]
    (section,) = sections(with_ablation(path, conditions=changed))
    return section.sentences


def test_a_row_that_takes_over_is_named_and_is_a_finding_about_the_model(tmp_path):
    said = with_changed(tmp_path / "run", blocks_1_3="taken", emptied_compress="taken")
    taken = "another row becomes massive at states 3 to 7 (ratio 67.0, position 4, ' the')"
    assert said[2] == (
        "Without the MLPs of blocks 1, 3, compress (states 2-7): compression unchanged (C .84 -> .84), sinks removed "
        f"(.50 -> .00; anywhere .50 -> .50: moved); {taken}; the next-token loss changes by +0.250 [+0.250, +0.250] "
        "nats"
    )
    assert said[4] == (
        "Positive controls that remove what they must: 1 of 2; in 1 another row takes over, which is a finding about "
        "the model"
    )
    assert said[5] == f"Compress's row emptied: compression unchanged (C .84 -> .84); {taken}"


def test_controls_that_do_what_they_must_not_are_named(tmp_path):
    said = with_changed(tmp_path / "run", nothing=False, rescaled_compress=True)
    assert said[3:7] == [
        "Negative controls that leave what they must: 2 of 3",
        "Nothing removed: compression removed (C .84 -> .00), sinks removed (.50 -> .00; anywhere .50 -> .00: gone)",
        "Positive controls that remove what they must: 1 of 2",
        "Compress's row rescaled: compression unchanged (C .84 -> .84); no other row becomes massive",
    ]


def row(**changes):
    """One verdict on sinks."""
    told = {"segment": "compress", "phenomenon": "sinks", "verdict": "reduced", "first": 12, "last": 28, "reason": None}
    numbers = {"intact": 0.86, "ablated": 0.04, "anywhere_intact": 0.88, "anywhere_ablated": 0.05, "moved": False}
    return {**told, **numbers, "gone_from": 13, "before_intact": 0.78, "before_ablated": 0.55, **changes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            "sinks reduced (.86 -> .04: gone from block 13 on, block 12 still .55 of .78; anywhere .88 -> .05)",
        ),
        (
            {"gone_from": 15, "moved": True},
            "sinks reduced (.86 -> .04: moved from block 15 on, blocks 12-14 still .55 of .78; anywhere .88 -> .05)",
        ),
        (
            {"verdict": "removed", "gone_from": 12, "moved": True, "ablated": 0.0, "anywhere_ablated": 0.14},
            "sinks removed (.86 -> .00; anywhere .88 -> .14: moved)",
        ),
        (
            {"verdict": "increased", "gone_from": None, "moved": None},
            "sinks increased (.86 -> .04; anywhere .88 -> .05)",
        ),
        ({"verdict": "nothing to remove", "intact": 0.07}, "sinks nothing to remove (.07)"),
        ({"verdict": "cannot be told", "reason": "no prompt"}, "sinks cannot be told: no prompt"),
        (
            {"phenomenon": "compression", "verdict": "removed", "gone_from": 12, "intact": 0.91},
            "compression removed (C .91 -> .04)",
        ),
        (
            {"phenomenon": "compression", "verdict": "nothing to remove", "intact": 0.18},
            "compression nothing to remove (C .18)",
        ),
    ],
)
def test_every_verdict_in_words(changes, said):
    assert phrase(row(**changes)) == said


def test_without_a_massive_state_there_is_no_verdict_and_it_is_said(tmp_path):
    (section,) = sections(with_ablation(tmp_path / "run", massive=False))
    (table,) = section.tables
    assert {line[1] for line in table.rows} == {""}
    assert table.rows[1][2:4] == ["cannot be told", "-"]
    reason = "no massive state: no compress phase, no wave"
    assert section.sentences[0].startswith(f"Without the MLP of block 1, cannot be told: {reason}")
    assert not any("controls that" in said for said in section.sentences)
    assert not any(panel.spans for panel in section.panels)


def test_what_is_measured_and_not_judged_yet_is_said_to_be(tmp_path):
    run = with_ablation(tmp_path / "run")
    with add_findings(run.path, run.header, "ablation", {"blocks": "auto"}) as writer:
        writer.update(status="interrupted")
    (experiment,) = run.experiments("ablation")
    (experiment.directory / "verdicts.parquet").unlink()
    (section,) = sections(run)
    assert section.headline == "planted on words: not judged yet"
    assert section.sentences == [
        'The control "other blocks at compress\'s row" is not run: no other blocks of 2 to draw'
    ]


def test_every_setting_has_a_figure_and_the_latest_the_plain_name(tmp_path):
    with_ablation(tmp_path / "run", settings={"blocks": "1"})
    run = with_ablation(tmp_path / "run")
    first, latest = (experiment.header.key for experiment in run.experiments("ablation"))
    shown = sections(run)
    assert [section.key for section in shown] == [latest, first]
    plain, keyed = (section.name for section in shown)
    assert plain.startswith("ablation_planted")
    assert keyed == f"{plain}_{first}"
    assert not any(section.only for section in shown)
    assert [section.facts for section in shown] == ["blocks: auto", "blocks: 1"]


def test_of_several_data_sets_each_has_its_own(tmp_path):
    first, second = sections(with_ablation(tmp_path / "run", data=("words", "sums")))
    assert (first.title, second.title) == ("planted on words", "planted on sums")
    assert first.name.endswith("_words")
    assert second.name.endswith("_sums")
    assert first.tables[0].rows == second.tables[0].rows


def test_a_run_without_one_shows_nothing_of_it(tmp_path):
    assert sections(build_run(tmp_path / "run", (PLANTED,), ("words",))) == []


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (("nothing to remove", "removed"), ["1 of 1"]),
        (("nothing to remove", "nothing to remove"), []),
        (("cannot be told", "removed"), ["0 of 1", "cannot be told"]),  # NaN is no pass
        (("reduced", "removed"), ["0 of 1", "reduced"]),
    ],
)
def test_a_control_is_asked_where_there_is_something_to_remove(verdicts, said):
    condition = Condition("emptied wave", "wave's row emptied", "positive", None, "wave", "", None)
    own = {
        name: row(segment="wave", phenomenon=name, verdict=verdict, gone_from=None)
        for name, verdict in zip(("compression", "sinks"), verdicts, strict=True)
    }
    judged = Judged(condition, {"wave": own}, {"other_states": [], "other_prompts": 0.0}, {})
    found = list(control_sentences([judged]))
    assert [words in sentence for words, sentence in zip(said, found, strict=True)] == [True] * len(said)

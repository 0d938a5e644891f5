"""What is shown of multiple choice: its lines, and what its sentences and tables say."""

import math

import pytest
from tests.scored_run import ERROR, FLAT, RISING, grouped, row, undefined, with_mcq
from tests.synthetic_run import PLANTED, build_run
from tests.viewed import levels, means, sections, spans

from thalweg.experiments._mcq import view


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    build_run(path, (PLANTED,), ("words",))
    return with_mcq(path)


@pytest.fixture(scope="module")
def section(run):
    (section,) = sections(view, run)
    return section


def test_curves_are_scores_with_lm_evals_errors_in_its_order(section):
    assert [panel.title for panel in section.panels] == ["rising", "level"]
    (rows,) = (line.rows for line in section.panels[0].lines if line.name == "acc")
    assert rows["mean"].to_list() == list(RISING)
    assert rows["at"].to_list() == list(range(9))
    assert (rows["upper"] - rows["mean"]).to_list() == pytest.approx([1.96 * ERROR] * 9, abs=1e-5)
    assert (rows["mean"] - rows["lower"]).to_list() == pytest.approx([1.96 * ERROR] * 9, abs=1e-5)


def test_every_task_has_a_panel_with_chance_and_the_phase(section):
    rising, level = section.panels
    assert means(rising) == {"acc": list(RISING), "acc_norm": list(FLAT)}
    assert list(means(level)) == ["acc"]
    assert len({line.color for line in rising.lines}) == 2
    for panel in (rising, level):
        assert levels(panel) == {"chance": 0.25}
        assert [rule.dash for rule in panel.rules] == ["--"]
        assert spans(panel) == {"compress phase": (2, 7)}
        assert panel.x == "state"
        assert panel.y == "accuracy [share of questions]"
        assert all(line.band and line.named for line in panel.lines)
    assert (section.legend, section.columns, section.size) == ("shared", 4, (3.6, 3.2))


def test_a_section_says_of_what_it_is(run, section):
    (findings,) = run.experiments("mcq")
    assert (section.title, section.key) == ("planted", findings.header.key)
    assert section.headline == f"planted: {section.facts}"
    (chapter,) = view.chapters(run)
    assert (chapter.title, chapter.anchor) == ("Multiple choice", "mcq")
    assert chapter.note.endswith("Dashed: chance.")


def test_a_sentence_says_where_it_is_best_and_from_where_it_beats_chance(section, tmp_path):
    rising, level = section.sentences
    assert rising == (
        "rising: acc 0.500 [0.461, 0.539] at the last state, 8; best at state 7 (88% of depth) with 0.550 [0.511, "
        "0.589]; above chance (0.250) from state 5 on (62% of depth), inside the compress phase (states 2 to 7)"
    )
    assert level == (
        "level: acc 0.250 [0.211, 0.289] at the last state, 8; best at state 2 (25% of depth) with 0.260 [0.221, 0.299]"
        "; the last state does not lie above chance (0.250) with its whole interval"
    )
    (alone,) = sections(view, with_mcq(tmp_path / "alone", [row("high", state, "acc", 0.9) for state in range(9)]))
    assert alone.sentences == [
        "high: acc 0.900 [0.861, 0.939] at the last state, 8; best at state 0 (0% of depth) with 0.900 [0.861, 0.939]; "
        "above chance (0.250) at every state"
    ]


def test_tables_have_every_metric_with_its_error(section):
    first, second = section.tables
    assert first.title == f"{PLANTED.name} on rising, 400 questions; chance 0.250"
    assert second.title == f"{PLANTED.name} on level, 400 questions; chance 0.250"
    assert first.columns == ("state", "depth", "acc", "acc_norm")
    assert first.rows[7] == [7, "88%", "0.550 ± 0.020", "0.250 ± 0.020"]
    assert first.folded == "rising: scores by state, with lm-eval's standard errors"
    assert section.facts == (
        "logit lens; rising 0-shot, 400 questions; level 0-shot, 400 questions; scored by lm-eval 0.4.13"
    )


def test_many_tasks_are_shown_by_their_group(tmp_path):
    (section,) = sections(view, with_mcq(tmp_path / "run", grouped()))
    (panel,) = section.panels
    assert len(section.sentences) == 1
    assert spans(panel) == {}
    assert section.size == (6.4, 3.2)


def test_what_is_undefined_is_a_gap_and_no_chance_is_drawn(tmp_path):
    run = with_mcq(tmp_path / "run", undefined(), settings={"lens": "tuned", "final_norm": None})
    (section,) = sections(view, run)
    (panel,) = section.panels
    (line,) = panel.lines
    assert [math.isnan(value) for value in line.rows["mean"]] == [False] * 7 + [True] * 2
    assert levels(panel) == {}
    assert section.tables[0].rows[8][2] == "-"
    assert section.facts.startswith("tuned lens; odd 0-shot, 400 questions")
    assert section.sentences == [
        "odd: acc undefined at the last state, 8; best at state 0 (0% of depth) with 0.300 [0.261, 0.339]"
    ]


def test_each_lens_has_a_figure_and_the_latest_of_several_settings_the_plain_name(tmp_path):
    with_mcq(tmp_path / "run")
    with_mcq(tmp_path / "run", settings={"lens": "tuned"})
    run = with_mcq(tmp_path / "run", settings={"limit": 3})
    latest, tuned, first = sections(view, run)
    assert latest.name.startswith("mcq_planted")
    assert tuned.name == f"{latest.name}_tuned"
    assert first.name == f"{latest.name}_{first.key}"


def test_a_run_without_it_has_no_section(tmp_path):
    assert sections(view, build_run(tmp_path, (PLANTED,), ("words",))) == []

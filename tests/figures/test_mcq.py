"""What the figure of multiple choice shows, and what its tables say in words."""

import math

import pytest
from tests.scored_run import ERROR, FLAT, RISING, grouped, row, undefined, with_mcq
from tests.synthetic_run import PLANTED, build_run

from thalweg.figures import mcq, mcq_answers, mcq_curves, mcq_facts, mcq_tables, mcqs_of, save_figures


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    build_run(path, (PLANTED,), ("words",))
    return with_mcq(path)


def test_curves_are_scores_with_lm_evals_errors_in_its_order(run):
    rows = mcq_curves(mcqs_of(run)[0])
    assert rows["task"].unique(maintain_order=True).to_list() == ["rising", "level"]
    own = rows.filter(task="rising", metric="acc")
    assert own["mean"].to_list() == list(RISING)
    assert own["index"].to_list() == list(range(9))
    assert own["depth"].to_list() == [state / 8 for state in range(9)]
    assert (own["upper"] - own["mean"]).to_list() == pytest.approx([1.96 * ERROR] * 9, abs=1e-5)
    assert (own["mean"] - own["lower"]).to_list() == pytest.approx([1.96 * ERROR] * 9, abs=1e-5)


def test_every_task_has_a_panel_with_chance_and_the_phase(run):
    figure = mcq(run, mcqs_of(run)[0])
    rising, level = figure.axes
    assert [panel.get_title(loc="left") or panel.get_title() for panel in (rising, level)] == ["rising", "level"]
    lines = {line.get_label(): list(line.get_ydata()) for line in rising.get_lines()}
    assert lines == {"acc": list(RISING), "acc_norm": list(FLAT), "chance": [0.25, 0.25]}
    assert [line.get_label() for line in level.get_lines()] == ["acc", "chance"]
    for panel in (rising, level):
        assert "compress phase" in panel.get_legend_handles_labels()[1]
        assert panel.get_xlabel() == "state"
        assert panel.get_ylabel() == "accuracy [share of questions]"
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["compress phase", "acc", "acc_norm", "chance"]


def test_a_sentence_says_where_it_is_best_and_from_where_it_beats_chance(run, tmp_path):
    rising, level = mcq_answers(run, mcqs_of(run)[0])
    assert rising == (
        "rising: acc 0.500 [0.461, 0.539] at the last state, 8; best at state 7 (88% of depth) with 0.550 [0.511, "
        "0.589]; above chance (0.250) from state 5 on (62% of depth), inside the compress phase (states 2 to 7)"
    )
    assert level == (
        "level: acc 0.250 [0.211, 0.289] at the last state, 8; best at state 2 (25% of depth) with 0.260 [0.221, 0.299]"
        "; the last state does not lie above chance (0.250) with its whole interval"
    )
    alone = with_mcq(tmp_path / "alone", [row("high", state, "acc", 0.9) for state in range(9)])
    assert mcq_answers(alone, mcqs_of(alone)[0]) == [
        "high: acc 0.900 [0.861, 0.939] at the last state, 8; best at state 0 (0% of depth) with 0.900 [0.861, 0.939]; "
        "above chance (0.250) at every state"
    ]


def test_tables_have_every_metric_with_its_error(run):
    (first, columns, rows), (second, _, _) = mcq_tables(mcqs_of(run)[0])
    assert first == f"{PLANTED.name} on rising, 400 questions; chance 0.250"
    assert second == f"{PLANTED.name} on level, 400 questions; chance 0.250"
    assert columns == ("state", "depth", "acc", "acc_norm")
    assert rows[7] == [7, "88%", "0.550 ± 0.020", "0.250 ± 0.020"]
    assert mcq_facts(mcqs_of(run)[0]) == (
        "logit lens; rising 0-shot, 400 questions; level 0-shot, 400 questions; scored by lm-eval 0.4.13"
    )


def test_many_tasks_are_shown_by_their_group(tmp_path):
    run = with_mcq(tmp_path / "run", grouped())
    figure = mcq(run, mcqs_of(run)[0])
    assert len(figure.axes) == 1
    assert len(mcq_answers(run, mcqs_of(run)[0])) == 1
    assert "compress phase" not in figure.axes[0].get_legend_handles_labels()[1]


def test_what_is_undefined_is_a_gap_and_no_chance_is_drawn(tmp_path):
    run = with_mcq(tmp_path / "run", undefined(), settings={"lens": "tuned", "final_norm": None})
    (panel,) = mcq(run, mcqs_of(run)[0]).axes
    (line,) = panel.get_lines()
    assert [math.isnan(value) for value in line.get_ydata()] == [False] * 7 + [True] * 2
    assert mcq_tables(mcqs_of(run)[0])[0][2][8][2] == "-"
    assert mcq_facts(mcqs_of(run)[0]).startswith("tuned lens; odd 0-shot, 400 questions")
    assert mcq_answers(run, mcqs_of(run)[0]) == [
        "odd: acc undefined at the last state, 8; best at state 0 (0% of depth) with 0.300 [0.261, 0.339]"
    ]


def test_saved_figures_include_one_for_each_lens(tmp_path):
    with_mcq(tmp_path / "run")
    run = with_mcq(tmp_path / "run", settings={"lens": "tuned"})
    names = sorted(file.name for file in save_figures(run) if file.name.startswith("mcq_"))
    assert len(names) == 4
    assert sum("_tuned" in name for name in names) == 2

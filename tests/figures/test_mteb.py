"""What the figure of MTEB shows, and what its table and its sentence say."""

import pytest
from tests.advised import with_mteb
from tests.synthetic_run import PLANTED, build_run

from thalweg.figures import mteb, mteb_answer, mteb_facts, mteb_table, mtebs_of, save_figures, state_ranges
from thalweg.store import open_run

HILL = [0.30, 0.40, 0.50, 0.60, 0.70, 0.65, 0.60, 0.50, 0.45]
SCORES = {
    "STS12": HILL,
    "STS13": [score + 0.01 + 0.001 * (-1) ** state for state, score in enumerate(HILL)],
    "Banking77Classification": [score + 0.1 for score in HILL],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = build_run(tmp_path_factory.mktemp("runs") / "run", (PLANTED,), ("words",), prompts=4).path
    return open_run(with_mteb(path, SCORES))


def test_the_figure_shows_means_types_and_tasks_with_the_phase_shaded(run):
    figure = mteb(run, mtebs_of(run)[-1])
    means, single = figure.axes
    named = {line.get_label(): line for line in means.get_lines()}
    assert set(named) == {"all tasks", "STS", "Classification"}
    assert list(named["all tasks"].get_ydata()) == pytest.approx(
        [sum(own) / 3 for own in zip(*SCORES.values(), strict=True)]
    )
    assert {line.get_label() for line in single.get_lines()} == set(SCORES)
    for panel in (means, single):
        assert panel.get_xlabel() == "state"
        assert panel.patches[0].get_x() == 1.5
        assert panel.patches[0].get_width() == 6.0
    assert means.get_ylabel() == "mean main score [no unit]"


def test_the_interval_is_drawn_where_tasks_are_not_few(run, tmp_path):
    assert not mteb(run, mtebs_of(run)[-1]).axes[0].collections
    many = {f"task {row}": [score + 0.01 * row for score in HILL] for row in range(8)}
    with_many = open_run(with_mteb(tmp_path / "run", many))
    assert len(mteb(with_many, mtebs_of(with_many)[-1]).axes[0].collections) == 1


def test_the_sentence_says_what_is_best_how_sure_and_where(run):
    said = mteb_answer(run, mtebs_of(run)[-1])
    assert said.startswith("Best at state 4 of 8 (50% of depth): mean main score 0.737 [")
    assert "over 3 tasks; last state 0.487, 0.250 [0.250, 0.250] behind" in said
    assert "the tasks tell it from every other state" in said
    assert said.endswith("state 4 lies inside the compress phase (states 2 to 7)")


def test_the_table_has_a_row_a_state(run):
    columns, rows = mteb_table(mtebs_of(run)[-1])
    assert columns == ("state", "depth", "mean", "STS", "Classification", "behind the best", "95%", "tied")
    assert [row[0] for row in rows] == list(range(9))
    assert rows[4][-1] == "best"
    assert rows[3][-1] == "no"
    assert rows[4][3] == pytest.approx(0.7055)
    assert mteb_facts(mtebs_of(run)[-1]).startswith(
        "3 tasks (STS12, STS13, Banking77Classification); accuracy; mean over"
    )


def test_one_task_has_one_curve_and_no_claim(tmp_path):
    run = open_run(with_mteb(tmp_path / "run", {"STS12": HILL}))
    (experiment,) = mtebs_of(run)
    assert [line.get_label() for line in mteb(run, experiment).axes[0].get_lines()] == ["all tasks"]
    said = mteb_answer(run, experiment)
    assert "over 1 task; last state 0.450, 0.250 behind; one task alone does not tell which states are as good" in said
    assert "phase" not in said


def test_saved_figures_include_it_with_and_without_a_survey(run, tmp_path):
    assert [file.name for file in save_figures(run) if file.name.startswith("mteb_lab-planted")]
    alone = open_run(with_mteb(tmp_path / "run", {"STS12": HILL}))
    assert len(save_figures(alone)) == 2


@pytest.mark.parametrize(
    ("states", "said"), [([], ""), ([3], "3"), ([1, 2, 3], "1-3"), ([7, 2, 4, 3], "2-4, 7"), ([1, 3, 5], "1, 3, 5")]
)
def test_states_are_written_as_ranges(states, said):
    assert state_ranges(states) == said

"""What is shown of MTEB: its lines, and what its table and its sentence say."""

import pytest
from tests.advised import with_mteb
from tests.synthetic_run import PLANTED, build_run
from tests.viewed import means, sections, spans

from thalweg.experiments._mteb import view
from thalweg.shown import INK, PALETTE
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


@pytest.fixture(scope="module")
def section(run):
    (section,) = sections(view, run)
    return section


def test_panels_show_means_types_and_tasks_with_the_phase_shaded(section):
    by_type, single = section.panels
    assert [panel.title for panel in section.panels] == ["Mean main score by state", "Main score of each task"]
    assert set(means(by_type)) == {"all tasks", "STS", "Classification"}
    assert means(by_type)["all tasks"] == pytest.approx([sum(own) / 3 for own in zip(*SCORES.values(), strict=True)])
    assert list(means(single).items()) == list(SCORES.items())
    for panel in (by_type, single):
        assert panel.x == "state"
        assert spans(panel) == {"compress phase": (2, 7)}
        assert all(line.named for line in panel.lines)
    assert by_type.y == "mean main score [no unit]"
    assert single.y == "main score [no unit]"
    assert {line.name: line.color for line in by_type.lines} == {
        "all tasks": INK,
        "STS": PALETTE[0],
        "Classification": PALETTE[1],
    }


def test_the_interval_is_drawn_where_tasks_are_not_few(section, tmp_path):
    assert not any(line.band for panel in section.panels for line in panel.lines)
    many = {f"task {row}": [score + 0.01 * row for score in HILL] for row in range(8)}
    (with_many,) = sections(view, open_run(with_mteb(tmp_path / "run", many)))
    assert [line.name for line in with_many.panels[0].lines if line.band] == ["all tasks"]


def test_more_tasks_than_a_legend_names_are_told_apart_by_type(tmp_path):
    many = {f"task {row}": HILL for row in range(8)} | {"Banking77Classification": HILL}
    (section,) = sections(view, open_run(with_mteb(tmp_path / "run", many)))
    lines = section.panels[1].lines
    assert not any(line.named for line in lines)
    assert [line.color for line in lines] == [PALETTE[0]] * 8 + [PALETTE[1]]


def test_the_sentence_says_what_is_best_how_sure_and_where(section):
    (said,) = section.sentences
    assert said.startswith("Best at state 4 of 8 (50% of depth): mean main score 0.737 [")
    assert "over 3 tasks; last state 0.487, 0.250 [0.250, 0.250] behind" in said
    assert "the tasks tell it from every other state" in said
    assert said.endswith("state 4 lies inside the compress phase (states 2 to 7)")
    assert section.headline == f"planted: {said}"


def test_the_table_has_a_row_a_state(section):
    (table,) = section.tables
    assert table.title == "lab/planted: mean main score by state"
    assert table.columns == ("state", "depth", "mean", "STS", "Classification", "behind the best", "95%", "tied")
    assert [row[0] for row in table.rows] == list(range(9))
    assert table.rows[4][-1] == "best"
    assert table.rows[3][-1] == "no"
    assert table.rows[4][3] == pytest.approx(0.7055)
    assert section.facts.startswith("3 tasks (STS12, STS13, Banking77Classification); accuracy; mean over")


def test_one_task_has_one_curve_and_no_claim(tmp_path):
    (section,) = sections(view, open_run(with_mteb(tmp_path / "run", {"STS12": HILL})))
    assert [line.name for line in section.panels[0].lines] == ["all tasks"]
    (said,) = section.sentences
    assert "over 1 task; last state 0.450, 0.250 behind; one task alone does not tell which states are as good" in said
    assert "phase" not in said


def test_states_that_the_tasks_do_not_tell_apart_are_drawn_together(tmp_path):
    noisy = {f"task {row}": [0.5 + 0.01 * row * (-1) ** state for state in range(9)] for row in range(4)}
    (section,) = sections(view, open_run(with_mteb(tmp_path / "run", noisy)))
    assert "the tasks do not tell it from states 1-8" in section.sentences[0]


def test_of_several_settings_the_latest_has_the_plain_name(run, section, tmp_path):
    assert section.name.startswith("mteb_planted")
    assert section.key == run.experiments("mteb")[0].header.key
    with_mteb(tmp_path / "run", SCORES, pooling="last")
    latest, first = sections(view, open_run(with_mteb(tmp_path / "run", SCORES)))
    assert latest.name == section.name
    assert first.name == f"{section.name}_{first.key}"
    assert first.facts.endswith("last token")


def test_a_run_without_scores_has_no_section(tmp_path):
    assert sections(view, build_run(tmp_path / "run")) == []

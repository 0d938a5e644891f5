"""What is shown of probes: their lines, and what is said of them in words."""

import math

import pytest
from tests.probed import with_probe
from tests.synthetic_run import PLAIN, PLANTED, build_run
from tests.viewed import levels, means, sections, spans

from thalweg.experiments import surveyed_span
from thalweg.experiments._probe import view

COLUMNS = ("state", "depth", "train", "validation", "test", "test, 95%", "test loss", "converged")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    with_probe(path)
    return with_probe(path, PLAIN)


@pytest.fixture(scope="module")
def planted(run):
    (section,) = (section for section in sections(view, run) if section.title == "planted on films")
    return section


@pytest.fixture(scope="module")
def plain(run):
    (section,) = (section for section in sections(view, run) if section.title == "plain on films")
    return section


def test_curves_are_the_table_by_split_and_state(planted):
    (panel,) = planted.panels
    assert [line.name for line in panel.lines] == ["train", "validation", "test"]
    test = panel.lines[2].rows
    assert test["at"].to_list() == list(range(9))
    assert test["mean"].to_list() == pytest.approx([0.85 - 0.05 * abs(state - 3) for state in range(9)])
    assert (test["upper"] - test["lower"]).to_list() == pytest.approx([0.06] * 9)


def test_the_phase_is_that_of_any_survey_of_the_same_model(run):
    assert surveyed_span(run, PLANTED.name, PLANTED.revision) == (2, 7)
    assert surveyed_span(run, PLAIN.name, PLAIN.revision) is None
    assert surveyed_span(run, "another", "main") is None


def test_the_panel_shows_curves_levels_and_the_phase(planted, plain):
    (panel,) = planted.panels
    assert panel.title == "Accuracy by state"
    assert means(panel)["test"] == pytest.approx([0.85 - 0.05 * abs(state - 3) for state in range(9)])
    assert math.isnan(means(panel)["train"][-1])
    assert levels(panel) == {"chance": 0.5, "most frequent class": 0.55}
    assert [rule.dash for rule in panel.rules] == ["--", ":"]
    assert spans(panel) == {"compress phase": (2, 7)}
    assert panel.y == "accuracy [share of answers]"
    assert spans(plain.panels[0]) == {}


def test_models_are_compared_by_share_of_depth(run, tmp_path):
    compared = sections(view, run)[-1]
    (panel,) = compared.panels
    places = {line.name: line.rows["at"].to_list() for line in panel.lines}
    assert list(places) == ["planted", "plain"]
    assert places["planted"] == [state / 8 for state in range(9)]
    assert places["plain"] == pytest.approx([state / 6 for state in range(7)])
    assert (compared.title, panel.title) == ("planted and plain on films", "Test accuracy on films")
    assert panel.x == "share of depth [state / blocks]"
    assert levels(panel) == {"chance": 0.5, "most frequent class": 0.55}
    assert compared.name == f"probe_models_{run.experiments('probe')[0].header.key}"
    assert compared.key == ""
    with_probe(tmp_path / "run")
    assert [section.key != "" for section in sections(view, with_probe(tmp_path / "run", PLAIN, seed=7))] == [True] * 2


def test_the_sentence_names_state_interval_and_phase(planted, plain):
    (said,) = planted.sentences
    assert said.startswith("Best at state 3 of 8 (38% of depth) by validation accuracy: test 0.850 [0.820, 0.880], ")
    assert "last state 0.600 [0.570, 0.630] (told apart answer by answer: p < 0.001); " in said
    assert "9 of 9 states lie above most frequent class (0.550)" in said
    assert said.endswith("state 3 lies inside the compress phase (states 2 to 7)")
    assert "phase" not in plain.sentences[0]
    assert planted.headline == f"planted on films: {said}"


def test_tables_and_facts_are_for_a_person(planted):
    (table,) = planted.tables
    assert table.columns == COLUMNS
    assert [len(row) for row in table.rows] == [len(COLUMNS)] * 9
    assert table.rows[3][:2] == [3, "38%"]
    assert table.rows[3][2:5] == pytest.approx([0.95, 0.9, 0.85])
    assert table.rows[3][5:] == ["0.820-0.880", pytest.approx(0.15), "-"]
    assert math.isnan(table.rows[8][2])
    assert table.title == "lab/planted on films: accuracy by state; chance 0.500, most frequent class 0.550"
    assert table.folded == "Share of right answers of the classifier trained on each state"
    assert planted.facts == (
        "linear layer, Adam 0.0005, one epoch, batch 32, seed 123; mean over tokens; train 1,000 from train.tsv, "
        "validation 100 from validation.tsv, test 200 from test.tsv"
    )


def test_every_probe_has_a_figure_and_the_latest_has_the_plain_name(tmp_path):
    with_probe(tmp_path / "run", seed=1)
    run = with_probe(tmp_path / "run", seed=2)
    latest, first = sections(view, run)
    seeds = {findings.header.key: findings.header.settings["seed"] for findings in run.experiments("probe")}
    assert (seeds[latest.key], seeds[first.key]) == (2, 1)
    assert latest.name.startswith("probe_planted")
    assert first.name == f"{latest.name}_{first.key}"


def test_a_run_without_probes_shows_none(tmp_path):
    assert sections(view, build_run(tmp_path / "run")) == []


def test_a_probe_that_has_not_converged_says_so_everywhere(tmp_path):
    """In a warning with what to do, the table and the figure; and no such state is the best."""
    run = with_probe(tmp_path / "run", unconverged=(2, 3, 4))
    (section,) = [each for each in sections(view, run) if each.key]
    warning, said = section.sentences
    assert warning == (
        "NOT CONVERGED at states 2-4: its test loss lies above ln 2 = 0.693 nats, what a uniform guess costs, and its "
        "accuracy says nothing of what the state holds. Try --standardize or --classifier logistic"
    )
    assert said.startswith("Best of those that converged at state 1 of 8 ")
    (points,) = section.panels[0].points
    assert points.rows["at"].to_list() == [2, 3, 4]
    assert [row[-1] for row in section.tables[0].rows] == ["yes"] * 2 + ["NO"] * 3 + ["yes"] * 4

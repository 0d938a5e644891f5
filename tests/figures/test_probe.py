"""What the figures of probes show, and what is said of them in words."""

import math

import pytest
from tests.probed import with_probe
from tests.synthetic_run import PLAIN, PLANTED, build_run

from thalweg.figures import (
    PROBE_COLUMNS,
    compared_probes,
    probe,
    probe_answer,
    probe_curves,
    probe_facts,
    probe_levels,
    probe_models,
    probe_table,
    probes_of,
    surveyed_span,
)
from thalweg.figures._save import _probed


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    with_probe(path)
    return with_probe(path, PLAIN)


@pytest.fixture(scope="module")
def planted(run):
    return probes_of(run)[0]


def test_curves_are_the_table_by_split_and_state(planted):
    rows = probe_curves(planted)
    assert rows["split"].unique(maintain_order=True).to_list() == ["train", "validation", "test"]
    test = rows.filter(split="test")
    assert test["index"].to_list() == list(range(9))
    assert test["depth"].to_list() == [state / 8 for state in range(9)]
    assert test["mean"].to_list() == pytest.approx([0.85 - 0.05 * abs(state - 3) for state in range(9)])
    assert (test["upper"] - test["lower"]).to_list() == pytest.approx([0.06] * 9)


def test_the_phase_is_that_of_any_survey_of_the_same_model(run):
    assert surveyed_span(run, PLANTED.name, PLANTED.revision) == (2, 7)
    assert surveyed_span(run, PLAIN.name, PLAIN.revision) is None
    assert surveyed_span(run, "another", "main") is None


def test_the_figure_shows_curves_levels_and_the_phase(run, planted):
    (panel,) = probe(run, planted).axes
    lines = {line.get_label(): line for line in panel.get_lines()}
    assert set(lines) == {"train", "validation", "test", "chance", "most frequent class"}
    assert list(lines["test"].get_ydata()) == pytest.approx([0.85 - 0.05 * abs(state - 3) for state in range(9)])
    assert math.isnan(lines["train"].get_ydata()[-1])
    assert set(lines["chance"].get_ydata()) == {0.5}
    assert set(lines["most frequent class"].get_ydata()) == {0.55}
    (span,) = [patch for patch in panel.patches if patch.get_label() == "compress phase"]
    assert (span.get_x(), span.get_x() + span.get_width()) == (1.5, 7.5)
    assert panel.get_ylabel() == "accuracy [share of answers]"
    bare = probe(run, probes_of(run)[1]).axes[0]
    assert not [patch for patch in bare.patches if patch.get_label() == "compress phase"]


def test_models_are_compared_by_share_of_depth(run, tmp_path):
    (group,) = compared_probes(run)
    assert [one.header.settings["model"] for one in group] == [PLANTED.name, PLAIN.name]
    (panel,) = probe_models(run, group).axes
    lines = {line.get_label(): list(line.get_xdata()) for line in panel.get_lines()}
    assert lines["planted"] == [state / 8 for state in range(9)]
    assert lines["plain"] == pytest.approx([state / 6 for state in range(7)])
    with_probe(tmp_path / "run")
    assert compared_probes(with_probe(tmp_path / "run", PLAIN, seed=7)) == []


def test_the_answer_names_state_interval_and_phase(run, planted):
    said = probe_answer(run, planted)
    assert said.startswith("Best at state 3 of 8 (38% of depth) by validation accuracy: test 0.850 [0.820, 0.880], ")
    assert "last state 0.600 [0.570, 0.630]; " in said
    assert "9 of 9 states lie above most frequent class (0.550)" in said
    assert said.endswith("state 3 lies inside the compress phase (states 2 to 7)")
    assert "phase" not in probe_answer(run, probes_of(run)[1])


def test_tables_and_facts_are_for_a_person(planted):
    rows = probe_table(planted)
    assert [len(row) for row in rows] == [len(PROBE_COLUMNS)] * 9
    assert rows[3][:2] == [3, "38%"]
    assert rows[3][2:5] == pytest.approx([0.95, 0.9, 0.85])
    assert rows[3][5:] == ["0.820-0.880", pytest.approx(0.15), "-"]
    assert math.isnan(rows[8][2])
    assert probe_levels(planted) == {"chance": 0.5, "most frequent class": 0.55}
    assert probe_facts(planted) == (
        "linear layer, Adam 0.0005, one epoch, batch 32, seed 123; mean over tokens; train 1,000 from train.tsv, "
        "validation 100 from validation.tsv, test 200 from test.tsv"
    )


def test_every_probe_is_saved_and_the_latest_has_the_plain_name(tmp_path):
    with_probe(tmp_path / "run", seed=1)
    run = with_probe(tmp_path / "run", seed=2)
    names = [name for name, _ in _probed(run)]
    first, latest = probes_of(run)
    assert latest.header.settings["seed"] == 2
    assert [name.replace(f"_{first.header.key}", "") for name in names] == [names[1]] * 2
    assert first.header.key in names[0]


def test_a_run_without_probes_draws_none(tmp_path):
    run = build_run(tmp_path / "run")
    assert probes_of(run) == []
    assert compared_probes(run) == []

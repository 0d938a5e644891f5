"""What is shown over training and over sizes: every checkpoint where it stands, and nothing else."""

import math
from dataclasses import replace
from itertools import pairwise

import matplotlib.colors
import numpy as np
import polars as pl
import pytest
from tests.synthetic_run import PLANTED, build_run, header, open_survey, part_tables
from tests.synthetic_training import CHECKPOINTS, SIZES, TRAINED, build_sizes, build_training, checkpoint

from thalweg.experiments import pairs
from thalweg.experiments._checkpoints.axis import (
    CHECKPOINT_COLUMNS,
    SIZE_COLUMNS,
    TRAINING_METRICS,
    compared_sizes,
    shades,
    short_count,
    size_ticks,
    trainings,
)
from thalweg.experiments._checkpoints.view import _stale, chapters
from thalweg.shown import GREY, INK, Ticks
from thalweg.store import Shard, open_run

ORDER = ["step0", "step10", "step100", "step2000", "main"]
DEPTH = ("entropy_normalized", "sink_rate", "sink_norm")


def curves(run):
    return run.experiments("checkpoints")[-1].table("curves").collect()


def sections(run):
    """By what their figures begin with; those without one under their title."""
    shown = [section for chapter in chapters(run) for section in chapter.sections]
    return {section.name.rsplit("_", 1)[0] or section.title: section for section in shown}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_training(tmp_path_factory.mktemp("training") / "run")


@pytest.fixture(scope="module")
def axis(run):
    [axis] = trainings(curves(run))
    return axis


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    return build_sizes(tmp_path_factory.mktemp("sizes") / "run")


def sizes_section(run):
    [section] = [section for chapter in chapters(run) for section in chapter.sections]
    return section


def profile(run, revision, metric):
    rows = run.profile.filter(revision=revision, metric=metric).collect().sort("index")
    return rows["mean"].to_list()


def test_checkpoints_stand_at_the_logarithm_of_their_step(axis):
    assert (axis.model, axis.data) == (TRAINED, "words")
    assert axis.rows["revision"].to_list() == ORDER
    assert axis.rows["label"].to_list() == ["0", "10", "100", "2k", "main"]
    last = math.log10(2000)
    np.testing.assert_allclose(axis.rows["at"], [0.5, 1, 2, last, last + 0.5])  # 0 and main half a decade aside
    assert axis.title == "optimizer step [steps, log scale]"
    assert axis.column_title == "optimizer step [steps]"
    assert axis.span == (0.5, last + 0.5)


def test_without_step_numbers_there_is_only_an_order(tmp_path):
    models = [checkpoint(name, None) for name in ("early", "middle", "late")]
    [axis] = trainings(curves(build_training(tmp_path / "run", models)))
    assert axis.rows["at"].to_list() == [0, 1, 2]
    assert axis.rows["label"].to_list() == ["early", "middle", "late"]
    assert axis.title == axis.column_title == "checkpoint [in order]"


def test_ticks_that_would_collide_are_left_out_and_the_ends_are_not(axis):
    few = axis.ticks(3)
    assert (few.names[0], few.names[-1]) == ("0", "main")
    assert len(few.names) == len(few.places) < 5
    assert axis.ticks(100) == Ticks(axis.rows["at"].to_list(), axis.rows["label"].to_list())
    assert axis.columns(100).places == [0, 1, 2, 3, 4]


def test_a_map_holds_the_profile_of_each_checkpoint(run):
    section = sections(run)["training_maps"]
    metrics = ("entropy_normalized", "sink_rate", "norm_ratio")
    assert [panel.title for panel in section.panels] == [
        "Normalized entropy",
        "Sink rate",
        "Norm ratio of sink and rest",
    ]
    for panel, metric in zip(section.panels, metrics, strict=True):
        expected = np.array([profile(run, revision, metric) for revision in ORDER]).T
        np.testing.assert_array_equal(panel.heat.grid, expected)
        assert panel.heat.grid.shape == (6 if metric == "sink_rate" else 7, 5)
        assert panel.x == "optimizer step [steps]"
        assert panel.y == ("block" if metric == "sink_rate" else "state")
        assert panel.heat.log == (metric == "norm_ratio")
        limits = (min(1, expected.min()), max(10, expected.max())) if panel.heat.log else (0, 1)
        assert (panel.heat.low, panel.heat.high) == limits
        first, last = (line.rows.with_columns(pl.col("mean").fill_nan(None)) for line in panel.lines)
        assert first["at"].to_list() == last["at"].to_list() == [-0.5, 0.5, 0.5, 1.5, 1.5, 2.5, 2.5, 3.5, 3.5, 4.5]
        assert first["mean"].to_list() == [None] * 4 + [1.5] * 6  # no phase before step 100
        assert last["mean"].to_list() == [None] * 4 + [5.5] * 6
    assert section.headline == "trained on words, by checkpoint"


def test_the_later_the_checkpoint_the_darker_its_line(axis):
    weights = [0.2126, 0.7152, 0.0722]
    light = [float(np.dot(weights, matplotlib.colors.to_rgb(color))) for color in axis.colors()]
    assert all(one > other for one, other in pairwise(light))


def test_shades_are_viridis_from_light_to_dark():
    places = np.linspace(0, 1, 50)
    expected = matplotlib.colormaps["viridis_r"](0.15 + 0.85 * places)[:, :3]
    ours = np.array([matplotlib.colors.to_rgb(color) for color in shades(places)])
    np.testing.assert_allclose(ours, expected, atol=4 / 255)


def test_every_checkpoint_is_a_line_through_depth(run, axis):
    section = sections(run)["training_profile"]
    colors = axis.colors()
    for panel, metric in zip(section.panels, DEPTH, strict=True):
        lines = panel.lines[:5]
        assert [line.color for line in lines] == colors
        assert not any(line.named or line.band for line in lines)
        for line, revision in zip(lines, ORDER, strict=True):
            np.testing.assert_array_equal(line.rows["mean"], profile(run, revision, metric))
        assert panel.scale.title == axis.title
        assert (panel.scale.low, panel.scale.high) == axis.span
        assert panel.scale.ticks == axis.ticks(12)
        assert (panel.scale.colors[0], panel.scale.colors[-1]) == (colors[0], colors[-1])
    assert [len(panel.lines) for panel in section.panels] == [5, 5, 6]
    grey = section.panels[2].lines[5]
    np.testing.assert_array_equal(grey.rows["mean"], profile(run, "main", "rest_norm"))
    assert (grey.name, grey.color, grey.named) == ("other tokens, last checkpoint", GREY, True)
    assert [panel.log_y for panel in section.panels] == [False, False, True]
    assert section.headline == "trained on words, by checkpoint"


def test_emergence_is_marked_where_the_definition_says(run, axis):
    """Massive in states 2 to 5 from step 100 on: half of the heads sink, and entropy falls to almost nothing."""
    section = sections(run)["emergence"]
    assert section.headline == "trained on words, over training"
    thresholds = {"max_norm_ratio": 10, "max_sink_rate": 0.3}
    for panel, (metric, source) in zip(section.panels, TRAINING_METRICS.items(), strict=True):
        values = [profile(run, revision, source) for revision in ORDER]
        reached = [max(each if source == "sink_rate" else each[1:]) for each in values]
        if source == "entropy_normalized":
            reached = [min(each[1:]) for each in values]
        curve, *half = panel.lines
        *threshold, mark = panel.rules
        np.testing.assert_allclose(curve.rows["mean"], reached)
        np.testing.assert_allclose(curve.rows["at"], axis.rows["at"])
        assert curve.name == "measured"
        if metric in thresholds:
            [level] = threshold
            assert not half
            assert (level.name, level.value) == (f"threshold {thresholds[metric]}", thresholds[metric])
            assert (level.color, level.dash, level.upright) == (GREY, "--", False)
        else:
            [bound] = half
            assert not threshold
            np.testing.assert_allclose(
                bound.rows["mean"], [max(each[: each.index(min(each[1:]), 1)]) / 2 for each in values]
            )
            assert (bound.name, bound.color, bound.dash) == ("half of the largest before", GREY, "--")
        assert (mark.value, mark.upright, mark.color, mark.dash) == (2, True, INK, ":")
        assert mark.name == "from step 100 on"
        assert panel.x == axis.title
        assert panel.log_y == (metric == "max_norm_ratio")


def test_what_never_emerges_has_no_mark(tmp_path):
    run = build_training(tmp_path / "run", (checkpoint("step1", None), checkpoint("step2", None)))
    section = sections(run)["emergence"]
    assert [len(panel.lines) + len(panel.rules) for panel in section.panels] == [2, 2, 2]
    assert not any(rule.upright for panel in section.panels for rule in panel.rules)
    assert section.sentences[0].startswith("no massive activations (max norm rat")


def with_profile(run, models, profile):
    """The run with another profile."""
    with open_survey(run.path, header(models, ("words",))) as writer:
        writer.write_table("profile", profile)
        writer.update(status="finished")
    return open_run(run.path)


def test_maps_have_a_column_a_checkpoint_and_gaps_where_there_is_no_value(tmp_path):
    models = (checkpoint("step1", None), checkpoint("step2", 900.0))
    run = build_training(tmp_path / "run", models)
    frame = run.profile.collect()
    gone = (pl.col("revision") == "step1") & (pl.col("metric") == "norm_ratio")
    gap = frame.with_columns(pl.when(gone).then(math.nan).otherwise(pl.col("mean")).alias("mean"))
    panels = sections(with_profile(run, models, gap))["training_maps"].panels
    assert np.isnan(panels[2].heat.grid).tolist() == [[True, False]] * 7
    assert not np.isnan(panels[0].heat.grid).any()
    assert math.isfinite(panels[2].heat.low)
    assert math.isfinite(panels[2].heat.high)


def test_a_checkpoint_without_any_value_leaves_a_gap(tmp_path):
    models = (checkpoint("step1", None), checkpoint("step2", 900.0))
    run = build_training(tmp_path / "run", models)
    shown = sections(with_profile(run, models, run.profile.filter(pl.col("revision") != "step1").collect()))
    grid = shown["training_maps"].panels[2].heat.grid
    assert grid.shape == (7, 2)
    assert np.isnan(grid[:, 0]).all()
    assert np.isfinite(grid[:, 1]).all()
    assert shown["training_maps"].panels[1].heat.grid.shape == (6, 2)
    assert [line.rows.height for line in shown["training_profile"].panels[0].lines] == [0, 7]


# sizes


def test_sizes_are_compared_from_the_smallest_on(sizes):
    compared = compared_sizes(curves(sizes), "words")
    assert compared["model"].unique(maintain_order=True).to_list() == ["lab/small", "lab/middle", "lab/large"]
    assert compared_sizes(curves(sizes), "other data").is_empty()
    ticks = size_ticks(compared)
    np.testing.assert_allclose(ticks.places, sorted(SIZES.values()))
    assert ticks.names == ["45.4k", "410M", "6.9B"]


@pytest.mark.parametrize(("number", "said"), [(999, "999"), (1000, "1k"), (45_376, "45.4k"), (12_000_000_000, "12B")])
def test_counts_are_written_as_they_are_spoken(number, said):
    assert short_count(number) == said


def test_sizes_are_shown_by_share_of_depth_and_over_parameters(sizes):
    section = sizes_section(sizes)
    through_depth, over_parameters = section.panels[:3], section.panels[3:]
    for panel, metric in zip(through_depth, DEPTH, strict=True):
        assert [line.name for line in panel.lines] == ["small", "middle", "large"]
        for line, (plant, _) in zip(panel.lines, sorted(SIZES.items(), key=lambda item: item[1]), strict=True):
            count = plant.blocks + (metric != "sink_rate")
            np.testing.assert_allclose(line.rows["at"], np.arange(count) / plant.blocks)
            expected = sizes.profile.filter(model=plant.name, metric=metric).sort("index").collect()
            np.testing.assert_array_equal(line.rows["mean"], expected["mean"])
    for panel, metric in zip(over_parameters, reversed(TRAINING_METRICS), strict=True):
        [line] = panel.lines
        assert line.rows["at"].to_list() == sorted(SIZES.values())
        values = compared_sizes(curves(sizes), "words").filter(metric=metric)
        assert line.rows["mean"].to_list() == values["value"].to_list()
        assert panel.log_x
        assert panel.ticks.names == ["45.4k", "410M", "6.9B"]
    assert section.headline == "models of several sizes on words"


# words and files


def test_tables_say_what_is_reached_and_where(run, sizes):
    [table] = [table for section in sections(run).values() for table in section.tables]
    assert (table.title, table.columns) == (f"{TRAINED} on words", CHECKPOINT_COLUMNS)
    assert len(table.rows) == len(CHECKPOINTS)
    assert [row[0] for row in table.rows] == [0, 10, 100, 2000, "main"]
    ratio = profile(run, "step2000", "norm_ratio")
    assert table.rows[3][1:3] == [pytest.approx(max(ratio[1:])), ratio.index(max(ratio[1:]))]
    [table] = sizes_section(sizes).tables
    assert (table.title, table.columns) == ("models on words", SIZE_COLUMNS)
    assert [row[:2] for row in table.rows] == [
        ["lab/small", 45_376],
        ["lab/middle", 410_000_000],
        ["lab/large", 6_900_000_000],
    ]


def test_sentences_stand_under_the_name_of_model_and_data(run, tmp_path):
    alone = sections(run)["emergence"]
    assert alone.title == "trained on words"
    assert alone.sentences == [
        "massive activations from step 100 on (max norm ratio >= 10)",
        "sinks from step 100 on (max sink rate >= 0.3)",
        "valley from step 100 on (min normalized entropy <= half of the largest at an earlier state)",
    ]
    both = build_training(tmp_path / "run", CHECKPOINTS, ("words", "sums"))
    said = [section for chapter in chapters(both) for section in chapter.sections if section.sentences]
    assert [section.title for section in said] == ["trained on words", "trained on sums"]
    assert said[0].sentences == alone.sentences
    assert sum(len(section.sentences) for section in said) == 6


def test_the_verb_prints_tables_and_sentences_and_no_section_more(run, sizes):
    shown = sections(run)
    key = run.experiments("checkpoints")[-1].header.key
    assert {name: section.key for name, section in shown.items()} == {
        "emergence": key,
        "training_maps": "",
        "training_profile": "",
    }
    assert sizes_section(sizes).key == key


def test_a_single_checkpoint_has_its_row_and_no_figure(tmp_path):
    run = build_training(tmp_path / "run", (checkpoint("step100", 900.0),))
    [section] = [section for chapter in chapters(run) for section in chapter.sections]
    assert (section.title, section.name, section.panels) == ("trained on words", "", ())
    [table] = section.tables
    assert (table.columns, [row[0] for row in table.rows]) == (CHECKPOINT_COLUMNS, [100])
    assert section.key


def test_a_run_without_checkpoints_shows_nothing_of_them(tmp_path, sizes):
    plain = build_run(tmp_path / "run", (PLANTED,), ("words",), prompts=2)
    assert list(chapters(plain)) == []
    assert trainings(curves(sizes)) == []
    training, over_sizes = chapters(sizes)
    assert (training.title, list(training.sections)) == ("Over training", [])
    assert (over_sizes.title, over_sizes.anchor, len(over_sizes.sections)) == ("Over sizes", "sizes", 1)


def test_a_training_compares_no_sizes(run):
    training, over_sizes = chapters(run)
    assert (training.title, training.anchor, len(training.sections)) == ("Over training", "training", 3)
    assert list(over_sizes.sections) == []


def test_nothing_is_shown_of_tables_older_than_the_rows(tmp_path):
    run = build_training(tmp_path / "run")
    with open_survey(run.path, run.header) as writer:
        step = CHECKPOINTS[0]
        writer.write_part(Shard(step.name, step.revision, "words", 4, 5), part_tables(step, "words", range(4, 5)))
        writer.update(status="finished")
    assert list(chapters(open_run(run.path))) == []


def test_figures_are_called_after_the_model(run, sizes):
    names = [section.name for section in sections(run).values()]
    assert [name.rsplit("_", 1)[0] for name in names] == ["emergence", "training_maps", "training_profile"]
    assert all("trained" in name for name in names)
    assert sizes_section(sizes).name == "sizes_profile"


def test_names_from_outside_are_left_as_they_are(tmp_path):
    name = "lab/$x^$_{\\frac"
    models = tuple(replace(plant, name=name) for plant in CHECKPOINTS[:3])
    run = build_training(tmp_path / "run", (*models, checkpoint("step5-$\\alpha", None, model=name)))
    assert all(section.headline.startswith("$x^$_{\\frac on words") for section in sections(run).values())
    assert len(pairs(run)) == 4


def test_sums_over_checkpoints_are_stale_once_the_profile_is_another(run):
    findings, summed = run.experiments("checkpoints")[-1], curves(run)
    assert not list(_stale(run, findings, summed))
    [section] = _stale(run, findings, summed.with_columns(pl.col("value") * 1.01))
    [said] = section.sentences
    assert said.startswith("Stale: the run holds other prompts by now")
    assert "Run: " in said

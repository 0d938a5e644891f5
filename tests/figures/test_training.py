"""What the figures over training and over sizes show: every checkpoint where it stands, and nothing else."""

import math
from dataclasses import replace
from itertools import pairwise

import matplotlib.colors
import numpy as np
import polars as pl
import pytest
from tests.synthetic_run import PLANTED, build_run, open_survey
from tests.synthetic_training import CHECKPOINTS, SIZES, TRAINED, build_sizes, build_training, checkpoint

from thalweg.figures import (
    CHECKPOINT_COLUMNS,
    SIZE_COLUMNS,
    TRAINING_METRICS,
    checkpoint_answers,
    checkpoint_table,
    compared_sizes,
    emergence,
    pairs,
    size_ticks,
    sizes_profile,
    step_colors,
    training_grid,
    training_maps,
    training_profile,
    trainings,
)
from thalweg.figures._save import _figures
from thalweg.figures._training import short_count

ORDER = ["step0", "step10", "step100", "step2000", "main"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_training(tmp_path_factory.mktemp("training") / "run")


@pytest.fixture(scope="module")
def axis(run):
    [axis] = trainings(run)
    return axis


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    return build_sizes(tmp_path_factory.mktemp("sizes") / "run")


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
    [axis] = trainings(build_training(tmp_path / "run", models))
    assert axis.rows["at"].to_list() == [0, 1, 2]
    assert axis.rows["label"].to_list() == ["early", "middle", "late"]
    assert axis.title == axis.column_title == "checkpoint [in order]"


def test_ticks_that_would_collide_are_left_out_and_the_ends_are_not(axis):
    places, names = axis.ticks(3)
    assert (names[0], names[-1]) == ("0", "main")
    assert len(names) == len(places) < 5
    assert axis.ticks(100) == (axis.rows["at"].to_list(), axis.rows["label"].to_list())
    assert axis.columns(100)[0] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("metric", TRAINING_METRICS.values())
def test_a_map_holds_the_profile_of_each_checkpoint(run, axis, metric):
    grid = training_grid(run, axis, metric)
    expected = np.array([profile(run, revision, metric) for revision in ORDER]).T
    np.testing.assert_array_equal(grid, expected)
    assert grid.shape == (6 if metric == "sink_rate" else 7, 5)


def test_the_later_the_checkpoint_the_darker_its_line(axis):
    weights = [0.2126, 0.7152, 0.0722]
    light = [float(np.dot(weights, matplotlib.colors.to_rgb(color))) for color in step_colors(axis)]
    assert all(one > other for one, other in pairwise(light))


def test_every_checkpoint_is_a_line_through_depth(run, axis):
    figure = training_profile(run, axis)
    colors = step_colors(axis)
    for panel, metric in zip(figure.axes, ("entropy_normalized", "sink_rate", "sink_norm"), strict=False):
        drawn = panel.get_lines()[:5]
        assert [line.get_color() for line in drawn] == colors
        for line, revision in zip(drawn, ORDER, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), profile(run, revision, metric))
    [grey] = figure.axes[2].get_lines()[5:]
    np.testing.assert_array_equal(grey.get_ydata(), profile(run, "main", "rest_norm"))
    assert [text.get_text() for text in figure.axes[2].get_legend().get_texts()] == ["other tokens, last checkpoint"]
    assert figure.axes[3].get_ylabel() == axis.title
    assert [label.get_text() for label in figure.axes[3].get_yticklabels()] == axis.ticks(12)[1]


def test_emergence_is_marked_where_the_definition_says(run, axis):
    """Massive in states 2 to 5 from step 100 on: half of the heads sink, and entropy falls to almost nothing."""
    figure = emergence(run, axis)
    thresholds = {"max_norm_ratio": 10, "max_sink_rate": 0.3}
    for panel, (metric, source) in zip(figure.axes, TRAINING_METRICS.items(), strict=True):
        values = [profile(run, revision, source) for revision in ORDER]
        reached = [max(each if source == "sink_rate" else each[1:]) for each in values]
        if source == "entropy_normalized":
            reached = [min(each[1:]) for each in values]
        curve, bound, mark = panel.get_lines()
        np.testing.assert_allclose(curve.get_ydata(), reached)
        np.testing.assert_allclose(curve.get_xdata(), axis.rows["at"])
        halves = [each[1] / 2 for each in values]
        np.testing.assert_allclose(bound.get_ydata(), thresholds.get(metric, halves))
        assert list(mark.get_xdata()) == [2, 2]
        assert mark.get_label() == "from step 100 on"
        assert panel.get_xlabel() == axis.title


def test_what_never_emerges_has_no_mark(tmp_path):
    run = build_training(tmp_path / "run", (checkpoint("step1", None), checkpoint("step2", None)))
    figure = emergence(run, trainings(run)[0])
    assert [len(panel.get_lines()) for panel in figure.axes] == [2, 2, 2]
    assert checkpoint_answers(run.experiments("checkpoints")[-1])[0].startswith("no massive activations (max norm rat")


def test_maps_have_a_column_a_checkpoint_and_hatch_what_has_no_value(tmp_path):
    models = (checkpoint("step1", None), checkpoint("step2", 900.0))
    run = build_training(tmp_path / "run", models)
    frame = run.profile.collect()
    gone = (pl.col("revision") == "step1") & (pl.col("metric") == "norm_ratio")
    gap = frame.with_columns(pl.when(gone).then(math.nan).otherwise(pl.col("mean")).alias("mean"))
    with open_survey(run.path, run.header) as writer:
        writer.write_table("profile", gap)
    [axis] = trainings(run)
    figure = training_maps(run, axis)
    maps = [panel for panel in figure.axes if panel.get_images()]
    assert [panel.get_title(loc="left") or panel.get_title() for panel in maps] == [
        "Normalized entropy",
        "Sink rate",
        "Norm ratio of sink and rest",
    ]
    shown = maps[2].get_images()[0].get_array()
    assert np.ma.getmaskarray(np.ma.masked_invalid(shown)).tolist() == [[True, False]] * 7
    assert all(panel.patch.get_hatch() for panel in maps)
    assert all(panel.get_xlabel() == "optimizer step [steps]" for panel in maps)


def test_a_checkpoint_without_any_value_leaves_a_gap(tmp_path):
    models = (checkpoint("step1", None), checkpoint("step2", 900.0))
    run = build_training(tmp_path / "run", models)
    [axis] = trainings(run)
    with open_survey(run.path, run.header) as writer:
        writer.write_table("profile", run.profile.filter(pl.col("revision") != "step1").collect())
    grid = training_grid(run, axis, "norm_ratio")
    assert np.isnan(grid[:, 0]).all()
    assert np.isfinite(grid[:, 1]).all()
    for draw in (training_profile, emergence, training_maps):
        draw(run, axis).canvas.draw()


# sizes


def test_sizes_are_compared_from_the_smallest_on(sizes):
    compared = compared_sizes(sizes, "words")
    assert compared["model"].unique(maintain_order=True).to_list() == ["lab/small", "lab/middle", "lab/large"]
    assert compared_sizes(sizes, "other data").is_empty()
    places, names = size_ticks(compared)
    np.testing.assert_allclose(places, sorted(SIZES.values()))
    assert names == ["45.4k", "410M", "6.9B"]


@pytest.mark.parametrize(("number", "said"), [(999, "999"), (1000, "1k"), (45_376, "45.4k"), (12_000_000_000, "12B")])
def test_counts_are_written_as_they_are_spoken(number, said):
    assert short_count(number) == said


def test_sizes_are_drawn_by_share_of_depth_and_over_parameters(sizes):
    figure = sizes_profile(sizes, "words")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["small", "middle", "large"]
    for line, (plant, _) in zip(
        figure.axes[0].get_lines(), sorted(SIZES.items(), key=lambda item: item[1]), strict=True
    ):
        np.testing.assert_allclose(line.get_xdata(), np.arange(plant.blocks + 1) / plant.blocks)
        expected = sizes.profile.filter(model=plant.name, metric="entropy_normalized").sort("index").collect()
        np.testing.assert_array_equal(line.get_ydata(), expected["mean"])
    for panel in figure.axes[3:]:
        assert list(panel.get_lines()[0].get_xdata()) == sorted(SIZES.values())
        assert panel.get_xscale() == "log"


# words and files


def test_tables_say_what_is_reached_and_where(run, sizes):
    [(title, columns, rows)] = checkpoint_table(run.experiments("checkpoints")[-1])
    assert (title, columns) == (f"{TRAINED} on words", CHECKPOINT_COLUMNS)
    assert [row[0] for row in rows] == [0, 10, 100, 2000, "main"]
    ratio = profile(run, "step2000", "norm_ratio")
    assert rows[3][1:3] == [pytest.approx(max(ratio[1:])), ratio.index(max(ratio[1:]))]
    [(title, columns, rows)] = checkpoint_table(sizes.experiments("checkpoints")[-1])
    assert (title, columns) == ("models on words", SIZE_COLUMNS)
    assert [row[:2] for row in rows] == [
        ["lab/small", 45_376],
        ["lab/middle", 410_000_000],
        ["lab/large", 6_900_000_000],
    ]


def test_answers_name_the_model_only_where_there_are_several(run, tmp_path):
    alone = checkpoint_answers(run.experiments("checkpoints")[-1])
    assert alone == [
        "massive activations from step 100 on (max norm ratio >= 10)",
        "sinks from step 100 on (max sink rate >= 0.3)",
        "valley from step 100 on (min normalized entropy <= half of state 1's)",
    ]
    both = build_training(tmp_path / "run", CHECKPOINTS, ("words", "sums"))
    said = checkpoint_answers(both.experiments("checkpoints")[-1])
    assert said[0] == f"{TRAINED} on words: {alone[0]}"
    assert len(said) == 6


def test_a_run_without_checkpoints_has_no_figure_of_them(tmp_path, sizes):
    plain = build_run(tmp_path / "run", (PLANTED,), ("words",), prompts=2)
    assert trainings(plain) == []
    assert compared_sizes(plain, "words").is_empty()
    assert trainings(sizes) == []


def test_nothing_is_drawn_of_tables_older_than_the_rows(tmp_path):
    run = build_training(tmp_path / "run")
    (run.survey.directory / "profile.parquet").unlink()  # as a new part does
    assert trainings(run) == []
    assert compared_sizes(run, "words").is_empty()


def test_figures_are_called_after_the_model(run, sizes):
    names = [name for name, _ in _figures(run)]
    own = [name for name in names if "training" in name or "emergence" in name]
    assert [name.rsplit("_", 1)[0] for name in own] == ["training_profile", "emergence", "training_maps"]
    assert all("trained" in name for name in own)
    assert sum(name.startswith("bounds") for name in names) == 1  # the last checkpoint alone
    assert "sizes_profile" in [name for name, _ in _figures(sizes)]


def test_names_from_outside_are_drawn_as_they_are(tmp_path):
    name = "lab/$x^$_{\\frac"
    models = tuple(replace(plant, name=name) for plant in CHECKPOINTS[:3])
    run = build_training(tmp_path / "run", (*models, checkpoint("step5-$\\alpha", None, model=name)))
    [axis] = trainings(run)
    for draw in (training_profile, emergence, training_maps):
        figure = draw(run, axis)
        figure.canvas.draw()
        assert figure._suptitle.get_text().startswith("lab/\\$x^\\$_{\\frac on words")
    assert len(pairs(run)) == 4

"""What the figure of the writers shows: bars of what is added, steps of the row, and what the tables say in words."""

import math

import numpy as np
import polars as pl
import pytest
from tests.synthetic_run import PLAIN, PLANTED, add_findings, build_run, header

from thalweg.errors import RunError
from thalweg.figures import (
    attribution,
    attribution_answers,
    attribution_table,
    contribution_bars,
    pairs,
    row_along,
    save_figures,
)
from thalweg.store import Shard, experiment_schema, open_run

ADDED = {("embedding", None): 2.0, ("mlp", 1): 900.0, ("mlp", 0): 90.0, ("attention", 1): 8.0, ("mlp", 6): -970.0}
KEYS = {"model": PLANTED.name, "revision": "main"}
WRITERS = {
    "writing_blocks": [1],
    "writing_share": 0.9,
    "writing_threshold": 0.9,
    "writing_agreement": 1.0,
    "reference_state": 2,
    "reference_agreement": 1.0,
    "has_massive_activations": True,
    "compress_first": 2,
    "compress_last": 6,
    "prompts": 4,
    "massive_prompts": 4,
    "reason": None,
}


def averages(data, *, writes=(1,), gap=False):
    parts = [("embedding", None), *((part, block) for block in range(PLANTED.blocks) for part in ("attention", "mlp"))]
    rows = []
    for part, block in parts:
        along = math.nan if gap else ADDED.get((part, block), 0.5)
        own = {**KEYS, "data": data, "block": block, "part": part, "n": 4, "writes": part == "mlp" and block in writes}
        numbers = {"norm": abs(along) + 1, "along": along, "share": along / 1000, "cosine": 0.5}
        numbers["share_before"] = numbers["share"] if block is None or block < 2 else 0.0
        dims = [17, 42] if part == "mlp" else []
        rows += [
            {**own, "metric": metric, "mean": mean, "std": 3.0, "low": mean - 1, "high": mean + 1, "dims": dims}
            for metric, mean in numbers.items()
        ]
    return pl.DataFrame(rows, schema=experiment_schema("attribution", "attribution"))


def with_attribution(path, *, data=("words",), writes=(1,), gap=False, settings=None, **changes):
    """A run with an attribution made up from known numbers."""
    empty = {name: pl.DataFrame(schema=experiment_schema("attribution", name)) for name in ("states", "dimensions")}
    with add_findings(path, header((PLANTED,), data), "attribution", settings or {}) as writer:
        for one in data:
            part = {**KEYS, "data": one, "prompt": 0, "block": None, "part": "embedding", "before": True}
            names = experiment_schema("attribution", "contributions")
            rows = pl.DataFrame([{name: part.get(name) for name in names}], schema=names)
            writer.write_part(Shard(PLANTED.name, "main", one, 0, 1), {**empty, "contributions": rows})
        writer.write_table("attribution", pl.concat([averages(one, writes=writes, gap=gap) for one in data]))
        found = [{**KEYS, "data": one, **WRITERS, "writing_blocks": list(writes), **changes} for one in data]
        writer.write_table("writers", pl.DataFrame(found, schema=experiment_schema("attribution", "writers")))
        writer.update(status="finished")
    return open_run(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return with_attribution(tmp_path_factory.mktemp("runs") / "run")


def latest(run):
    return run.experiments("attribution")[-1]


def test_bars_are_the_averages_with_the_embedding_before_block_0(run):
    bars = contribution_bars(latest(run), pairs(run)[0])
    along = bars.filter(metric="along")
    assert along.height == 1 + 2 * PLANTED.blocks
    assert along.row(0)[:4] == (-1, "embedding", "along", 2.0)
    (row,) = along.filter(at=1, part="mlp").rows(named=True)
    assert (row["mean"], row["lower"], row["upper"], row["writes"], row["dims"]) == (900, 897, 903, True, [17, 42])


def test_the_row_is_the_sum_of_what_was_added_before(run):
    steps = row_along(contribution_bars(latest(run), pairs(run)[0]))
    assert steps["state"].to_list() == list(range(PLANTED.blocks + 1))
    assert steps["mean"].to_list()[:3] == [2.0, 2.0 + 0.5 + 90.0, 92.5 + 8.0 + 900.0]
    assert steps["mean"][7] == pytest.approx(1000.5 + 4 * 1.0 + 0.5 - 970.0)


def test_the_figure_shows_bars_steps_and_the_compress_phase(run):
    figure = attribution(run, pairs(run)[0])
    along, norm = figure.axes
    heights = {round(bar.get_height(), 6) for bar in along.patches if bar.get_width() == pytest.approx(0.38)}
    assert {900.0, -970.0, 8.0, 2.0} <= heights
    (path,) = along.get_lines()
    assert path.get_drawstyle() == "steps-mid"
    assert path.get_xdata()[0] == -0.5
    assert [line.get_ydata()[1] for line in norm.get_lines() if len(line.get_ydata()) > 1] == [9.0, 901.0]
    for panel in (along, norm):
        assert "activation units" in panel.get_ylabel()
        assert panel.get_xlabel() == "block"
        named = [label.get_text() for label in panel.get_xticklabels()]
        assert named[:2] == ["emb", "0"]
        assert max(map(int, named[1:])) < PLANTED.blocks
        spans = [patch for patch in panel.patches if patch.get_label() == "compress phase"]
        assert [(span.get_x(), span.get_x() + span.get_width()) for span in spans] == [(1.5, 6.5)]
    assert along.get_title("left") == "Added along the row's direction at state 2"
    assert "block 1's MLP writes 90.0% of the massive norm, into dimensions 17, 42" in figure.get_suptitle()


def test_without_a_compress_phase_nothing_is_shaded(tmp_path):
    reason = {"reason": "no massive activation", "has_massive_activations": False, "reference_state": 0}
    edges = {"compress_first": None, "compress_last": None, "writing_share": math.nan}
    run = with_attribution(tmp_path / "run", writes=(), **reason, **edges)
    figure = attribution(run, pairs(run)[0])
    assert not [one for panel in figure.axes for one in panel.patches if one.get_label() == "compress phase"]
    assert "no massive activation: nothing is written" in figure.get_suptitle()


def test_numbers_that_are_missing_are_said_to_be(tmp_path):
    run = with_attribution(tmp_path / "run", gap=True, writes=(), reason="no prompt has a reference state")
    for panel in attribution(run, pairs(run)[0]).axes:
        assert [text.get_text() for text in panel.texts] == ["no value"]


def test_an_attribution_without_averages_of_any_part_is_drawn_empty(tmp_path):
    run = with_attribution(tmp_path / "run", writes=(), reason="no prompt has a reference state")
    experiment = latest(run)
    with add_findings(run.path, run.header, "attribution", experiment.header.settings) as writer:
        writer.write_table("attribution", experiment.table("attribution").collect().clear())
    experiment = latest(run)
    for panel in attribution(run, pairs(run)[0]).axes:
        assert [text.get_text() for text in panel.texts] == ["no value"]
    assert attribution_table(experiment)[0][1] == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "block 1's MLP writes 90.0% of the massive norm, into dimensions 17, 42"),
        ({"writing_share": 0.99998}, "block 1's MLP writes over 99.9% of the massive norm, into dimensions 17, 42"),
        (
            {"writes": (0, 1), "writing_share": 0.99},
            "the MLPs of blocks 0 and 1 write 99.0% of the massive norm (9.0% and 90.0%), into dimensions 17, 42",
        ),
        (
            {"writes": (), "reason": "no massive activation", "has_massive_activations": False},
            "no massive activation: nothing is written",
        ),
        ({"writes": (), "reason": "all MLPs together write 30%"}, "all MLPs together write 30%"),
    ],
)
def test_one_sentence_says_it(tmp_path, changes, said):
    assert attribution_answers(latest(with_attribution(tmp_path / "run", **changes))) == [said]


def test_the_table_has_a_row_for_every_part(run):
    [(title, rows)] = attribution_table(latest(run))
    assert title.startswith("lab/planted on words")
    assert "(2)" in title
    assert rows[0][:3] == [None, "embedding", 3.0]
    assert rows[4] == [1, "mlp", 901.0, 900.0, 0.9, "yes", "17, 42"]
    assert len(rows) == 1 + 2 * PLANTED.blocks
    assert [row[5] for row in rows].count("yes") == 1


def test_saved_figures_include_it_where_there_is_one(tmp_path):
    run = build_run(tmp_path / "run", (PLANTED, PLAIN), ("words", "sums"))
    before = {file.name for file in save_figures(run)}
    assert not any(name.startswith("attribution") for name in before)
    run = with_attribution(tmp_path / "run", data=("words", "sums"))
    added = {file.name for file in save_figures(run)} - before
    assert len(added) == 4
    assert all(name.startswith("attribution_lab-planted") for name in added)


def test_a_run_without_one_says_what_to_run(tmp_path):
    run = build_run(tmp_path / "run", (PLANTED,), ("words",))
    with pytest.raises(RunError, match="run `thalweg attribute`"):
        attribution(run, pairs(run)[0])


def test_the_last_one_counts(tmp_path):
    with_attribution(tmp_path / "run", writing_share=0.91)
    run = with_attribution(tmp_path / "run", settings={"threshold": 0.5}, writing_share=0.97)
    assert len(run.experiments("attribution")) == 2
    assert "97.0%" in attribution(run, pairs(run)[0]).get_suptitle()
    assert np.isfinite(contribution_bars(latest(run), pairs(run)[0])["mean"].to_numpy()).all()

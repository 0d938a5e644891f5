"""What the maps of top and bottom prompts show, and what is said beside them."""

import numpy as np
import polars as pl
import pytest
from tests.contrasted import DEPENDENT, MODEL, PROMPTS, contrasted_run
from tests.synthetic_run import add_findings

import thalweg
from thalweg.errors import RunError
from thalweg.figures import (
    CONTRAST_COLUMNS,
    contrast,
    contrast_answers,
    contrast_maps,
    contrast_of,
    contrast_prompts,
    contrast_scope,
    contrast_table,
    pairs,
)
from thalweg.figures._save import _figures
from thalweg.store import experiment_schema, open_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = contrasted_run(tmp_path_factory.mktemp("runs") / "run").path
    thalweg.contrast(path)
    return open_run(path)


def latest(run):
    found = contrast_of(run, pairs(run)[0])
    assert found is not None
    return found


def made_up(path, *, changed=(), metric="sink_score", **row):
    """A contrast whose numbers are known: every head's difference is its block, its low and high 1 beside."""
    run = contrasted_run(path, prompts=20)
    key = {"model": MODEL.name, "revision": "main", "data": "words"}
    ranking = {**key, "by": metric, "length": 20, "prompts": 20, "per_side": 2, "other_length": 0, "undefined": 0}
    ranking |= {"heads": 24, "changed": len(changed), "permutations": 10_000, "exact": False, "least_p": 1e-4}
    heads = [
        {
            **dict.fromkeys(experiment_schema("contrast", "heads")),
            **key,
            "block": block,
            "head": head,
            "metric": one,
            "top": 0.9,
            "bottom": 0.9 - block,
            "difference": block if one == metric else -block,
            "changes": (block, head) in changed,
            "overall_top": block / 10,
            "overall_difference": block + head / 10,
            "q": 0.01 if (block, head) in changed else 0.7,
        }
        for one in dict.fromkeys((metric, "mixing"))
        for block in range(MODEL.blocks)
        for head in range(MODEL.heads)
    ]
    with add_findings(run.path, run.header, "contrast", {"by": metric}) as writer:
        schemas = {name: experiment_schema("contrast", name) for name in ("rankings", "heads", "prompts")}
        writer.write_table(
            "rankings", pl.DataFrame([{"fdr": 0.05, "reason": None} | ranking | row], schemas["rankings"])
        )
        writer.write_table("heads", pl.DataFrame(heads, schema=schemas["heads"]))
        writer.write_table("prompts", pl.DataFrame(schema=schemas["prompts"]))
        writer.update(status="finished")
    return open_run(run.path)


def test_maps_hold_every_heads_own_number(run):
    experiment, row = latest(run)
    heads = experiment.table("heads").collect()
    score, sink, mixing = contrast_maps(experiment, pairs(run)[0], row["by"])
    assert [one.metric for one in (score, sink, mixing)] == ["sink_score", "sink_score", "mixing"]
    assert [one.of_change for one in (score, sink, mixing)] == [False, True, True]
    for one, metric, column in (
        (score, "sink_score", "overall_top"),
        (sink, "sink_score", "overall_difference"),
        (mixing, "mixing", "overall_difference"),
    ):
        assert one.grid.shape == (MODEL.heads, MODEL.blocks)
        for block in range(MODEL.blocks):
            for head in range(MODEL.heads):
                own = heads.filter(metric=metric, block=block, head=head).row(0, named=True)
                assert one.grid[head, block] == own[column]
                assert one.changes[head, block] == (own["changes"] and column != "overall_top")
    assert {(block, head) for head, block in np.argwhere(sink.changes)} >= set(DEPENDENT)


def test_the_figure_shows_the_maps_and_a_dot_on_what_changes(run):
    figure = contrast(run, pairs(run)[0])
    maps = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title("left") for axes in maps] == [
        "Sink score: top prompts",
        "Sink score: top minus bottom prompts",
        "Mixing score: top minus bottom prompts",
    ]
    dots = [set(zip(*axes.lines[0].get_data(), strict=True)) for axes in maps]
    assert not dots[0]
    assert set(DEPENDENT) <= dots[1]
    assert set(DEPENDENT) <= dots[2]
    assert maps[0].images[0].get_clim() == (0, 1)
    for axes in maps[1:]:
        low, high = axes.images[0].get_clim()
        assert low == -high  # no change is the middle of the colours
    assert {axes.get_xlabel() for axes in maps} == {"block"}
    assert {axes.get_ylabel() for axes in maps} == {"head"}
    bars = [axes.get_ylabel() for axes in figure.axes if not axes.images]
    assert [label for label in bars if label] == ["[share of attention]", "[share of attention]", "[nats]"]
    said = " ".join(figure.get_suptitle().split())
    assert "heads change their sink score from the top prompts to the bottom ones" in said
    assert said.endswith("60 prompts of 20 tokens compared, 6 a side")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            "none of 24 heads is seen to change its sink score from the top prompts to the bottom ones; "
            "none is seen to change its mixing (false-discovery rate 0.05)",
        ),
        (
            {"changed": [(2, 3), (5, 0)]},
            "2 of 24 heads change their sink score from the top prompts to the bottom ones, head 0 of block 5 most "
            "(0.9 against -4.1); 2 change their mixing",
        ),
        (
            {"per_side": 1, "fdr": 0.1},
            "none of 24 heads is seen to change its sink score from the top prompt to the bottom one; "
            "none is seen to change its mixing "
            "(false-discovery rate 0.1)",
        ),
        (
            {"metric": "mixing", "changed": [(1, 1)]},
            "1 of 24 heads change their mixing score from the top prompts to the bottom ones, head 1 of block 1 most "
            "(0.9 against -0.1) (false-discovery rate 0.05)",
        ),
        ({"reason": "p cannot fall below 0.1"}, "(false-discovery rate 0.05); p cannot fall below 0.1"),
        ({"prompts": 0, "reason": "too few"}, "nothing is compared: too few"),
    ],
)
def test_one_sentence_says_it(tmp_path, changes, said):
    run = made_up(tmp_path / "run", **changes)
    (answer,) = contrast_answers(run.experiments("contrast")[-1])
    assert said in answer


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "20 prompts of 20 tokens compared, 2 a side"),
        ({"length": None}, "20 prompts compared, 2 a side"),
        (
            {"other_length": 1200, "undefined": 3},
            "20 prompts of 20 tokens compared, 2 a side; 1,200 of other lengths skipped; "
            "3 with undefined scores skipped",
        ),
    ],
)
def test_what_was_compared_and_skipped_is_said(tmp_path, changes, said):
    _, row = latest(made_up(tmp_path / "run", **changes))
    assert contrast_scope(row) == said


def test_the_table_lists_what_changes_the_largest_difference_first(tmp_path):
    run = made_up(tmp_path / "run", changed=[(1, 0), (5, 2), (3, 3)])
    [(title, rows)] = contrast_table(run.experiments("contrast")[-1])
    assert title.startswith("lab/inert on words: 20 prompts of 20 tokens compared")
    assert [row[:2] for row in rows] == [[5, 2], [3, 3], [1, 0]]
    assert len(rows[0]) == len(CONTRAST_COLUMNS)
    assert (rows[0][2], rows[0][4], rows[0][8]) == (0.9, 5.0, -5.0)
    many = made_up(tmp_path / "many", changed=[(block, head) for block in range(6) for head in range(4)])
    [(_, rows)] = contrast_table(many.experiments("contrast")[-1])
    assert len(rows) == 20
    by_mixing = made_up(tmp_path / "mixing", metric="mixing", changed=[(1, 0)])
    [(_, rows)] = contrast_table(by_mixing.experiments("contrast")[-1])
    assert len(rows[0]) == len(CONTRAST_COLUMNS) - 2


def test_both_ends_of_the_ranking_are_listed(run):
    ends = contrast_prompts(*latest(run))
    assert ends["side"].to_list() == ["top"] * 6 + ["bottom"] * 6
    assert ends["prompt"].n_unique() == 12
    assert ends["score"].max() == ends["score"][0]


def test_another_ranking_is_drawn_with_a_map_more(tmp_path):
    path = contrasted_run(tmp_path / "run", prompts=40).path
    thalweg.contrast(path, by="diagonal")
    figure = contrast(open_run(path), pairs(open_run(path))[0])
    titles = [axes.get_title("left") for axes in figure.axes if axes.images]
    assert titles[0] == "Attention to itself: top prompts"
    assert len(titles) == 4


def test_heads_without_a_value_are_gaps_and_not_nothing(tmp_path):
    gap = pl.when(pl.col("block") == 1).then(float("nan")).otherwise(pl.col("sink_score")).alias("sink_score")
    path = contrasted_run(tmp_path / "run", change=lambda heads: heads.with_columns(gap)).path
    thalweg.contrast(path)
    run = open_run(path)
    maps = contrast_maps(latest(run)[0], pairs(run)[0], "sink_score")
    assert np.isnan(maps[0].grid[:, 1]).all()
    assert np.isfinite(np.delete(maps[0].grid, 1, axis=1)).all()
    assert not maps[1].changes[:, 1].any()
    contrast(run, pairs(run)[0]).canvas.draw()


def test_saved_figures_include_it_where_there_is_one(tmp_path):
    run = contrasted_run(tmp_path / "run", prompts=20, data=("words", "sums"))
    before = {name for name, _ in _figures(run)}
    thalweg.contrast(run.path)
    added = {name for name, _ in _figures(open_run(run.path))} - before
    assert len(added) == 2
    assert all(name.startswith("contrast_lab-inert") for name in added)


def test_a_contrast_that_came_to_nothing_is_not_drawn(tmp_path):
    run = made_up(tmp_path / "run", prompts=0, reason="too few")
    assert contrast_of(run, pairs(run)[0]) is None
    with pytest.raises(RunError, match=r"no contrast of lab/inert on words: run `thalweg contrast`"):
        contrast(run, pairs(run)[0])
    assert not [name for name, _ in _figures(run) if name.startswith("contrast")]
    with add_findings(run.path, run.header, "contrast", {"by": "svi"}):
        pass  # stopped before its tables
    assert contrast_of(open_run(run.path), pairs(run)[0]) is None


def test_the_last_one_counts(tmp_path):
    path = contrasted_run(tmp_path / "run", prompts=PROMPTS).path
    thalweg.contrast(path, top=3)
    thalweg.contrast(path, top=11)
    assert latest(open_run(path))[1]["per_side"] == 11

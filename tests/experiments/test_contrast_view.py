"""What the maps of top and bottom prompts show, and what is said beside them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.contrasted import DEPENDENT, MODEL, PROMPTS, contrasted_run
from tests.synthetic_run import add_findings

import thalweg
from thalweg.experiments import tables_of
from thalweg.experiments._contrast.view import CHANGES, COLUMNS, chapters, stale
from thalweg.store import Findings, FindingsHeader, open_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = contrasted_run(tmp_path_factory.mktemp("runs") / "run").path
    thalweg.contrast(path)
    return open_run(path)


def sections(run):
    (chapter,) = chapters(run)
    assert (chapter.title, chapter.anchor) == ("Top and bottom prompts", "contrast")
    return chapter.sections


def shown(run):
    """What is shown everywhere."""
    return [section for section in sections(run) if not section.only]


@pytest.fixture(scope="module")
def section(run):
    (section,) = sections(run)
    return section


def made_up(path, *, changed=(), metric="sink_score", **row):
    """A contrast whose numbers are known: every head's difference is its block, its low and high 1 beside."""
    run = contrasted_run(path, prompts=20)
    key = {"model": MODEL.name, "revision": "main", "data": "words"}
    ranking = {**key, "by": metric, "length": 20, "prompts": 20, "per_side": 2, "other_length": 0, "undefined": 0}
    ranking |= {"heads": 24, "changed": len(changed), "permutations": 10_000, "exact": False, "least_p": 1e-4}
    heads = [
        {
            **dict.fromkeys(tables_of("contrast")["heads"].schema),
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
        schemas = {name: tables_of("contrast")[name].schema for name in ("rankings", "heads", "prompts")}
        writer.write_table(
            "rankings", pl.DataFrame([{"fdr": 0.05, "reason": None} | ranking | row], schemas["rankings"])
        )
        writer.write_table("heads", pl.DataFrame(heads, schema=schemas["heads"]))
        writer.write_table("prompts", pl.DataFrame(schema=schemas["prompts"]))
        writer.update(status="finished")
    return open_run(run.path)


def test_maps_hold_every_heads_own_number(run, section):
    heads = run.experiments("contrast")[-1].table("heads").collect()
    assert [panel.title for panel in section.panels] == [
        "Sink score: top prompts",
        "Sink score: top minus bottom prompts",
        "Mixing score: top minus bottom prompts",
    ]
    score, sink, mixing = (panel.heat for panel in section.panels)
    for heat, metric, column in (
        (score, "sink_score", "overall_top"),
        (sink, "sink_score", "overall_difference"),
        (mixing, "mixing", "overall_difference"),
    ):
        assert heat.grid.shape == (MODEL.heads, MODEL.blocks)
        for block in range(MODEL.blocks):
            for head in range(MODEL.heads):
                row = heads.filter(metric=metric, block=block, head=head).row(0, named=True)
                assert heat.grid[head, block] == row[column]
                if heat.dots is not None:
                    assert heat.dots[head, block] == row["changes"]
    assert [heat.dots is None for heat in (score, sink, mixing)] == [True, False, False]
    for heat in (sink, mixing):
        assert {(block, head) for head, block in np.argwhere(heat.dots)} >= set(DEPENDENT)
        assert heat.dotted == CHANGES


def test_no_change_is_the_middle_of_the_colours(section):
    top, *changes = (panel.heat for panel in section.panels)
    assert (top.low, top.high, top.diverging) == (0, 1, False)
    for heat in changes:
        assert heat.low == -heat.high
        assert heat.diverging
    assert {panel.x for panel in section.panels} == {"block"}
    assert {panel.y for panel in section.panels} == {"head"}
    assert [heat.unit for heat in (top, *changes)] == ["share of attention", "share of attention", "nats"]
    assert section.columns == 3
    assert "heads change their sink score from the top prompts to the bottom ones" in section.headline
    assert section.headline.endswith("60 prompts of 20 tokens compared, 6 a side")


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
        ({"prompts": 0, "reason": "too few"}, "inert on words: nothing is compared: too few"),
    ],
)
def test_one_sentence_says_it(tmp_path, changes, said):
    (section,) = sections(made_up(tmp_path / "run", **changes))
    (sentence,) = section.sentences
    assert said in sentence


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
    (section,) = sections(made_up(tmp_path / "run", **changes))
    assert section.facts == said


def test_the_table_lists_what_changes_the_largest_difference_first(tmp_path):
    (section,) = sections(made_up(tmp_path / "run", changed=[(1, 0), (5, 2), (3, 3)]))
    table = section.tables[0]
    assert table.title == "lab/inert on words: heads whose sink score changes most"
    assert section.facts.startswith("20 prompts of 20 tokens compared")
    assert [row[:2] for row in table.rows] == [(5, 2), (3, 3), (1, 0)]
    assert table.columns == COLUMNS
    assert len(table.rows[0]) == len(COLUMNS)
    assert (table.rows[0][2], table.rows[0][4], table.rows[0][8]) == (0.9, 5.0, -5.0)
    assert table.note == ""
    many = [(block, head) for block in range(6) for head in range(4)]
    (section,) = sections(made_up(tmp_path / "many", changed=many))
    assert len(section.tables[0].rows) == 20
    assert section.tables[0].note == "4 more heads change."
    (section,) = sections(made_up(tmp_path / "mixing", metric="mixing", changed=[(1, 0)]))
    assert len(section.tables[0].rows[0]) == len(section.tables[0].columns) == len(COLUMNS) - 2


def test_both_ends_of_the_ranking_are_listed(run, section):
    heads, prompts = section.tables
    assert {(row[0], row[1]) for row in heads.rows} >= set(DEPENDENT)
    assert (prompts.folded, prompts.only) == ("The prompts", "page")
    assert prompts.title == "Both ends of the ranking by the mean sink score of all heads"
    assert [row[0] for row in prompts.rows] == ["top"] * 6 + ["bottom"] * 6
    assert [row[1] for row in prompts.rows] == [*range(1, 7)] * 2
    assert len({row[2] for row in prompts.rows}) == 12
    assert max(row[4] for row in prompts.rows) == prompts.rows[0][4]
    ends = run.experiments("contrast")[-1].table("prompts").collect()
    assert [row[2:] for row in prompts.rows] == ends.select("prompt", "tokens", "score").rows()
    assert prompts.note == ""


def test_long_ends_are_cut(tmp_path):
    path = contrasted_run(tmp_path / "run").path
    thalweg.contrast(path, top=12)
    (section,) = sections(open_run(path))
    assert len(section.tables[1].rows) == 20
    assert section.tables[1].note == "4 more."


def test_where_no_head_changes_there_is_a_table_of_none(tmp_path):
    path = contrasted_run(tmp_path / "run", prompts=6).path
    thalweg.contrast(path, top=1)
    (section,) = sections(open_run(path))
    assert section.tables[0].rows == []
    assert section.sentences[0].startswith("none of 24 heads")


def test_another_ranking_is_drawn_with_a_map_more(tmp_path):
    path = contrasted_run(tmp_path / "run", prompts=40).path
    thalweg.contrast(path, by="diagonal")
    (section,) = sections(open_run(path))
    assert section.panels[0].title == "Attention to itself: top prompts"
    assert len(section.panels) == section.columns == 4


def test_heads_without_a_value_are_gaps_and_not_nothing(tmp_path):
    gap = pl.when(pl.col("block") == 1).then(float("nan")).otherwise(pl.col("sink_score")).alias("sink_score")
    path = contrasted_run(tmp_path / "run", change=lambda heads: heads.with_columns(gap)).path
    thalweg.contrast(path)
    (section,) = sections(open_run(path))
    top, change = section.panels[0].heat, section.panels[1].heat
    assert np.isnan(top.grid[:, 1]).all()
    assert np.isfinite(np.delete(top.grid, 1, axis=1)).all()
    assert not change.dots[:, 1].any()


def test_it_is_shown_where_there_is_one(tmp_path):
    run = contrasted_run(tmp_path / "run", prompts=20, data=("words", "sums"))
    assert sections(run) == []
    thalweg.contrast(run.path)
    both = shown(open_run(run.path))
    assert [section.title for section in both] == ["inert on words", "inert on sums"]
    assert len({section.name for section in both}) == 2
    assert all(section.name.startswith("contrast_inert") for section in both)


def test_a_contrast_that_came_to_nothing_is_said_and_not_drawn(tmp_path):
    run = made_up(tmp_path / "run", prompts=0, reason="too few")
    (section,) = sections(run)
    assert (section.only, section.name, section.panels) == ("terminal", "", ())
    assert section.key == run.experiments("contrast")[-1].header.key
    with add_findings(run.path, run.header, "contrast", {"by": "svi"}):
        pass  # stopped before its tables
    assert shown(open_run(run.path)) == []


def test_the_last_one_counts_and_earlier_ones_are_for_who_asks(tmp_path):
    path = contrasted_run(tmp_path / "run", prompts=PROMPTS).path
    thalweg.contrast(path, top=3)
    latest = thalweg.contrast(path, top=11)
    (section,) = shown(open_run(path))
    assert section.key == latest.header.key
    assert section.facts.endswith("11 a side")
    assert [(section.facts[-8:], section.only) for section in sections(open_run(path))][1:] == [
        ("3 a side", "terminal")
    ]


def test_of_several_checkpoints_the_last_is_shown(tmp_path):
    checkpoints = [replace(MODEL, revision=f"step{step}") for step in (1, 2)]
    path = contrasted_run(tmp_path / "run", prompts=20, models=checkpoints).path
    thalweg.contrast(path)
    where = {section.title: section.only for section in sections(open_run(path))}
    assert where == {"inert@step1 on words": "terminal", "inert@step2 on words": ""}


@pytest.mark.parametrize(("grown", "marked"), [(0, 0), (5, 1)])
def test_a_contrast_is_stale_once_its_run_has_grown(grown, marked):
    """And says what to run."""
    header = FindingsHeader(experiment="contrast", settings={"by": "sink_score", "length": 20, "top": None})
    contrast = Findings(Path("runs/a run/contrast/key"), header)
    said = stale(contrast, {"prompts": 20, "other_length": 3, "undefined": None}, 23 + grown)
    assert len(said) == marked
    for sentence in said:
        assert sentence.startswith("Stale: made of 23 prompts, and the run holds 28 by now. Run: thalweg contrast ")
        assert sentence.endswith("'runs/a run' --by=sink_score --length=20")

"""All heads as points, against the tables by a loop over heads and prompts, and C_min against the metric itself."""

import math

import numpy as np
import polars as pl
import pytest
import torch
from tests.synthetic_run import PLAIN, PLANTED, TAU, header, open_survey, part_tables, write_aggregates

from thalweg.experiments import Pair
from thalweg.experiments._survey.planes import head_means, least_concentration, planes_section
from thalweg.metrics import colsum_floor
from thalweg.store import Shard, open_run

PAIR = Pair(PLANTED.name, PLANTED.revision, "words", PLANTED.blocks)
AWAY = (1, 2)
"""A head that sinks on position 5."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return surveyed(tmp_path_factory.mktemp("planes") / "run")


def surveyed(path, **changes):
    with open_survey(path, header((PLANTED,), ("words",))) as writer:
        tables = part_tables(PLANTED, "words", range(8))
        away = (pl.col("block") == AWAY[0]) & (pl.col("head") == AWAY[1])
        told = {"top_position": 5, "top_score": 0.61, "colsum_concentration": 0.5, "diagonal": 0.7} | changes
        cells = [pl.when(away).then(pl.lit(value)).otherwise(pl.col(name)).alias(name) for name, value in told.items()]
        shard = Shard(PLANTED.name, PLANTED.revision, "words", 0, 8)
        writer.write_part(shard, {**tables, "heads": tables["heads"].with_columns(cells)})
        write_aggregates(writer, (PLANTED,), ("words",))
        writer.update(status="finished")
    return open_run(path)


def by_hand(run):
    """By head: scores of the prompts of 10 tokens or more, one after the other."""
    long = {row["prompt"] for row in run.prompts.collect().to_dicts() if row["sink_uniform"] < TAU}
    found = {}
    for row in run.heads.collect().to_dicts():
        if row["prompt"] in long:
            found.setdefault((row["block"], row["head"]), []).append(row)
    return found


def test_every_head_is_a_point_of_both_planes(run):
    concentrated, turned = planes_section(run, PAIR).panels
    rows = by_hand(run)
    assert len(rows) == PLANTED.blocks * PLANTED.heads
    for panel, at, mean in (
        (concentrated, lambda row: row["sink_score"] / row["attended"], lambda row: row["colsum_concentration"]),
        (turned, lambda row: row["svi"], lambda row: row["sink_score"] + row["diagonal"]),
    ):
        points = panel.points[0].rows
        for value, column in ((at, "at"), (mean, "mean")):
            expected = [math.fsum(map(value, rows[head])) / len(rows[head]) for head in sorted(rows)]
            assert points[column].to_list() == pytest.approx(expected, rel=1e-6)
        assert points["shade"].to_list() == [block for block, _ in sorted(rows)]
        assert (panel.scale.low, panel.scale.high) == (0, PLANTED.blocks - 1)


def test_a_point_names_its_head_and_in_how_many_prompts_it_sinks(run):
    [points] = planes_section(run, PAIR).panels[0].points
    labels = [points.said.format(**row) for row in points.rows.to_dicts()]
    for (block, head), rows in by_hand(run).items():
        share = sum(row["sink_score"] >= TAU for row in rows) / len(rows)
        expected = f"block {block}, head {head}: sinks in {100 * share:.0f} % of {len(rows)} prompts"
        assert expected == labels[block * PLANTED.heads + head]


@pytest.mark.parametrize("tokens", [2, 10, 64, 1024])
def test_the_curve_is_the_floor_of_the_metric(tokens):
    scores = np.linspace(0, 1, 21)
    mass = np.full((len(scores), 1, tokens), ((1 - scores) / (tokens - 1))[:, None, None]) * tokens
    mass[:, 0, 0] = scores * tokens
    floor = colsum_floor(torch.from_numpy(mass), lengths=torch.full((len(scores),), tokens))[:, 0].numpy()
    assert least_concentration(scores, tokens) == pytest.approx(floor, abs=1e-9)


def test_the_curve_is_that_of_the_median_prompt(run):
    long = run.prompts.filter(pl.col("sink_uniform") < TAU).collect()["tokens"].median()
    line = planes_section(run, PAIR).panels[0].lines[0]
    assert line.name == f"C_min, T = {round(long)}"
    assert line.rows["mean"].to_list() == pytest.approx(least_concentration(line.rows["at"].to_numpy(), round(long)))


def test_heads_that_sink_elsewhere_are_named(run):
    said = planes_section(run, PAIR).sentences[0]
    assert said.startswith(
        "Sinks elsewhere, with a ColSum concentration of 0.3 or more and a sink score below it: head 2 of"
    )
    assert "head 2 of block 1 (0.50 against 0.01; top score 0.61, at position 5 in 100 % of prompts)" in said
    assert said.count("head ") == 1


def test_where_none_does_that_is_said(tmp_path):
    run = surveyed(tmp_path / "run", top_position=0)
    above = sum(rows[0]["colsum_concentration"] >= TAU for rows in by_hand(run).values())
    said = planes_section(run, PAIR).sentences[0]
    assert said == (
        f"No head sinks elsewhere: none of the {above} heads whose ColSum concentration reaches 0.3 prefers a token "
        "other than position 0"
    )


def test_heads_that_turn_to_the_sink_and_to_themselves_are_counted(run):
    means = {
        head: [math.fsum(row[name] for row in rows) / len(rows) for name in ("sink_score", "diagonal", "svi")]
        for head, rows in by_hand(run).items()
    }
    half = [svi for sink, diagonal, svi in means.values() if sink + diagonal >= 0.5]
    assert half
    sinks = sum(svi >= 0.5 for svi in half)
    said = planes_section(run, PAIR).sentences[1]
    assert said.startswith(f"{len(half)} of {len(means)} heads give half of their attention or more")
    assert said.endswith(f"{sinks} rather to the sink, {len(half) - sinks} rather to themselves")


def test_under_sink_logits_the_score_is_the_share_of_what_is_paid(tmp_path):
    run = surveyed(tmp_path / "run", attended=0.5)
    panel = planes_section(run, PAIR).panels[0]
    assert panel.x == "sink score / attention paid to tokens"
    place = AWAY[0] * PLANTED.heads + AWAY[1]
    own = by_hand(run)[AWAY]
    assert panel.points[0].rows["at"][place] == pytest.approx(
        2 * math.fsum(row["sink_score"] for row in own) / len(own)
    )
    assert head_means(run, PAIR)["sink_score"][place] == pytest.approx(panel.points[0].rows["at"][place] / 2)


def test_undefined_scores_are_left_out(tmp_path):
    run = surveyed(tmp_path / "run", sink_score=math.nan)
    assert (head_means(run, PAIR).filter(block=AWAY[0], head=AWAY[1])).is_empty()
    assert planes_section(run, Pair(PLAIN.name, PLAIN.revision, "words", 6)) is None

"""The report's sentences say what was planted, and say none where nothing was."""

import math

import polars as pl
import pytest
from tests.synthetic_run import (
    PLAIN,
    PLANTED,
    Plant,
    build_run,
    header,
    open_survey,
    part_tables,
    write_aggregates,
    write_parts,
)

import thalweg.report
from thalweg.figures import pairs
from thalweg.report import (
    massive_answer,
    massive_table,
    sink_answer,
    sinking_heads,
    theorem_verdict,
    where_answer,
)
from thalweg.report._sinks import shortest_prompt
from thalweg.report._words import amount, counted, listing, percent, spans
from thalweg.store import Shard, open_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("report") / "run", data=("words",))


def planted(run):
    return pairs(run)[0]


def plain(run):
    return pairs(run)[1]


def single(path, model, change=lambda tables: tables, **options):
    with open_survey(path, header((model,), ("words",))) as writer:
        tables = change(part_tables(model, "words", range(6), **options))
        writer.write_part(Shard(model.name, "main", "words", 0, 6), tables)
        write_aggregates(writer, (model,), ("words",))
    run = open_run(path)
    return run, pairs(run)[0]


def test_a_planted_massive_activation_is_told_exactly(run):
    answer = massive_answer(run, planted(run))
    assert answer.verdict == "yes"
    assert answer.text == (
        "Yes: states 2 to 7 of 8 (25 % to 88 % of depth), position 0, dimensions 12 and 40, value 1,498."
    )
    where = where_answer(run, planted(run))
    assert where.text == "Written by block 1, first seen in state 2; taken away by block 7, gone in state 8."


def test_none_is_an_answer(run):
    massive = massive_answer(run, plain(run))
    assert massive.verdict == "no"
    assert massive.text == (
        "No massive activation: in no state does a row's norm reach 10 x the median row norm for half of the prompts."
    )
    sinks = sink_answer(run, plain(run))
    assert (sinks.verdict, sinks.text) == (
        "no",
        "No sink: no block's mean sink rate over prompts of 10 tokens or more is above 0.",
    )
    assert where_answer(run, plain(run)).text == "Nowhere: there is no compress phase."


def test_one_that_stays_to_the_end_and_one_there_from_the_start(tmp_path):
    run, pair = single(tmp_path / "a", Plant("m", 4, 2, first=0, last=4, dims=(3,), value=900.0))
    assert where_answer(run, pair).text == (
        "There from the embedding on; still there in the last state, 4: no refine phase."
    )
    run, pair = single(tmp_path / "b", Plant("m", 4, 2, first=2, last=2, dims=(3,), value=-900.0))
    assert massive_answer(run, pair).text == "Yes: state 2 of 4 (50 % of depth), position 0, dimension 3, value -900."


def test_massive_rows_without_a_massive_entry_are_told(tmp_path):
    def rows_only(tables):
        return tables | {"massive": tables["massive"].filter(pl.col("kind") == "row")}

    run, pair = single(tmp_path, PLANTED, rows_only)
    assert "position 0, no single entry that passes Sun et al.'s test" in massive_answer(run, pair).text


def test_the_planted_heads_are_the_ones_that_sink(run):
    answer, heads = sink_answer(run, planted(run)), sinking_heads(run, planted(run))
    assert answer.text == "Yes: 12 of 32 heads, in blocks 2 to 7 (mean sink score 0.3 or more)."
    assert "The sink rate is highest in block 2: 50 % of its heads." in answer.notes
    assert [block for block, _ in heads.by_block] == [2, 3, 4, 5, 6, 7]
    assert {head for _, found in heads.by_block for head, _ in found} == set(PLANTED.sinks)
    assert heads.rest == 0


def test_no_more_than_twenty_heads_are_listed(tmp_path):
    run, pair = single(tmp_path, Plant("m", 6, 8, 1, 6, (3,), 900.0, sinks=tuple(range(8))))
    heads = sinking_heads(run, pair)
    assert heads.total == 40
    assert sum(len(found) for _, found in heads.by_block) == 20
    assert heads.rest == 20


def test_sinks_in_some_prompts_only_are_not_called_none(tmp_path):
    def once(tables):
        here = (pl.col("prompt") == 0) & (pl.col("block") == 3) & (pl.col("head") == 1)
        score = pl.when(here).then(0.9).otherwise("sink_score")
        return tables | {"heads": tables["heads"].with_columns(sink_score=score)}

    run, pair = single(tmp_path, PLAIN, once)
    answer = sink_answer(run, pair)
    assert answer.verdict == "partly"
    assert answer.text == "In some prompts only: no head's mean sink score reaches 0.3."
    assert answer.notes[0].startswith("The sink rate is highest in block 3: ")


def test_sinks_away_from_the_sink_position_are_told(tmp_path):
    def moved(tables):
        there = (pl.col("block") == 2) & (pl.col("head") == 0)
        return tables | {
            "heads": tables["heads"].with_columns(
                top_position=pl.when(there).then(5).otherwise("top_position"),
                top_score=pl.when(there).then(0.8).otherwise("top_score"),
            )
        }

    run, pair = single(tmp_path, PLAIN, moved)
    assert sink_answer(run, pair).notes == ("1 head collect attention elsewhere, most often at position 5.",)


@pytest.mark.parametrize("tokens", [1, 9])
def test_short_prompts_give_no_verdict_on_sinks(tmp_path, tokens):
    run, pair = single(tmp_path, PLAIN, lengths=(tokens,))
    answer = sink_answer(run, pair)
    assert answer.verdict == "unknown"
    assert "no prompt of 10 tokens or more" in answer.text
    assert ("No prompt has two rows to compare." in massive_answer(run, pair).notes) == (tokens == 1)
    assert theorem_verdict(run, pair).text.startswith("No row" if tokens == 1 else "Held on all")


def test_an_unfinished_run_does_not_guess(tmp_path):
    with open_survey(tmp_path, header((PLAIN,), ("words",))) as writer:
        write_parts(writer, (PLAIN,), ("words",), prompts=2)
    run = open_run(tmp_path)
    for answer in (massive_answer, where_answer, sink_answer):
        found = answer(run, pairs(run)[0])
        assert found.verdict == "unknown"
        assert "Not known yet: the run has status started" in found.text


def test_the_theorem_held_and_was_tight_where_it_should_be(run):
    verdict = theorem_verdict(run, planted(run))
    assert verdict.held
    assert verdict.text == "Held on all 72 rows where it says something."
    inside, outside = (float(getattr(verdict.tightness[0], side)) for side in ("inside", "outside"))
    assert 0 <= inside < 0.01 < outside


def test_a_broken_bound_is_said(tmp_path):
    def broken(tables):
        return tables | {"layers": tables["layers"].with_columns(bound_violated=pl.col("state") == 1)}

    run, pair = single(tmp_path, PLANTED, broken)
    verdict = theorem_verdict(run, pair)
    assert not verdict.held
    assert verdict.text.startswith("Broken on 6 of 54 rows")


def test_massive_activations_are_drawn_together(run):
    table = massive_table(run, planted(run))
    assert table.select("kind", "position", "dim", "value", "share").rows() == [
        ("entry", 0, 12, 1498.0, 1.0),
        ("entry", 0, 40, 1498.0, 1.0),
        ("row", 0, None, None, 1.0),
    ]
    assert table["states"][0].to_list() == [2, 3, 4, 5, 6, 7]
    assert massive_table(run, plain(run)).height == 0


def test_the_shortest_prompt_is_where_a_uniform_head_passes_tau():
    assert shortest_prompt(0.3) == 10
    assert sum(1 / k for k in range(1, 10)) / 9 >= 0.3 > sum(1 / k for k in range(1, 11)) / 10
    assert shortest_prompt(1.1) == 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1498.0, "1,498"),
        (0.0, "0"),
        (0.5, "0.500"),
        (12.345, "12.3"),
        (2e-5, "2.0e-05"),
        (-3.0, "-3.00"),
        (7, "7"),
        (math.inf, "infinite"),
        (math.nan, "\N{EN DASH}"),
        (None, "\N{EN DASH}"),
    ],
)
def test_numbers_read_as_people_write_them(value, words):
    assert amount(value) == words


def test_almost_none_is_not_none():
    assert [percent(share) for share in (0.0, 0.001, 0.254, 0.999, 1.0)] == [
        "0 %",
        "under 1 %",
        "25 %",
        "over 99 %",
        "100 %",
    ]
    assert [counted(number, "head") for number in (1, 2000)] == ["1 head", "2,000 heads"]
    assert [listing(items) for items in ([], [1], [1, 2], [1, 2, 3])] == ["none", "1", "1 and 2", "1, 2 and 3"]
    assert [spans(items) for items in ([2, 3, 4], [1, 2], [1, 2, 5, 6, 7], [4], [1, 3])] == [
        "2 to 4",
        "1 and 2",
        "1, 2 and 5 to 7",
        "4",
        "1 and 3",
    ]


def test_public_names_are_sorted_and_there():
    names = thalweg.report.__all__
    assert names == sorted(names)
    assert all(hasattr(thalweg.report, name) for name in names)

"""What a survey shows says what was planted, and says none where nothing was; its panels hold the run's tables."""

import math
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from tests.synthetic_run import (
    PLAIN,
    PLANTED,
    Plant,
    add_findings,
    build_run,
    header,
    open_survey,
    part_tables,
    write_aggregates,
    write_parts,
)

from thalweg.experiments import pairs
from thalweg.experiments._survey.answers import (
    massive_answer,
    massive_rows,
    massive_section,
    shortest_prompt,
    sink_answer,
    sink_scores,
    sinking_heads,
    strongest_heads,
)
from thalweg.experiments._survey.phases import (
    coupling_answer,
    ending_words,
    phase_tables,
    phases_answer,
    row_answer,
    where_answer,
)
from thalweg.experiments._survey.theorem import bound_curves, theorem_section, theorem_verdict
from thalweg.experiments._survey.view import DEPTH_COLUMNS, cards, chapters
from thalweg.shown import GREY, PALETTE, Rule, Span
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
    peak = run.segments.filter(planted(run).rows).collect()["peak_ratio"].item()
    assert where.text.startswith(
        f"Compress, states 2 to 7: a row {peak:,.0f} x the median at state 2, at position 0 ('<s>'), seen from state 2 "
        "on, so written by block 1 or earlier; ended by state 8, where the row is taken away (the row x 0.0"
    )
    assert (
        "The prompts' own compress phases: the same first state in 100 % of them, the same last in 100 %."
        in where.notes
    )
    assert where.rests == "segments, phases: 8 prompts"


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
    where = where_answer(run, pair)
    assert "there from the embedding on; still there in the last state, 4." in where.text
    assert where.notes[0] == "State 0, which no block has written, is massive."
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
    assert heads["block"].unique().sort().to_list() == [2, 3, 4, 5, 6, 7]
    assert set(heads["head"]) == set(PLANTED.sinks)
    said = strongest_heads(run, planted(run))
    assert said.startswith("The strongest: block 2: head 1 (0.9")
    blocks = [words.split(":")[0] for words in said.removeprefix("The strongest: ").split("; ")]
    assert blocks == [f"block {block}" for block in range(2, 8)]
    assert "more" not in said


def test_no_more_than_twenty_heads_are_listed(tmp_path):
    run, pair = single(tmp_path, Plant("m", 6, 8, 1, 6, (3,), 900.0, sinks=tuple(range(8))))
    assert sinking_heads(run, pair).height == 40
    said = strongest_heads(run, pair)
    assert said.count("head ") == 20
    assert said.endswith(" and 20 more")


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
    assert sink_answer(run, pair).notes == ("1 head collects attention elsewhere, most often at position 5.",)


@pytest.mark.parametrize("tokens", [1, 9])
def test_short_prompts_give_no_verdict_on_sinks(tmp_path, tokens):
    run, pair = single(tmp_path, PLAIN, lengths=(tokens,))
    answer = sink_answer(run, pair)
    assert answer.verdict == "unknown"
    assert "no prompt of 10 tokens or more" in answer.text
    assert ("No prompt has two rows to compare." in massive_answer(run, pair).notes) == (tokens == 1)
    assert theorem_verdict(run, pair).startswith("No row" if tokens == 1 else "Held on all")


def test_an_unfinished_run_does_not_guess(tmp_path):
    with open_survey(tmp_path, header((PLAIN,), ("words",))) as writer:
        write_parts(writer, (PLAIN,), ("words",), prompts=2)
    run = open_run(tmp_path)
    for answer in (massive_answer, where_answer, phases_answer, sink_answer, coupling_answer):
        found = answer(run, pairs(run)[0])
        assert found.verdict == "unknown"
        assert "Not known yet: the run has status started" in found.text


def test_the_theorem_held_and_was_tight_where_it_should_be(run):
    section = theorem_section(run, planted(run))
    assert section.sentences == ["Held on all 72 rows where it says something"]
    [table] = section.tables
    assert table.columns == ("quantity", "unit", "inside the compress phase", "outside")
    assert table.rows[0][:2] == ["entropy", "nats"]
    inside, outside = map(float, table.rows[0][2:])
    assert 0 <= inside < 0.01 < outside


def test_a_broken_bound_is_said(tmp_path):
    def broken(tables):
        return tables | {"layers": tables["layers"].with_columns(bound_violated=pl.col("state") == 1)}

    run, pair = single(tmp_path, PLANTED, broken)
    assert theorem_verdict(run, pair).startswith("Broken on 6 of 54 rows")


def test_massive_activations_are_drawn_together(run):
    table = massive_rows(run, planted(run))
    assert table.select("kind", "position", "dim", "value", "share").rows() == [
        ("entry", 0, 12, 1498.0, 1.0),
        ("entry", 0, 40, 1498.0, 1.0),
        ("row", 0, None, None, 1.0),
    ]
    assert table["states"][0].to_list() == [2, 3, 4, 5, 6, 7]
    assert massive_rows(run, plain(run)).height == 0


@pytest.mark.parametrize("positions", [3, 4])
def test_positions_at_which_one_dimension_is_massive_share_a_line_where_they_are_many(tmp_path, positions):
    def more(tables):
        rows = tables["massive"].filter(pl.col("kind") == "entry", pl.col("dim") == 12)
        at = pl.lit(list(range(1, positions + 1)), dtype=pl.List(tables["massive"].schema["position"]))
        others = rows.with_columns(position=at, value=pl.col("value") / 2).explode("position")
        return tables | {"massive": pl.concat([tables["massive"], others.select(rows.columns)])}

    run, pair = single(tmp_path, PLANTED, more)
    [table] = massive_section(run, pair).tables
    told = [row[1] for row in table.rows if row[3] == "12"]
    if positions == 3:
        assert told == ["0", "1", "2", "3"]
        assert "share a line" not in table.note
    else:
        assert told == ["0", "4 positions, 1 to 4"]
        assert [row[5] for row in table.rows if row[3] == "12"] == ["1,498", "749"]
        assert table.note.endswith("at more than 3 positions, the sink apart, they share a line.")
    assert massive_rows(run, pair).height == 3 + positions


def test_of_several_models_a_bar_under_the_axis_shows_each_compress_phase(run):
    sections = {chapter.title: chapter.sections for chapter in chapters(run)}
    depth, heads = sections["Through depth"][0], sections["Heads"][0]
    for panel in depth.panels:
        assert not panel.spans
        assert [(bar.first, bar.last, bar.group) for bar in panel.tracks] == [(1.5 / 8, 7.5 / 8, "planted")]
        assert panel.tracks[0].color == next(line.color for line in panel.lines if line.name == "planted")
    assert [(bar.first, bar.last) for bar in heads.panels[0].tracks] == [(1.5, 7.5)]
    assert heads.panels[0].heads == planted(run).key


def test_the_shortest_prompt_is_where_a_uniform_head_passes_tau():
    assert shortest_prompt(0.3) == 10
    assert sum(1 / k for k in range(1, 10)) / 9 >= 0.3 > sum(1 / k for k in range(1, 11)) / 10
    assert shortest_prompt(1.1) == 1


def test_bounds_are_averaged_over_the_prompts_of_what_they_bound(tmp_path):
    with open_survey(tmp_path, header((PLANTED,), ("words",))) as writer:
        tables = part_tables(PLANTED, "words", range(4))
        undefined = pl.col("prompt") == 0
        tables["layers"] = tables["layers"].with_columns(
            entropy_bound=pl.when(undefined).then(math.nan).otherwise("entropy_bound"),
            dominance_bound=pl.when(undefined).then(math.inf).otherwise("dominance_bound"),
            anisotropy_bound=pl.lit(math.nan),
        )
        writer.write_part(Shard(PLANTED.name, "main", "words", 0, 4), tables)
    run = open_run(tmp_path)
    table = bound_curves(run, pairs(run)[0])
    others = run.layers.filter((pl.col("state") == 3) & (pl.col("prompt") > 0)).collect()
    for name in ("entropy", "entropy_bound", "dominance", "dominance_bound_weak"):
        row = table.filter((pl.col("quantity") == name) & (pl.col("index") == 3)).row(0, named=True)
        assert row["mean"] == pytest.approx(others[name].mean())
        assert row["n"] == 3
    row = table.filter((pl.col("quantity") == "anisotropy") & (pl.col("index") == 3)).row(0, named=True)
    assert math.isnan(row["mean"])
    assert row["n"] == 0


def test_mean_measurement_lies_on_the_bounds_right_side(run):
    for pair in pairs(run):
        wide = bound_curves(run, pair).pivot("quantity", index="index", values="mean")
        assert (wide["entropy"] <= wide["entropy_bound"] + 1e-9).all()
        assert (wide["entropy_bound"] <= wide["entropy_bound_weak"] + 1e-9).all()
        assert (wide["anisotropy"] >= wide["anisotropy_bound"] - 1e-9).all()
        assert (wide["sigma1"] >= wide["sink_norm"] - 1e-9).all()
        assert (wide["frobenius"] >= wide["sigma1"] - 1e-9).all()


def test_sink_scores_leave_out_prompts_where_a_uniform_head_sinks(run):
    pair = pairs(run)[0]
    table = sink_scores(run, pair)
    heads = run.heads.filter(pair.rows & (pl.col("block") == 5) & (pl.col("head") == 1)).collect()
    lengths = run.prompts.filter(pair.rows).collect()["tokens"]
    long_enough = heads.filter((lengths >= 10).to_numpy())
    row = table.filter((pl.col("block") == 5) & (pl.col("head") == 1)).row(0, named=True)
    assert row["sink_score"] == pytest.approx(long_enough["sink_score"].mean(), rel=1e-6)
    assert row["n"] == long_enough.height == 6
    assert table.filter(pl.col("sink_score") >= 0.3)["head"].unique().sort().to_list() == list(PLANTED.sinks)


def shown(run):
    """The chapters by their anchors."""
    return {chapter.anchor: chapter for chapter in chapters(run)}


def only(chapter):
    [section] = chapter.sections
    return section


def test_chapters_come_in_reading_order(run):
    assert {anchor: chapter.title for anchor, chapter in shown(run).items()} == {
        "depth": "Through depth",
        "phases": "Phases",
        "theorem": "The theorem against measurement",
        "mixing": "Mixing and column sums",
        "norms": "Norms",
        "heads": "Heads",
        "massive": "Massive activations",
        "coupling": "Coupling",
    }
    assert "Sink rates leave out prompts of fewer than 10 tokens." in shown(run)["depth"].note
    assert shown(run)["heads"].note.startswith("The mean over prompts of 10 tokens or more.")


def test_every_axis_has_a_unit(run):
    for anchor in ("depth", "theorem", "mixing", "norms"):
        for section in shown(run)[anchor].sections:
            for panel in section.panels:
                assert "[" in panel.y
                assert panel.x in ("state", "block") or "[" in panel.x


def means(run, pair, metric):
    rows = run.profile.filter(pair.rows & (pl.col("metric") == metric)).sort("index").collect()
    return rows["mean"].to_list()


def test_the_profile_shows_every_model_and_the_others_in_grey(run):
    entropy, rate, norm = only(shown(run)["depth"]).panels
    assert [len(panel.lines) for panel in (entropy, rate, norm)] == [2, 2, 4]
    assert [panel.log_y for panel in (entropy, rate, norm)] == [False, False, True]
    assert [panel.share for panel in (entropy, rate, norm)] == [True, True, False]
    for panel, metric in ((entropy, "entropy_normalized"), (rate, "sink_rate"), (norm, "sink_norm")):
        named = [line for line in panel.lines if line.named]
        assert [line.name for line in named] == ["planted", "plain"]
        assert [line.color for line in named] == list(PALETTE[:2])
        for line, pair in zip(named, pairs(run), strict=True):
            np.testing.assert_array_equal(line.rows["mean"], means(run, pair, metric))
            last = pair.blocks - 1 if metric == "sink_rate" else pair.blocks
            assert line.rows["at"].max() == pytest.approx(last / pair.blocks)
        assert panel.spans == ()
    others = [line for line in norm.lines if not line.named]
    assert {line.color for line in others} == {GREY}
    assert [line.group for line in others] == ["planted", "plain"]
    for line, pair in zip(others, pairs(run), strict=True):
        np.testing.assert_array_equal(line.rows["mean"], means(run, pair, "rest_norm"))
    assert norm.title == "Norm of the sink token (others in grey)"
    assert (entropy.x, rate.x) == ("share of depth [state / blocks]", "share of depth [block / blocks]")


def test_a_single_model_has_its_phase_shaded_over_its_own_states(tmp_path):
    run, pair = single(tmp_path, PLANTED)
    entropy, rate, _ = only(shown(run)["depth"]).panels
    assert entropy.spans == rate.spans == (Span("compress phase", 2, 7),)
    [line] = entropy.lines
    assert line.rows["at"].max() == pair.blocks == PLANTED.blocks
    assert (entropy.x, rate.x) == ("state", "block")


def test_mixing_is_shown_by_block(run):
    panels = only(shown(run)["mixing"]).panels
    for panel, metric in zip(panels, ("colsum_rate", "mixing", "mixing_normalized"), strict=True):
        assert panel.x == "share of depth [block / blocks]"
        for line, pair in zip(panel.lines, pairs(run), strict=True):
            np.testing.assert_array_equal(line.rows["mean"], means(run, pair, metric))


def test_norms_have_a_panel_a_model_and_a_mark_where_the_others_rise(run):
    section = only(shown(run)["norms"])
    assert section.legend == "each"
    massive, not_massive = section.panels
    assert [panel.title for panel in section.panels] == ["planted", "plain"]
    assert massive.rules == (Rule("others rise", 7.0, GREY, ":", upright=True),)
    assert massive.spans == (Span("compress phase", 2, 7),)
    assert not_massive.rules == not_massive.spans == ()
    for panel, pair in zip(section.panels, pairs(run), strict=True):
        assert panel.log_y
        assert panel.y == "norm [activation units]"
        assert [(line.name, line.color) for line in panel.lines] == [
            ("sink token", PALETTE[0]),
            ("mean of the others", GREY),
        ]
        for line, metric in zip(panel.lines, ("sink_norm", "rest_norm"), strict=True):
            np.testing.assert_array_equal(line.rows["mean"], means(run, pair, metric))


def test_bounds_have_six_panels_a_model_with_its_phase_shaded(run):
    sections = shown(run)["theorem"].sections
    assert [section.title for section in sections] == ["planted on words", "plain on words"]
    for section, pair in zip(sections, pairs(run), strict=True):
        assert [len(panel.lines) for panel in section.panels] == [3, 3, 4, 3, 3, 4]
        assert [panel.log_y for panel in section.panels] == [True] * 4 + [False] * 2
        entropy = section.panels[5]
        assert [line.name for line in entropy.lines] == ["measured", "bound", "weak bound", "massive rows"]
        assert [line.band for line in entropy.lines] == [True, False, False, False]
        table = bound_curves(run, pair)
        for line, quantity in zip(entropy.lines, ("", "_bound", "_bound_weak", "_bound_massive"), strict=True):
            expected = table.filter(quantity=f"entropy{quantity}")
            assert line.rows.rows() == expected.select("index", "mean", "lower", "upper").rows()
    assert [(span.first, span.last) for span in sections[0].panels[0].spans] == [(2, 7)]
    assert sections[1].panels[0].spans == ()


def test_a_map_holds_the_mean_sink_score_of_every_head(run):
    section = shown(run)["heads"].sections[0]
    assert section.title == "planted on words"
    [panel] = section.panels
    assert panel.heat.grid.shape == (PLANTED.heads, PLANTED.blocks)
    for row in sink_scores(run, planted(run)).iter_rows(named=True):
        assert panel.heat.grid[row["head"], row["block"]] == row["sink_score"]
    assert (panel.heat.low, panel.heat.high, panel.heat.unit) == (0, 1, "share of attention")
    assert (panel.x, panel.y) == ("block", "head")


@pytest.mark.parametrize("gone", [0, 4])
def test_a_block_without_rows_is_a_gap_of_the_map(tmp_path, gone):
    run, _ = single(
        tmp_path, PLANTED, lambda tables: tables | {"heads": tables["heads"].filter(pl.col("block") != gone)}
    )
    [panel] = shown(run)["heads"].sections[0].panels
    assert np.isnan(panel.heat.grid[:, gone]).all()
    assert np.isfinite(np.delete(panel.heat.grid, gone, axis=1)).all()
    [line] = only(shown(run)["depth"]).panels[1].lines
    assert line.rows["mean"].is_nan().to_list() == [block == gone for block in range(PLANTED.blocks)]


def test_a_model_without_attention_rows_has_no_map(tmp_path):
    run, _ = single(tmp_path, PLAIN, lambda tables: tables | {"heads": tables["heads"].clear()})
    assert list(shown(run)["heads"].sections) == []


def test_the_verb_prints_the_means_by_depth_and_nothing_else(run):
    printed = [section for chapter in chapters(run) for section in chapter.sections if section.key]
    [section] = printed
    assert section.key == run.survey.header.key
    assert list(section.sentences) == []
    assert [table.title for table in section.tables] == ["planted on words", "plain on words"]
    for table, pair in zip(section.tables, pairs(run), strict=True):
        assert table.columns == tuple(DEPTH_COLUMNS)
        assert [row[0] for row in table.rows] == list(range(pair.blocks + 1))
        for number, key in enumerate(DEPTH_COLUMNS.values()):
            if key is not None:
                expected = means(run, pair, key[1])
                expected += [None] * (pair.blocks + 1 - len(expected))
                assert [row[number] for row in table.rows] == expected
    assert [row[-1] for row in section.tables[0].rows] == ["mix"] * 2 + ["compress"] * 6 + ["refine"]


def test_phases_are_told_with_the_means_inside_them(run):
    table, segments, claims = only(shown(run)["phases"]).tables
    assert [row[:5] for row in table.rows] == [
        ["planted", "words", "mix", "0 and 1", "0 % to 12 %"],
        ["planted", "words", "compress", "2 to 7", "25 % to 88 %"],
        ["planted", "words", "refine", "8", "100 %"],
        ["plain", "words", "no compress phase", "0 to 6", "0 % to 100 %"],
    ]
    row = run.phases.filter(planted(run).rows).collect().row(0, named=True)
    assert table.rows[1][7] == f"{row['compress_sink_rate']:.3f}" == "0.500"
    assert [cells[-1] for cells in table.rows] == ["as the paper says"] * 3 + [""]
    [segment] = segments.rows
    assert (segment[0], segment[1], segment[2], segment[6], segment[7]) == (
        "compress",
        "2 to 7",
        2,
        2,
        "removed, state 8",
    )
    assert [cells[:2] for cells in claims.rows][:2] == [["mix", "mixes more than compress"], ["mix", "hardly sinks"]]
    assert phase_tables(run, [plain(run)])[1].rows == []


def test_every_claim_is_told_with_its_means_and_its_interval(run):
    answer = phases_answer(run, planted(run))
    assert (answer.verdict, answer.text) == ("yes", "Yes: mix, compress and refine are as the paper says.")
    mix, compress, refine = answer.notes
    claim = run.claims.filter(planted(run).rows, claim="entropy halved").collect().row(0, named=True)
    assert (
        f"entropy halved: as the paper says (normalized entropy {claim['here']:.3f} against {claim['there']:.3f}, "
        f"ratio {claim['mean']:.3f} [{claim['low']:.3f}, {claim['high']:.3f}], at most 0.500)"
    ) in compress
    assert "of the drop, at least 0.333" in refine
    assert "sinks less than compress: no block reads the refine phase; the last block has " in refine
    assert mix.startswith("Mix: mixes more than compress: as the paper says")
    assert phases_answer(run, plain(run)).text == "There are no phases: no state is massive."


def test_claims_that_do_not_hold_are_told_by_phase(tmp_path):
    run, pair = single(tmp_path, Plant("m", 4, 2, first=1, last=4, dims=(3,), value=900.0, sinks=(0,)))
    answer = phases_answer(run, pair)
    assert answer.verdict == "partly"
    assert "refine is not here" in answer.text
    assert "no refine state" in answer.notes[2]


def test_whether_the_row_compresses_is_told_with_what_it_rests_on(run, tmp_path):
    answer = row_answer(run, planted(run))
    row = run.phases.filter(planted(run).rows).collect().row(0, named=True)
    assert answer.text.startswith(f"Yes, the row compresses: {row['given_back']:.3f} [")
    assert answer.notes[0].startswith("The norm alone would do: it explains over 99 %")
    assert answer.rests == "phases: entropy_without_massive of 8 prompts"
    assert row_answer(run, plain(run)) is None

    def as_aligned_without(tables):
        return tables | {
            "layers": tables["layers"].with_columns(entropy_without_massive_normalized=pl.col("entropy_normalized"))
        }

    other, pair = single(tmp_path, PLANTED, as_aligned_without)
    assert row_answer(other, pair).text.startswith("No, the row is not what compresses: the others are as aligned")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"last": 8}, "still there in the last state, 8"),
        ({"end": None, "end_state": 7}, "no end: the row does not fall behind it"),
        ({"end": None, "end_state": None}, "its end is not known"),
        (
            {"end": "both"},
            "ended by both, a smaller row and larger others, by state 7 (the row x 0.232, the others x 6.40)",
        ),
        (
            {"end": "caught up"},
            "ended by state 7, where the others have caught up (the row x 0.232, the others x 6.40)",
        ),
    ],
)
def test_how_a_segment_ends_is_told(row, said):
    whole = {"last": 5, "end_state": 7, "end": "removed", "row_factor": 0.232, "others_factor": 6.4} | row
    assert ending_words(whole, 8) == said


def test_waves_shoulders_and_moving_lines_are_told(tmp_path):
    def waves(tables):
        ratios = {2: 12.0, 3: 6.0, 5: 900.0, 6: 400.0, 7: 20.0}
        ratio = pl.col("state").replace_strict(ratios, default=1.0, return_dtype=pl.Float64)
        return tables | {"layers": tables["layers"].with_columns(row_ratio=ratio)}

    run, pair = single(tmp_path, PLANTED, waves)
    answer = where_answer(run, pair)
    assert answer.notes[0].startswith("An earlier wave, state 2: a row 12.0 x the median at state 2, at position 0")
    assert "seen from state 2 on, so written by block 1 or earlier" in answer.notes[0]
    assert answer.notes[0].endswith("left out of the means until state 3.")
    assert "Massive beside it, in the same run: state 7." in answer.notes
    table = only(shown(run)["phases"]).tables[1]
    assert [row[:2] for row in table.rows] == [["wave", "2"], ["compress", "5 to 6 (shoulders 7)"]]


def test_the_coupling_is_told_in_plain_words(run):
    assert coupling_answer(run, planted(run)).text == (
        "Entropy falls as the norm rises, r = -0.93, as in the paper; sinks come as the norm rises, r = 0.61, as in "
        "the paper."
    )
    unknown = coupling_answer(run, plain(run))
    assert unknown.verdict == "unknown"
    assert "whether sinks come as the norm rises cannot be told" in unknown.text
    assert "The sink rate is the same in every block." in unknown.notes


def test_a_coupling_that_is_not_here_says_how_the_norm_runs(tmp_path):
    with open_survey(tmp_path, header((PLANTED,), ("words",))) as writer:
        write_parts(writer, (PLANTED,), ("words",))
        write_aggregates(writer, (PLANTED,), ("words",))
        coupled = writer.reading().table("coupling").collect()
        faint = coupled.with_columns(coupling_entropy=0.04, coupling_sink=0.31)
        writer.write_table("coupling", faint)
    run = open_run(tmp_path)
    answer = coupling_answer(run, pairs(run)[0])
    assert answer.verdict == "partly"
    assert answer.text.startswith("Entropy does not fall as the norm rises, r = 0.04: not here; sinks come")
    assert "weaker than in the paper" in answer.text
    assert answer.notes[0] == "The sink token's norm is largest at state 7."


def test_a_coupling_that_is_undefined_says_why(run):
    [table] = only(shown(run)["coupling"]).tables
    assert table.columns[:2] == ("model", "data")
    assert [row[2:5] for row in table.rows] == [["-0.930", "0.610", "0.120"], ["-0.930", *["\N{EN DASH}"] * 2]]
    assert [row[5] for row in table.rows] == ["", "the sink rate is the same in every block"]


def test_massive_activations_are_a_table_or_none(run):
    first, second = shown(run)["massive"].sections
    [table] = first.tables
    assert table.title == "planted on words"
    assert table.rows[0] == ["entry", "0", "'<s>'", "12", "2 to 7", "1,498", "2,118", "100 %"]
    assert table.note == "At most 16 are stored per prompt and state, the largest first."
    assert list(second.sentences) == ["plain on words: none in any prompt and state"]


def test_a_card_holds_the_answers_about_one_model_on_one_data_set(run):
    first, second = cards(run)
    assert (first.title, first.about, first.remark) == ("planted", "on words, 8 prompts", "")
    assert [answer.question for answer in first.answers] == [
        "Massive activations?",
        "Where does the massive row begin and end?",
        "Does it mix, compress and refine as the paper says?",
        "Does the massive row make the compression?",
        "Which heads sink?",
        "Do norm, entropy and sinks move together?",
    ]
    assert first.answers[:2] == (massive_answer(run, planted(run)), where_answer(run, planted(run)))
    assert first.answers[4] == sink_answer(run, planted(run))
    assert all(answer.rests for answer in first.answers)
    assert len(second.answers) == 5
    assert list(first.details) == [strongest_heads(run, planted(run))]
    assert (second.title, list(second.details)) == ("plain", [])


def test_what_was_planted_is_said_before_any_answer(tmp_path):
    facts = header((PLANTED,), ("words",))
    model = facts.models[0].model_copy(update={"planted": "built in by hand"})
    with open_survey(tmp_path, facts.model_copy(update={"models": (model,)})) as writer:
        write_parts(writer, (PLANTED,), ("words",), prompts=2)
    [card] = cards(open_run(tmp_path))
    assert card.remark == "A test model: built in by hand."


def test_a_run_of_experiments_alone_shows_no_survey(tmp_path):
    with add_findings(tmp_path, header((PLAIN,), ("words",)), "clip", {}) as writer:
        writer.update(status="finished")
    run = open_run(tmp_path)
    assert list(chapters(run)) == []
    [card] = cards(run)
    assert (card.title, card.about, card.answers) == ("plain", "on words", ())


def test_an_unfinished_run_is_shown_as_far_as_it_came(tmp_path):
    with open_survey(tmp_path, header()) as writer:
        assert not [section for chapter in chapters(open_run(tmp_path)) for section in chapter.sections if section.name]
        write_parts(writer, (PLANTED,), ("words",), prompts=4)
    run = open_run(tmp_path)
    names = {
        section.name.split("_planted")[0] for chapter in chapters(run) for section in chapter.sections if section.name
    }
    assert names == {"bounds", "sink_map", "heads"}
    for anchor in ("depth", "mixing", "norms"):
        assert only(shown(run)[anchor]).sentences == ["Not drawn: the profile is not written yet"]
    for anchor in ("phases", "coupling"):
        assert only(shown(run)[anchor]).sentences == ["Not written yet"]


@pytest.mark.parametrize("lost", ["phases", "segments", "claims"])
def test_a_run_that_stopped_between_the_sums_of_its_phases_says_that_they_are_not_written(tmp_path, lost):
    run = build_run(tmp_path / "run", models=(PLANTED,), data=("words",))
    with open_survey(run.path, header((PLANTED,), ("words",))) as writer:
        writer.update(status="interrupted")
    next(run.path.glob(f"survey/*/{lost}.parquet")).unlink()
    run = open_run(run.path)
    assert only(shown(run)["phases"]).sentences == ["Not written yet"]
    [card] = cards(run)
    assert "unknown" in {answer.verdict for answer in card.answers}


def test_every_pair_and_every_data_set_has_its_figures(tmp_path):
    run = build_run(tmp_path / "run")
    names = [section.name for chapter in chapters(run) for section in chapter.sections if section.name]
    assert len(names) == len(set(names)) == 3 * 2 + 3 * 4
    assert set(names) > {"depth_profile_words", "depth_profile_sums", "mixing_words", "mixing_sums", "norms_words"}
    assert [section.title for section in shown(run)["depth"].sections] == ["words", "sums"]
    assert {section.name for section in shown(run)["depth"].sections} < set(names)


def test_a_single_data_set_needs_no_name(run):
    assert [only(shown(run)[anchor]).name for anchor in ("depth", "mixing", "norms")] == [
        "depth_profile",
        "mixing",
        "norms",
    ]
    assert only(shown(run)["depth"]).title == ""


def test_of_several_checkpoints_the_last_is_shown(tmp_path):
    steps = [Plant("lab/m", 4, 2, revision="step1"), Plant("lab/m", 4, 2, 1, 3, (3,), 900.0, revision="step2")]
    run = build_run(tmp_path / "run", steps, ("words",), prompts=2)
    [table] = only(shown(run)["depth"]).tables
    expected = means(run, pairs(run)[1], "sink_norm")
    assert [row[2] for row in table.rows] == expected
    assert [section.title for section in shown(run)["theorem"].sections] == ["m@step2 on words"]


def all_nan(tables):
    floats = {
        table: [name for name, kind in frame.schema.items() if kind.is_float()] for table, frame in tables.items()
    }
    return {
        table: frame.with_columns(pl.lit(math.nan).alias(name) for name in floats[table])
        for table, frame in tables.items()
    }


def test_metrics_without_a_single_value_are_gaps_all_along(tmp_path):
    run, pair = single(tmp_path, PLAIN, all_nan, lengths=(12,))
    for section in (theorem_section(run, pair), only(shown(run)["depth"])):
        for panel in section.panels:
            assert panel.lines
            assert all(line.rows["mean"].is_nan().all() for line in panel.lines)
    assert theorem_section(run, pair).sentences == ["No row it speaks about"]


def test_the_views_need_no_torch_and_no_painter(run):
    code = (
        "import sys, thalweg.store as s;"
        "from thalweg.experiments import experiments;"
        f"run = s.open_run({str(run.path)!r});"
        "own = [one for one in experiments() if one.name in ('survey', 'checkpoints')];"
        "assert sum(len(list(one.chapters(run))) for one in own) == 8;"
        "assert sum(len(list(one.cards(run))) for one in own) == 2;"
        "print([name for name in ('torch', 'matplotlib', 'plotly', 'rich', 'thalweg.capture', 'thalweg.metrics')"
        " if name in sys.modules])"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert outcome.stdout.strip() == "[]"

"""What moved between runs: whose truth is known, with whom each is compared, and what cannot be compared."""

import json

import numpy as np
import polars as pl
import pytest
from scipy import stats
from tests.painted import assert_painted
from tests.synthetic_run import PLAIN, PLANTED, Plant, build_run, header, open_survey, part_tables, write_aggregates

import thalweg
from thalweg.comparison import compared_in
from thalweg.errors import RunError, UsageError
from thalweg.store import PartCounts, Shard, Thresholds

DATA = ("words",)
OTHER = Plant("lab/planted", blocks=8, heads=4, first=2, last=5, dims=(12, 40), value=3000.0, sinks=(1,))


def run_of(path, model, data="words", prompts=8, texts="t", **options):
    """A run whose prompts have texts of their own."""
    asked = header((model,), (data,), **options)
    with open_survey(path, asked) as writer:
        tables = part_tables(model, data, range(prompts))
        hashes = [f"{texts}{row}" for row in range(prompts)]
        tables["prompts"] = tables["prompts"].with_columns(sha256=pl.Series(hashes))
        writer.write_part(Shard(model.name, "main", data, 0, prompts), tables, counts=PartCounts())
        write_aggregates(writer, (model,), (data,))
        writer.update(status="finished")
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("compared")
    return run_of(place / "one", PLANTED), run_of(place / "other", OTHER)


@pytest.fixture(scope="module")
def comparison(runs):
    return thalweg.compare(*runs)


def test_prompts_are_compared_with_themselves_place_by_place(comparison, runs):
    one, other = (thalweg.open_run(run).layers.filter(state=6).collect().sort("prompt") for run in runs)
    expected = stats.ttest_rel(other["entropy_normalized"], one["entropy_normalized"])
    row = comparison.places.row(
        by_predicate=(pl.col("index") == 6) & (pl.col("metric") == "entropy_normalized"), named=True
    )
    interval = expected.confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    assert row["p"] == pytest.approx(expected.pvalue)
    assert (row["paired"], row["moved"]) == (True, True)


def test_what_moved_is_said_and_what_did_not(comparison):
    text = ". ".join(comparison.sentences)
    assert "planted on words (other) against planted on words (one): sinks" in text
    assert "peak value 1,498 -> 3,000 (+1,502 [1,502, 1,502])" in text
    assert "Compress: states 2 to 7 of 8 -> states 2 to 5 of 8" in text
    assert "Largest entry moved at states 2 to 7" in text
    assert "Sink rate moved at blocks 2 to 7" in text
    assert "The sink score of 8 of 32 heads moved, most that of block" in text


def test_the_same_numbers_are_unchanged(runs, tmp_path):
    same = run_of(tmp_path / "same", PLANTED)
    comparison = thalweg.compare(runs[0], same)
    assert not comparison.places["moved"].any()
    text = ". ".join(comparison.sentences)
    assert "sinks unchanged (" in text
    assert "Compress: states 2 to 7 of 8 in both" in text
    assert "Unchanged at every state or block: normalized entropy, sink rate" in text
    assert "No head's sink score moved, of 32" in text


def test_other_prompts_are_compared_by_welch_and_that_is_said(runs, tmp_path):
    other = run_of(tmp_path / "new", OTHER, texts="u")
    comparison = thalweg.compare(runs[0], other)
    one, two = (thalweg.open_run(run).layers.filter(state=6).collect() for run in (runs[0], other))
    expected = stats.ttest_ind(two["sink_norm"], one["sink_norm"], equal_var=False)
    row = comparison.places.row(by_predicate=(pl.col("index") == 6) & (pl.col("metric") == "sink_norm"), named=True)
    assert row["p"] == pytest.approx(expected.pvalue)
    assert row["paired"] is False
    assert "not the same prompts (0 of 8 and 8 in both): means are compared, by Welch" in comparison.sections[0].facts


def test_prompts_that_only_one_has_are_left_out(runs, tmp_path):
    fewer = run_of(tmp_path / "fewer", PLANTED, prompts=5, max_length=512, thresholds=Thresholds(tau=0.2))
    [section, *_] = thalweg.compare(runs[0], fewer).sections
    assert "paired by text: 5 prompts in both, of 8 and 5" in section.facts
    assert "they differ in max length (1024 / 512) and tau (0.3 / 0.2)" in section.facts


def test_models_of_other_depth_are_compared_over_the_depth(tmp_path):
    run = build_run(tmp_path / "run", (PLANTED, PLAIN), DATA)
    comparison = thalweg.compare(run)
    assert set(comparison.places["site"]) == {"depth"}
    assert comparison.heads.is_empty()
    text = ". ".join(comparison.sentences)
    assert "States and blocks are not compared one by one: the models differ in depth" in text
    assert "Compress: states 2 to 7 of 8 -> no phase" in text
    [section] = comparison.sections
    assert section.panels[0].x == "share of depth [state / blocks]"
    assert float(section.panels[0].lines[1].rows["at"].max()) == 1.0


def test_two_of_one_run_are_named(tmp_path):
    run = build_run(tmp_path / "run", (PLANTED, PLAIN), ("words", "sums"))
    names = [(each.one.name, each.other.name) for each in thalweg.compare(run).compared]
    assert names == [("planted on words", "plain on words"), ("planted on sums", "plain on sums")]
    for of, with_ in (("planted on words", "planted on sums"), ("sums", "words")):
        [*found] = thalweg.compare(run, of=of, with_=with_).compared
        assert all(each.one.pair.model == each.other.pair.model for each in found)
    [two] = thalweg.compare(run, of="sums", with_="sums").compared
    assert (two.one.name, two.other.name) == ("planted on sums", "plain on sums")
    [one] = thalweg.compare(run, of="lab/plain", with_="planted on words").compared
    assert (one.one.name, one.other.name) == ("plain on words", "planted on words")
    with pytest.raises(UsageError, match=r"--of 'plan': .* holds planted on words, plain on words"):
        thalweg.compare(run, of="plan")


def test_a_page_compares_with_the_first_or_with_what_is_nearest_in_another_run(runs, tmp_path):
    def names(run, against=None):
        return [(each.one.name, each.other.name) for each in compared_in(run, against).compared]

    models = tuple(Plant("lab/a", 3, 1, revision=revision) for revision in ("x", "y"))
    run = build_run(tmp_path / "run", (*models, Plant("lab/b", 3, 1)), DATA)
    assert names(run) == [("a@x on words", "a@y on words"), ("a@x on words", "b on words")]
    training = build_run(tmp_path / "trained", (*models, Plant("lab/a", 3, 1, revision="z")), ("words", "sums"))
    assert names(training) == [("a@z on words", "a@z on sums")]
    one, other = map(thalweg.open_run, runs)
    assert names(one) == []
    assert names(other, one) == [("planted on words (one)", "planted on words (other)")]
    assert names(run, one) == [("planted on words", f"{name} on words") for name in ("a@x", "a@y", "b")]
    folded = [section.folded for section in compared_in(run).sections]
    assert folded == [False] * 3 + [True] * 3


def test_what_is_not_clear_or_not_there_is_one_line(runs, tmp_path):
    models = tuple(Plant(f"lab/{name}", 3, 1) for name in "abc")
    several = build_run(tmp_path / "several", models, DATA)
    with pytest.raises(UsageError, match="say which are compared by --of and --with: there are a on words, b on"):
        thalweg.compare(several)
    with pytest.raises(UsageError, match="holds planted on words alone; name another run beside it"):
        thalweg.compare(runs[0])
    strange = run_of(tmp_path / "strange", PLAIN, data="sums")
    with pytest.raises(RunError, match="have nothing in common: one holds planted on words, the other plain on sums"):
        thalweg.compare(runs[0], strange)
    with open_survey(tmp_path / "empty", header((PLANTED,), DATA)):
        pass
    with pytest.raises(RunError, match="holds no surveyed prompt to compare"):
        thalweg.compare(runs[0], tmp_path / "empty")


def test_a_run_of_a_newer_format_is_one_line(runs, tmp_path):
    newer = run_of(tmp_path / "newer", PLANTED)
    header_file = newer / "run.json"
    header_file.write_text(json.dumps({**json.loads(header_file.read_text()), "format": 99}))
    with pytest.raises(RunError, match=r"newer was written by a newer thalweg: format 99.*Upgrade thalweg\."):
        thalweg.compare(runs[0], newer)


def test_figures_and_page_show_the_numbers_of_the_same_panels(comparison, runs, tmp_path):
    sections = comparison.sections
    assert [section.name for section in sections] == ["compare", "compare_differences", "compare_heads"]
    for section in sections:
        assert_painted(section)
    bars = [[(bar.name, bar.group, bar.first, bar.last) for bar in each.panels[1].tracks] for each in sections]
    names = ("planted on words (one)", "planted on words (other)")
    phases = list(zip(names, (1.5, 1.5), (7.5, 5.5), strict=True))  # no block reads the last state
    assert bars[0] == [("compress phase", *phase) for phase in phases]
    assert bars[1] == bars[2] == [(f"compress phase of {phase[0]}", *phase) for phase in phases]
    heat = sections[2].panels[0].heat
    assert heat.diverging
    assert heat.low == -heat.high
    assert np.count_nonzero(heat.dots) == 8
    drawn = thalweg.compare(*runs, path=tmp_path / "figures").figures
    assert sorted(drawn) == sorted((tmp_path / "figures").iterdir())

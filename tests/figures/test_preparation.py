"""Prepared tables say what the run's tables say, with gaps as gaps."""

import math

import numpy as np
import polars as pl
import pytest
from tests.synthetic_run import PLAIN, PLANTED, Plant, build_run, header, open_survey, part_tables, write_aggregates

import thalweg.figures
from thalweg.figures import bound_curves, compress_span, curves, labels, pairs, share_of_depth, sink_grid, sink_scores
from thalweg.store import Shard, open_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("figures") / "run")


def first(run):
    return pairs(run)[0]


def test_pairs_are_every_model_on_every_data_set_in_order(run):
    assert [(pair.model, pair.data) for pair in pairs(run)] == [
        ("lab/planted", "words"),
        ("lab/plain", "words"),
        ("lab/planted", "sums"),
        ("lab/plain", "sums"),
    ]
    assert [pair.model for pair in pairs(run, "sums")] == ["lab/planted", "lab/plain"]


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (("a/one", "b/two"), ["one", "two"]),
        (("a/one", "b/one"), ["a/one", "b/one"]),
        (("models/one/", "/"), ["one", "/"]),
    ],
)
def test_labels_are_as_short_as_tells_models_apart(names, short):
    models = tuple(Plant(name, 1, 1) for name in names)
    assert list(labels(header(models)).values()) == short


def test_revisions_of_one_model_are_told_apart():
    models = (Plant("a/one", 1, 1, revision="step1"), Plant("a/one", 1, 1, revision="step2"))
    assert list(labels(header(models)).values()) == ["a/one@step1", "a/one@step2"]


def test_curves_hold_the_profile_and_one_deviation_to_each_side(run):
    pair = first(run)
    table = curves(run, [pair], ["entropy_normalized", "sink_rate"])
    entropy = table.filter(pl.col("metric") == "entropy_normalized")
    layers = run.layers.filter(pair.rows & (pl.col("state") == 3)).collect()["entropy_normalized"]
    assert entropy["index"].to_list() == list(range(PLANTED.blocks + 1))
    row = entropy.row(3, named=True)
    assert row["mean"] == pytest.approx(layers.mean())
    assert row["upper"] - row["mean"] == pytest.approx(layers.std())
    assert row["mean"] - row["lower"] == pytest.approx(layers.std())
    assert row["depth"] == pytest.approx(3 / PLANTED.blocks)
    assert table.filter(pl.col("metric") == "sink_rate")["index"].to_list() == list(range(PLANTED.blocks))


def test_ratios_spread_by_a_factor(run):
    pair = first(run)
    row = curves(run, [pair], ["norm_ratio"]).row(4, named=True)
    logs = run.layers.filter(pair.rows & (pl.col("state") == 4)).collect()["norm_ratio"].log()
    assert row["mean"] == pytest.approx(math.exp(logs.mean()))
    assert row["upper"] / row["mean"] == pytest.approx(math.exp(logs.std()))
    assert row["mean"] / row["lower"] == pytest.approx(math.exp(logs.std()))


def test_models_of_different_depth_are_compared_by_share_of_it(run):
    assert share_of_depth(pairs(run))
    assert not share_of_depth([first(run)])


def test_a_block_without_rows_is_a_gap_and_not_a_zero(tmp_path):
    with open_survey(tmp_path, header((PLANTED,), ("words",))) as writer:
        tables = part_tables(PLANTED, "words", range(4))
        tables["heads"] = tables["heads"].filter(pl.col("block") != 4)
        writer.write_part(Shard(PLANTED.name, "main", "words", 0, 4), tables)
        write_aggregates(writer, (PLANTED,), ("words",))
    run = open_run(tmp_path)
    table = curves(run, pairs(run), ["sink_rate"])
    assert table["index"].to_list() == list(range(PLANTED.blocks))
    assert math.isnan(table["mean"][4])
    assert table["n"][4] == 0
    grid = sink_grid(sink_scores(run, first(run)), PLANTED.blocks)
    assert np.isnan(grid[:, 4]).all()
    assert np.isfinite(np.delete(grid, 4, axis=1)).all()


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
    table = bound_curves(run, first(run))
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
    pair = first(run)
    table = sink_scores(run, pair)
    heads = run.heads.filter(pair.rows & (pl.col("block") == 5) & (pl.col("head") == 1)).collect()
    lengths = run.prompts.filter(pair.rows).collect()["tokens"]
    long_enough = heads.filter((lengths >= 10).to_numpy())
    row = table.filter((pl.col("block") == 5) & (pl.col("head") == 1)).row(0, named=True)
    assert row["sink_score"] == pytest.approx(long_enough["sink_score"].mean(), rel=1e-6)
    assert row["n"] == long_enough.height == 6
    assert table.filter(pl.col("sink_score") >= 0.3)["head"].unique().sort().to_list() == list(PLANTED.sinks)


def test_the_compress_span_is_the_planted_one(run):
    assert [compress_span(run, pair) for pair in pairs(run, "words")] == [(2, 7), None]


def test_an_unfinished_run_has_no_span(tmp_path):
    open_survey(tmp_path, header()).close()
    run = open_run(tmp_path)
    assert compress_span(run, first(run)) is None


def test_public_names_are_sorted_and_there():
    names = thalweg.figures.__all__  # constants, classes, functions
    assert names == sorted(names, key=lambda name: (not name.isupper(), name.islower(), name))
    assert all(hasattr(thalweg.figures, name) for name in names)


def test_depth_needs_the_depth_of_each_model(run):
    table = curves(run, pairs(run, "words"), ["sink_norm"])
    ends = table.group_by("model", maintain_order=True).agg(pl.col("depth").max(), pl.col("index").max())
    assert ends.rows() == [("lab/planted", 1.0, PLANTED.blocks), ("lab/plain", 1.0, PLAIN.blocks)]

"""What a run can be shown of, what to call it, and its curves through depth: the run's tables, gaps as gaps."""

import math

import polars as pl
import pytest
from tests.synthetic_run import PLAIN, PLANTED, Plant, build_run, header, open_survey, part_tables, write_aggregates

from thalweg.experiments import labels, pairs
from thalweg.experiments._views import along, compress_span, curves, shaded, share_of_depth
from thalweg.shown import Span
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
        (("a/one", "b/one", "c/two"), ["a/one", "b/one", "two"]),
        (("/x/a/one", "/y/a/one", "a/one"), ["x/a/one", "y/a/one", "a/one"]),
        (("models/one/", "/"), ["one", "/"]),
    ],
)
def test_labels_are_as_short_as_tells_models_apart(names, short):
    models = tuple(Plant(name, 1, 1) for name in names)
    assert list(labels(header(models)).values()) == short


def test_revisions_of_one_model_are_told_apart():
    models = (Plant("a/one", 1, 1, revision="step1"), Plant("a/one", 1, 1, revision="step2"))
    assert list(labels(header(models)).values()) == ["one@step1", "one@step2"]


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
    line = along(table, "index")
    assert line.columns == ["at", "mean", "lower", "upper"]
    assert line["at"].to_list() == list(range(PLANTED.blocks))
    assert line["mean"].is_nan().to_list() == [block == 4 for block in range(PLANTED.blocks)]


def test_the_compress_span_is_the_planted_one(run):
    assert [compress_span(run, pair) for pair in pairs(run, "words")] == [(2, 7), None]
    assert [shaded(compress_span(run, pair)) for pair in pairs(run, "words")] == [(Span("compress phase", 2, 7),), ()]


def test_an_unfinished_run_has_no_span(tmp_path):
    open_survey(tmp_path, header()).close()
    run = open_run(tmp_path)
    assert compress_span(run, first(run)) is None


def test_depth_needs_the_depth_of_each_model(run):
    table = curves(run, pairs(run, "words"), ["sink_norm"])
    ends = table.group_by("model", maintain_order=True).agg(pl.col("depth").max(), pl.col("index").max())
    assert ends.rows() == [("lab/planted", 1.0, PLANTED.blocks), ("lab/plain", 1.0, PLAIN.blocks)]

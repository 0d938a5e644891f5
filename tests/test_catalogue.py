"""The catalogue is complete, resolves, and costs no torch."""

import subprocess
import sys

import pytest

from thalweg.catalogue import METRICS, metric, metrics_at

HEADS = [
    "sink_score",
    "top_position",
    "top_score",
    "mixing",
    "mixing_normalized",
    "mixing_over_log_length",
    "colsum_concentration",
    "colsum_floor",
    "diagonal",
    "previous",
    "svi",
    "attended",
    "sink_value_norm",
    "rest_value_norm",
    "sink_key_norm",
    "rest_key_norm",
    "head_write_norm",
    "dormant",
]


@pytest.mark.parametrize("row", METRICS, ids=[row.name for row in METRICS])
def test_every_function_resolves_and_takes_what_the_row_says(row):
    function = row.resolve()
    assert callable(function)
    assert row.needs
    names = function.__wrapped__.__code__ if hasattr(function, "__wrapped__") else function.__code__
    keywords = set(names.co_varnames[: names.co_argcount + names.co_kwonlyargcount])
    assert set(row.needs[1:]) <= keywords, "the first is positional, the others are keywords"


@pytest.mark.parametrize("row", METRICS, ids=[row.name for row in METRICS])
def test_every_row_is_filled_in(row):
    assert row.title
    assert row.range
    assert len(row.reads_as) > 10
    assert not row.reads_as.endswith(".")
    assert row.unit or row.kind == "flag"
    assert row.high is None or row.low is not None
    assert row.label.startswith(row.title)
    assert row.label.endswith(f"({row.unit})") or row.kind == "flag"


def test_names_are_unique_and_found():
    names = [row.name for row in METRICS]
    assert len(names) == len(set(names))
    assert metric("entropy").unit == "nats"
    with pytest.raises(KeyError, match="closest: entropy"):
        metric("entropi")


def test_the_heads_table_is_covered():
    assert [row.name for row in metrics_at("head")] == HEADS


def test_variants_can_be_left_out():
    left_out = set(metrics_at("state")) - set(metrics_at("state", variants=False))
    assert {row.name for row in left_out} == {
        *("entropy_without_sink", "entropy_centred", "entropy_wei"),
        *("entropy_skean_1", "entropy_skean_2"),
    }


def test_ratios_are_averaged_as_logarithms():
    assert [row.name for row in METRICS if row.kind == "geometric"] == ["norm_ratio", "row_ratio"]


def test_reading_the_catalogue_imports_no_torch():
    code = "import sys, thalweg.catalogue; assert 'torch' not in sys.modules and 'polars' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

"""Two measurements compared against SciPy's own tests, place by place."""

import math

import numpy as np
import polars as pl
import pytest
from scipy import stats

from thalweg.averages import HEAD_PLACES, PLACES, compared, holm, measured_heads, measured_places

KEYS = {"model": "m", "revision": "main", "data": "d"}


def rows(values, metric="entropy_normalized", prompts=None, index=0):
    """One place of one metric."""
    prompts = range(len(values)) if prompts is None else prompts
    columns = {"prompt": list(prompts), "value": list(map(float, values))}
    frame = pl.DataFrame(columns, schema={"prompt": pl.Int64, "value": pl.Float64})
    return frame.with_columns(site=pl.lit("state"), index=pl.lit(index, pl.Int64), metric=pl.lit(metric))


@pytest.fixture
def drawn():
    random = np.random.default_rng(3)
    one = random.uniform(0.2, 0.8, 12)
    return one, one + random.normal(0.05, 0.04, 12)


def test_the_same_prompts_are_compared_with_themselves(drawn):
    one, other = drawn
    [row] = compared(rows(one), rows(other), by=PLACES, paired=True).to_dicts()
    expected = stats.ttest_rel(other, one)
    interval = expected.confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    assert row["difference"] == pytest.approx((other - one).mean())
    assert row["p"] == row["adjusted"] == pytest.approx(expected.pvalue)
    assert (row["one"], row["one_std"], row["n_one"]) == pytest.approx((one.mean(), one.std(ddof=1), 12))
    assert row["moved"] is True


def test_different_prompts_are_compared_by_welch(drawn):
    one, other = drawn[0], drawn[1][:7]
    [row] = compared(rows(one), rows(other), by=PLACES, paired=False).to_dicts()
    expected = stats.ttest_ind(other, one, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    assert row["p"] == pytest.approx(expected.pvalue)
    assert (row["n_one"], row["n_other"]) == (12, 7)


def test_ratios_are_compared_as_factors(drawn):
    one, other = drawn
    [row] = compared(rows(one, "row_ratio"), rows(other, "row_ratio"), by=PLACES, paired=True).to_dicts()
    logs = stats.ttest_rel(np.log(other), np.log(one))
    interval = logs.confidence_interval(0.95)
    assert row["difference"] == pytest.approx(np.exp(np.log(other / one).mean()))
    assert (row["low"], row["high"]) == pytest.approx((math.exp(interval.low), math.exp(interval.high)))
    assert row["one"] == pytest.approx(stats.gmean(one))


def test_only_prompts_that_both_have_and_finite_values_are_paired():
    one, other = rows([1, 2, math.nan, 4, 9], "sink_norm"), rows([2, 3, 5, 5.1], "sink_norm", prompts=(0, 1, 2, 3))
    [row] = compared(one, other, by=PLACES, paired=True).to_dicts()
    assert row["n_one"] == row["n_other"] == 3
    assert row["difference"] == pytest.approx((1 + 1 + 1.1) / 3)


def test_p_is_adjusted_over_the_places_of_a_metric():
    random = np.random.default_rng(0)
    one = pl.concat([rows(random.uniform(0.4, 0.6, 9), index=index) for index in range(5)])
    other = one.with_columns(value=pl.col("value") + pl.Series(random.normal(0.02, 0.03, 45)))
    table = compared(one, other, by=PLACES, paired=True)
    assert table["adjusted"].to_list() == pytest.approx(holm(table["p"].to_list()))
    assert (table["adjusted"] >= table["p"]).all()


@pytest.mark.parametrize(
    ("metric", "before", "after", "moved"),
    [
        ("sink_norm", 1000.0, 1009.0, False),  # below one per cent
        ("sink_norm", 1000.0, 1011.0, True),
        ("entropy_normalized", 0.2, 0.205, False),  # below 0.01, though above one per cent
        ("entropy_normalized", 0.2, 0.211, True),
        ("row_ratio", 100.0, 100.9, False),
        ("row_ratio", 100.0, 102.0, True),
    ],
)
def test_what_nobody_would_notice_has_not_moved(metric, before, after, moved):
    one, other = rows([before] * 3, metric), rows([after, after * (1 + 1e-7), after], metric)
    [row] = compared(one, other, by=PLACES, paired=True).to_dicts()
    assert row["adjusted"] < 0.05
    assert row["moved"] is moved


def test_what_is_the_same_has_not_moved_and_one_prompt_cannot_tell():
    [row] = compared(rows([0.1, 0.2]), rows([0.1, 0.2]), by=PLACES, paired=True).to_dicts()
    assert (row["difference"], row["low"], row["high"], row["p"], row["moved"]) == (0.0, 0.0, 0.0, 1.0, False)
    for paired in (True, False):
        [row] = compared(rows([0.1]), rows([0.5]), by=PLACES, paired=paired).to_dicts()
        assert row["moved"] is None
        assert math.isnan(row["low"])
    assert compared(rows([]), rows([0.5]), by=PLACES, paired=True).is_empty()


def test_the_numbers_of_a_prompt_are_those_of_its_rows():
    states = [{**KEYS, "prompt": p, "state": s, "entropy_normalized": e, "sink_norm": 1.0, "rest_norm": 1.0,
               "norm_ratio": 1.0, "row_ratio": 1.0 + s, "peak_value": -5.0 * s}
              for p in range(2) for s, e in enumerate((0.1, 0.5, 0.3))]  # fmt: skip
    heads = [{**KEYS, "prompt": p, "block": b, "head": h, "sink_score": 0.5 * h, "mixing_normalized": 0.25}
             for p in range(2) for b in range(2) for h in range(2)]  # fmt: skip
    prompts = pl.LazyFrame([{**KEYS, "prompt": p, "sink_uniform": 0.1} for p in range(2)])
    frame = pl.DataFrame(heads).with_columns(pl.col("sink_score", "mixing_normalized").cast(pl.Float32)).lazy()
    found = measured_places(pl.LazyFrame(states), frame, prompts, tau=0.3)
    overall = dict(found.filter(site="depth", prompt=0).select("metric", "value").iter_rows())
    assert overall == {
        "sink_rate": 0.5,
        "entropy_normalized": 0.3,  # that of state 0, which no block wrote, does not count
        "row_ratio": 3.0,
        "peak_value": 10.0,
        "mixing_normalized": 0.25,
    }
    assert found.filter(site="state", metric="peak_value", prompt=1)["value"].to_list() == [0.0, 5.0, 10.0]
    table = compared(measured_heads(frame), measured_heads(frame), by=HEAD_PLACES, paired=True)
    assert table.height == 8
    assert not table["moved"].any()

"""What states predict, averaged by token: against closed forms and SciPy's t interval."""

import math

import numpy as np
import polars as pl
import pytest
import scipy.stats

from thalweg.experiments._lens.measure import lens_curves

QUANTITIES = ("loss", "output_entropy", "agreement", "kl")


def rows(values, counts, **columns):
    own = {"model": "m", "revision": "main", "data": "d", "state": 0, **columns}
    sums = {f"{name}_sum": values for name in QUANTITIES}
    return pl.DataFrame({"prompt": range(len(values)), "scored": counts, **sums}).with_columns(
        pl.lit(value).alias(name) for name, value in own.items()
    )


def test_every_token_counts_once_and_perplexity_is_of_the_mean_loss():
    found = lens_curves(rows([2.0, 3.0], [1, 3]).lazy())
    values = dict(found.select("metric", "value").iter_rows())
    assert values["loss"] == 1.25
    assert values["perplexity"] == pytest.approx(math.exp(1.25), rel=1e-12)
    assert found["scored"].unique().to_list() == [4]
    # e = 2 - 1.25, 3 - 3.75; t(1) = 12.7062
    half = 12.706204736 * math.sqrt(2 * (0.75**2 + 0.75**2)) / 4
    row = found.filter(metric="loss").row(0, named=True)
    assert row["high"] - row["value"] == pytest.approx(half, rel=1e-8)


def test_prompts_of_equal_length_give_the_ordinary_t_interval():
    sums = np.random.default_rng(0).normal(5.0, 1.0, 12)
    row = lens_curves(rows(list(sums), [4] * 12).lazy()).filter(metric="kl").row(0, named=True)
    low, high = scipy.stats.t.interval(0.95, 11, (sums / 4).mean(), scipy.stats.sem(sums / 4))
    assert (row["low"], row["high"]) == pytest.approx((low, high), rel=1e-10)


def test_what_is_not_finite_is_left_out_and_nothing_is_nan_not_zero():
    found = lens_curves(rows([2.0, math.nan, 4.0], [2, 50, 4]).lazy()).filter(metric="loss")
    assert found.select("value", "scored", "n").row(0) == (1.0, 6, 2)
    empty = lens_curves(rows([math.nan], [3]).lazy()).filter(metric="loss").row(0, named=True)
    assert math.isnan(empty["value"])
    assert empty["n"] == 0
    assert lens_curves(rows([0.0], [0]).lazy()).height == 0

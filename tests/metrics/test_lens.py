"""What a state predicts: against SciPy and closed forms; averages by token."""

import math

import numpy as np
import polars as pl
import pytest
import scipy.special
import scipy.stats
import torch

from thalweg import metrics

TOKENS, VOCABULARY = 7, 23
QUANTITIES = ("loss", "output_entropy", "agreement", "kl")


def logits(seed, *, spread=4.0):
    return spread * torch.randn(TOKENS, VOCABULARY, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def pair():
    return logits(0), logits(1)


def test_every_quantity_is_scipys(pair):
    state, last = (metrics.log_probabilities(one) for one in pair)
    p, q = (scipy.special.softmax(one.double().numpy(), axis=-1) for one in pair)
    targets = torch.arange(TOKENS) * 3
    # float32 against float64, sums of 23 terms
    close = {"rtol": 2e-6, "atol": 2e-6}
    np.testing.assert_allclose(metrics.token_loss(state, targets), -np.log(p[range(TOKENS), targets]), **close)
    np.testing.assert_allclose(metrics.output_entropy(state), scipy.stats.entropy(p, axis=-1), **close)
    np.testing.assert_allclose(metrics.kl_to_last(state, last), scipy.stats.entropy(q, p, axis=-1), **close)
    same = (p.argmax(-1) == q.argmax(-1)).astype(float)
    np.testing.assert_array_equal(metrics.agreement(state, last), same)
    np.testing.assert_allclose(metrics.token_loss(state, targets), metrics.next_token_loss(pair[0], targets), **close)


def test_examples_by_hand():
    even = metrics.log_probabilities(torch.zeros(1, 4))
    assert metrics.output_entropy(even).item() == pytest.approx(math.log(4), rel=1e-6)
    assert metrics.token_loss(even, torch.tensor([2])).item() == pytest.approx(math.log(4), rel=1e-6)
    sure = torch.tensor([[0.0, -torch.inf]])
    half = torch.log(torch.tensor([[0.5, 0.5]]))
    assert metrics.kl_to_last(half, sure).item() == pytest.approx(math.log(2), rel=1e-6)
    assert metrics.kl_to_last(sure, half).item() == math.inf
    assert metrics.output_entropy(sure).item() == 0.0


def test_a_state_that_is_the_last_is_at_no_distance(pair):
    state = metrics.log_probabilities(pair[0])
    assert metrics.kl_to_last(state, state).abs().max() == 0.0
    assert metrics.agreement(state, state).min() == 1.0


def test_a_constant_on_all_logits_changes_nothing(pair):
    one, other = (metrics.log_probabilities(pair[0] + shift) for shift in (0.0, 5.0))
    torch.testing.assert_close(one, other, atol=2e-6, rtol=0.0)


@pytest.mark.parametrize("place", [0, 5])
def test_a_token_whose_logits_hold_a_nan_gives_nan_and_no_other_does(pair, place):
    broken = pair[0].clone()
    broken[2, place] = torch.nan
    state, last = metrics.log_probabilities(broken), metrics.log_probabilities(pair[1])
    found = [
        metrics.token_loss(state, torch.zeros(TOKENS, dtype=torch.long)),
        metrics.output_entropy(state),
        metrics.agreement(state, last),
        metrics.agreement(last, state),
        metrics.kl_to_last(state, last),
        metrics.kl_to_last(last, state),
    ]
    for one in found:
        assert one.isnan().nonzero().flatten().tolist() == [2]


def rows(values, counts, **columns):
    own = {"model": "m", "revision": "main", "data": "d", "state": 0, **columns}
    sums = {f"{name}_sum": values for name in QUANTITIES}
    return pl.DataFrame({"prompt": range(len(values)), "scored": counts, **sums}).with_columns(
        pl.lit(value).alias(name) for name, value in own.items()
    )


def test_every_token_counts_once_and_perplexity_is_of_the_mean_loss():
    found = metrics.lens_curves(rows([2.0, 3.0], [1, 3]).lazy())
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
    row = metrics.lens_curves(rows(list(sums), [4] * 12).lazy()).filter(metric="kl").row(0, named=True)
    low, high = scipy.stats.t.interval(0.95, 11, (sums / 4).mean(), scipy.stats.sem(sums / 4))
    assert (row["low"], row["high"]) == pytest.approx((low, high), rel=1e-10)


def test_what_is_not_finite_is_left_out_and_nothing_is_nan_not_zero():
    found = metrics.lens_curves(rows([2.0, math.nan, 4.0], [2, 50, 4]).lazy()).filter(metric="loss")
    assert found.select("value", "scored", "n").row(0) == (1.0, 6, 2)
    empty = metrics.lens_curves(rows([math.nan], [3]).lazy()).filter(metric="loss").row(0, named=True)
    assert math.isnan(empty["value"])
    assert empty["n"] == 0
    assert metrics.lens_curves(rows([0.0], [0]).lazy()).height == 0

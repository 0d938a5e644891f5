"""What a state predicts: against SciPy and closed forms."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from thalweg import metrics

TOKENS, VOCABULARY = 7, 23


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


def test_golden_values(predicted):
    """Every number, as it was when it was last looked at; `regenerate_goldens.py` writes the file."""
    golden = json.loads((Path(__file__).parent / "goldens.json").read_text())["predictions"]
    assert len(golden) == len(predicted) == 9
    for name, values in golden.items():
        # float32 sums of 19 terms
        assert predicted[name] == pytest.approx(values, rel=1e-5, abs=2e-6), name


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

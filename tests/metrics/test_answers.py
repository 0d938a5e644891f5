"""Log-likelihoods of continuations against sums over a softmax that is written out."""

import numpy as np
import torch

from thalweg.metrics import continuation_likelihood, log_probabilities, target_likelihoods


def test_likelihoods_are_those_of_a_softmax_written_out():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((5, 7)) * 3
    places, targets, owners = [0, 1, 2, 2, 4], [3, 0, 6, 1, int(logits[4].argmax())], [0, 0, 1, 2, 2]
    values, greedy = target_likelihoods(
        log_probabilities(torch.tensor(logits)), torch.tensor(places), torch.tensor(targets)
    )
    naive = [
        np.log(np.exp(logits[row, token]) / np.exp(logits[row]).sum())
        for row, token in zip(places, targets, strict=True)
    ]
    np.testing.assert_allclose(values.numpy(), naive, rtol=1e-5)  # float32
    best = [logits[row].argmax() == token for row, token in zip(places, targets, strict=True)]
    assert greedy.tolist() == best
    assert any(best)
    sums, every = continuation_likelihood(values, greedy, torch.tensor(owners), 3)
    np.testing.assert_allclose(sums.numpy(), np.bincount(owners, naive), rtol=1e-5)
    assert every.tolist() == [all(best[:2]), best[2], all(best[3:])]


def test_half_and_half_by_hand():
    state = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]))
    values, greedy = target_likelihoods(state, torch.tensor([0, 1]), torch.tensor([0, 1]))
    sums, every = continuation_likelihood(values, greedy, torch.tensor([0, 0]), 1)
    torch.testing.assert_close(sums, torch.tensor([0.25], dtype=torch.float64).log())
    assert every.tolist() == [True]


def test_a_row_of_nan_makes_its_continuation_nan_and_no_other():
    state = torch.tensor([[torch.nan, torch.nan], [-0.5, -1.0]])
    values, greedy = target_likelihoods(state, torch.tensor([0, 1]), torch.tensor([1, 0]))
    sums, _ = continuation_likelihood(values, greedy, torch.tensor([0, 1]), 2)
    assert sums[0].isnan()
    assert sums[1] == -0.5

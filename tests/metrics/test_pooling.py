"""One row for a prompt is the mean of its real rows, or the last of them, whatever the pads hold."""

import math

import numpy as np
import pytest
import torch

from thalweg.metrics import last_token, mean_over_tokens

LENGTHS = torch.tensor([1, 4, 7])


def states(dtype):
    state = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    state[0, 0] *= 1e3
    for prompt, length in zip(state, LENGTHS, strict=True):
        prompt[length:] = math.nan
    return state


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_pooling_is_the_naive_loop(dtype):
    state = states(dtype)
    before = state.clone()
    rows = [prompt[:length].double().numpy() for prompt, length in zip(state, LENGTHS, strict=True)]
    for pool, naive in ((mean_over_tokens, lambda own: own.mean(0)), (last_token, lambda own: own[-1])):
        found = pool(state, LENGTHS)
        assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        # float32 sums of at most 7 rows
        np.testing.assert_allclose(found.double().numpy(), [naive(own) for own in rows], rtol=1e-6, atol=1e-6)
    assert torch.equal(state.nan_to_num(7.0), before.nan_to_num(7.0))


def test_a_gap_among_real_tokens_is_a_gap_in_the_row():
    state = states(torch.float32)
    state[1, 2] = math.nan
    assert mean_over_tokens(state, LENGTHS)[1].isnan().all()
    assert last_token(state, LENGTHS).isfinite().all()

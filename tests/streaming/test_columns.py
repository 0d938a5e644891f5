"""What chosen keys receive is the columns of the whole map in float64, and adds up to their column mass.

Tolerances as those of the blockwise tests.
"""

import numpy as np
import pytest
import torch
from naive import naive_map, random_heads
from test_blockwise import OPTIONS, TOLERANCE, banded

from thalweg.streaming import LogitRule, attention_maps, attention_to, streamed_attention

TOKENS, LENGTHS = 41, [41, 20]
POSITIONS = torch.tensor([[0, 7, 40], [19, 3, 3]])


def columns(query, key, value, positions=POSITIONS, **call):
    """And the statistics of the call."""
    found = streamed_attention(query, key, value, lengths=torch.tensor(LENGTHS), **call)
    left = {"log_sum_exp": found.log_sum_exp, "row_sum": found.statistics.row_sum}
    return attention_to(query, key, positions, lengths=torch.tensor(LENGTHS), **left, **call), found.statistics


def check(found, attention, tolerance=2e-5):
    assert found.shape == (2, 4, 3, TOKENS)
    for prompt, length in enumerate(LENGTHS):
        expected = attention[prompt][..., POSITIONS[prompt]].swapaxes(1, 2)[..., :length]
        np.testing.assert_allclose(found[prompt, ..., :length].double(), expected, atol=tolerance, rtol=0)
        assert (found[prompt, ..., length:] == 0).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_columns_are_those_of_the_map(dtype, groups):
    inputs = random_heads(tokens=TOKENS, groups=groups, dtype=dtype)
    found, _ = columns(*inputs)
    assert found.dtype == dtype
    check(found, naive_map(*inputs[:2]), TOLERANCE[dtype])
    maps = attention_maps(*inputs[:2], [0, 1, 2, 3])
    check(found, maps.double().numpy(), TOLERANCE[dtype])


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("window", [None, 1, 7])
def test_every_rule_and_window_is_obeyed(options, window):
    inputs = random_heads(tokens=TOKENS)
    found, _ = columns(*inputs, rule=LogitRule(**options), window=window)
    seen = None if window is None else banded(TOKENS, window)
    check(found, naive_map(*inputs[:2], seen=seen, **options))


@pytest.mark.parametrize("rows", [1, TOKENS])
def test_a_bias_is_added(rows):
    inputs = random_heads(tokens=TOKENS)
    bias = torch.randn(1, 4, rows, TOKENS, generator=torch.Generator().manual_seed(1))
    found, _ = columns(*inputs, rule=LogitRule(bias=bias))
    check(found, naive_map(*inputs[:2], added=bias.double().numpy()))


@pytest.mark.parametrize("form", ["boolean", "function", "additive"])
def test_every_form_of_mask_is_obeyed(form):
    inputs, generator = random_heads(tokens=TOKENS), np.random.default_rng(3)
    seen, added = generator.random((2, 1, TOKENS, TOKENS)) < 0.6, None
    seen[:, :, 5] = False  # a row that sees nothing
    allowed = torch.from_numpy(seen)
    mask = allowed
    if form == "function":

        def mask(rows, keys):
            return allowed[:, :, rows][..., keys]
    elif form == "additive":
        added = generator.standard_normal((2, 1, TOKENS, TOKENS))
        mask = torch.from_numpy(added).float().masked_fill(~allowed, -torch.inf)
    found, _ = columns(*inputs, mask=mask)
    check(found, naive_map(*inputs[:2], seen=seen, added=added))


def test_they_add_up_to_the_column_mass():
    inputs = random_heads(tokens=TOKENS, dtype=torch.float64)
    rule = LogitRule(0.4, 2.0, sink_logits=torch.tensor([1.0, -1.0, 0.5, 2.0]))
    found, statistics = columns(*inputs, torch.arange(TOKENS).expand(2, -1), rule=rule, window=9)
    torch.testing.assert_close(found.sum(-1), statistics.column_mass, atol=1e-12, rtol=0)


def test_half_precision_gives_float32():
    inputs = random_heads(tokens=TOKENS, dtype=torch.bfloat16)
    found, _ = columns(*inputs)
    assert found.dtype == torch.float32
    check(found, naive_map(*(each.float() for each in inputs[:2])))

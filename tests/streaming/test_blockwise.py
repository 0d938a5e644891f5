"""Streamed attention against the whole map in float64.

Tolerances: float32 rounding of logits of size up to about 50 moves a weight by a few 1e-6, so 2e-5 for float32 and
1e-12 for float64.
"""

import numpy as np
import pytest
import torch
from naive import naive_map, naive_vectors, random_heads

from thalweg.streaming import LogitRule, attention_maps, statistics_of_map, streamed_attention

VECTORS = ("column_mass", "row_entropy", "diagonal", "previous", "row_sum")
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


def check(result, query, value, attention, lengths, tolerance):
    """Vectors at real positions and outputs everywhere equal those of the map."""
    expected = naive_vectors(attention, lengths)
    for name in VECTORS:
        found = getattr(result.statistics, name).double().numpy()
        for prompt, length in enumerate(lengths):
            np.testing.assert_allclose(
                found[prompt, :, :length],
                expected[name][prompt, :, :length],
                atol=tolerance * length,
                rtol=0,
                err_msg=name,
            )
    shared = query.shape[1] // value.shape[1]
    output = np.einsum("bhqk,bhkd->bhqd", attention, value.double().repeat_interleave(shared, 1).numpy())
    for prompt, length in enumerate(lengths):
        np.testing.assert_allclose(
            result.output.double().numpy()[prompt, :, :length], output[prompt, :, :length], atol=20 * tolerance, rtol=0
        )


def banded(tokens, window):
    t, k = np.arange(tokens)[:, None], np.arange(tokens)[None]
    return (k <= t) & (k > t - window)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tokens", [1, 2, 37, 130])
@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (4, 1)])
def test_plain_causal_attention_equals_the_map(dtype, tokens, heads, groups):
    query, key, value = random_heads(tokens=tokens, heads=heads, groups=groups, dtype=dtype)
    lengths = [tokens, max(1, tokens - 3)]
    result = streamed_attention(query, key, value, lengths=torch.tensor(lengths))
    check(result, query, value, naive_map(query, key), lengths, TOLERANCE[dtype])
    assert result.statistics.visible[0].tolist() == list(range(1, tokens + 1))


@pytest.mark.parametrize("block_rows", [1, 5, 16, 1000])
def test_block_size_changes_nothing(block_rows):
    query, key, value = random_heads(tokens=50, dtype=torch.float64)
    one = streamed_attention(query, key, value, block_rows=block_rows)
    other = streamed_attention(query, key, value, block_rows=50)
    for name in VECTORS:
        found, expected = getattr(one.statistics, name), getattr(other.statistics, name)
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0, equal_nan=True)


OPTIONS = {
    "scaling": {"scaling": 0.11},
    "softcap": {"softcap": 3.0},
    "sink logits": {"sink_logits": torch.tensor([-3.0, 0.0, 4.0, 90.0])},
    "all three": {"scaling": 0.4, "softcap": 2.0, "sink_logits": torch.tensor([1.0, -1.0, 0.5, 2.0])},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("window", [None, 1, 2, 7, 200])
def test_scaling_softcap_sinks_and_windows_equal_the_map(options, window):
    query, key, value = random_heads(tokens=41)
    lengths = [41, 20]
    result = streamed_attention(
        query, key, value, rule=LogitRule(**options), window=window, lengths=torch.tensor(lengths), block_rows=8
    )
    seen = None if window is None else banded(41, window)
    check(result, query, value, naive_map(query, key, seen=seen, **options), lengths, 2e-5)
    expected = np.minimum(np.arange(1, 42), window or 41)
    np.testing.assert_array_equal(result.statistics.visible[1].numpy(), expected)


@pytest.mark.parametrize("heads", [[0, 1, 2, 3], [2], [3, 1]])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("window", [None, 7])
def test_maps_of_some_heads_are_those_of_the_whole_map(heads, options, window):
    query, key, _ = random_heads(tokens=41, groups=2)
    found = attention_maps(query, key, heads, rule=LogitRule(**options), window=window)
    whole = naive_map(query, key, seen=None if window is None else banded(41, window), **options)
    np.testing.assert_allclose(found.double().numpy(), whole[:, heads], atol=2e-5)


@pytest.mark.parametrize("by_head", [False, True])
def test_maps_respect_a_mask_and_a_bias_of_their_own_head(by_head):
    query, key, _ = random_heads(tokens=23)
    shape = (1, 4 if by_head else 1, 23, 23)
    generator = np.random.default_rng(1)
    seen = (generator.random(shape) < 0.6) | np.eye(23, dtype=bool)
    bias = torch.from_numpy(generator.standard_normal(shape)).float()
    found = attention_maps(query, key, [3, 0], rule=LogitRule(bias=bias), mask=torch.from_numpy(seen))
    whole = naive_map(query, key, seen=seen, added=bias.double().numpy())
    np.testing.assert_allclose(found.double().numpy(), whole[:, [3, 0]], atol=2e-5)


def test_maps_of_a_window_that_begins_late_stand_in_their_columns():
    query, key, _ = random_heads(tokens=12)
    seen = np.tril(np.ones((12, 12), bool)) & (np.arange(12) > 4)
    found = attention_maps(query, key, [1], mask=torch.from_numpy(seen)[None, None])
    np.testing.assert_allclose(found.double().numpy(), naive_map(query, key, seen=seen)[:, [1]], atol=2e-5)


@pytest.mark.parametrize("form", ["boolean", "function", "additive", "additive with infinities"])
def test_every_form_of_mask_equals_the_map(form):
    tokens = 33
    query, key, value = random_heads(tokens=tokens)
    generator = np.random.default_rng(3)
    seen = (generator.random((2, 1, tokens, tokens)) < 0.6) | np.eye(tokens, dtype=bool)
    added = None
    allowed = torch.from_numpy(seen)
    mask = allowed
    if form == "function":

        def mask(rows, keys):
            return allowed[:, :, rows][..., keys]
    elif form.startswith("additive"):
        added = generator.standard_normal((2, 1, tokens, tokens))
        least = -torch.inf if "infinities" in form else torch.finfo(torch.float32).min
        mask = torch.from_numpy(added).float().masked_fill(~allowed, least)
    result = streamed_attention(query, key, value, mask=mask, block_rows=7)
    check(result, query, value, naive_map(query, key, seen=seen, added=added), [tokens, tokens], 2e-5)
    np.testing.assert_array_equal(
        result.statistics.visible.numpy(), (seen[:, 0] & np.tril(np.ones((tokens, tokens), bool))).sum(-1)
    )


def test_a_position_bias_by_head_equals_the_map():
    query, key, value = random_heads(tokens=29)
    slopes = torch.tensor([1.0, 0.5, 0.25, 0.125])
    distance = torch.arange(29)[:, None] - torch.arange(29)[None]
    bias = -(slopes[:, None, None] * distance)[None]
    result = streamed_attention(query, key, value, rule=LogitRule(bias=bias), block_rows=4)
    check(result, query, value, naive_map(query, key, added=bias.double().numpy()), [29, 29], 2e-5)


def test_rows_that_see_nothing_give_no_output_and_no_mass():
    query, key, value = random_heads(tokens=6)
    mask = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    mask[..., 3, :] = False
    result = streamed_attention(query, key, value, mask=mask)
    assert (result.output[:, :, 3] == 0).all()
    assert result.statistics.row_entropy[:, :, 3].isnan().all()
    torch.testing.assert_close(result.statistics.column_mass.sum(-1), torch.full((2, 4), 5.0))


def test_logits_of_a_thousand_keep_their_entropy():
    """A head whose logits are huge but equal is uniform; float32 must not lose that."""
    query, key, value = random_heads(tokens=64, size=1.0)
    key[:] = key[:, :, :1]
    result = streamed_attention(query * 1000, key, value)
    uniform = torch.arange(1, 65).double().log()
    torch.testing.assert_close(result.statistics.row_entropy[0, 0].double(), uniform, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_float32_statistics_and_its_own_output(dtype):
    query, key, value = random_heads(tokens=40, dtype=dtype)
    result = streamed_attention(query, key, value)
    assert result.output.dtype == dtype
    assert result.statistics.column_mass.dtype == torch.float32
    check_against = naive_vectors(naive_map(query.float(), key.float()), [40, 40])
    np.testing.assert_allclose(result.statistics.column_mass.numpy(), check_against["column_mass"], atol=1e-3)


def test_padding_changes_nothing_for_the_shorter_prompt():
    query, key, value = random_heads(tokens=30)
    alone = streamed_attention(query[1:, :, :17], key[1:, :, :17], value[1:, :, :17])
    query[1, :, 17:], key[1, :, 17:], value[1, :, 17:] = 1e3, -1e3, torch.nan
    together = streamed_attention(query, key, value, lengths=torch.tensor([30, 17]))
    for name in VECTORS:
        found = getattr(together.statistics, name)[1, :, :17]
        torch.testing.assert_close(found, getattr(alone.statistics, name)[0], atol=1e-5, rtol=0, equal_nan=True)


def test_inputs_are_left_as_they_were():
    inputs = random_heads()
    copies = [one.clone() for one in inputs]
    streamed_attention(*inputs, rule=LogitRule(softcap=2.0, sink_logits=torch.zeros(4)))
    for one, copy in zip(inputs, copies, strict=True):
        assert torch.equal(one, copy)


def test_nan_in_one_prompt_stays_there():
    query, key, value = random_heads()
    query[0, 0, 5] = torch.nan
    vectors = streamed_attention(query, key, value).statistics
    assert vectors.column_mass[0, 0].isnan().any()
    assert not vectors.column_mass[1].isnan().any()


def test_head_counts_that_do_not_divide_are_refused():
    query, key, value = random_heads(heads=4, groups=3)
    with pytest.raises(ValueError, match="divide"):
        streamed_attention(query, key, value)


@pytest.mark.parametrize("lengths", [None, [37, 20]])
def test_a_map_that_exists_gives_the_same_statistics(lengths):
    query, key, _ = random_heads(dtype=torch.float64)
    attention = naive_map(query, key, sink_logits=torch.tensor([0.0, 1.0, 2.0, -5.0]))
    found = statistics_of_map(torch.from_numpy(attention), lengths=None if lengths is None else torch.tensor(lengths))
    expected = naive_vectors(attention, lengths or [37, 37])
    for name in VECTORS:
        np.testing.assert_allclose(getattr(found, name).numpy(), expected[name], atol=1e-12, err_msg=name)


def test_memory_grows_with_the_block_and_not_with_the_square():
    """The largest tensor torch allocates is far below T x T numbers per head."""
    query, key, value = random_heads(batch=1, heads=2, groups=2, tokens=3000, depth=4, breadth=4)
    with torch.profiler.profile(profile_memory=True) as profile:
        streamed_attention(query, key, value)
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert largest < 2 * 3000 * 3000 * 4 / 8

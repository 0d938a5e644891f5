"""The kernels against the whole map in float64, through Triton's interpreter.

Tolerances as those of the blockwise tests: the kernels compute in float32 whatever they are given. The interpreter
multiplies bfloat16 as integers, so float16 stands for half precision here.
"""

import os

os.environ["TRITON_INTERPRET"] = "1"  # read when triton is loaded

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import naive_map, naive_vectors, random_heads

from kernel_calls import arguments_are_those_of_the_kernel
from thalweg.streaming import LogitRule, _attention, attention_to, blockwise_attention, streamed_attention

pytest.importorskip("triton", reason="triton is not installed")
from thalweg.streaming._triton import Blocks, kernel_attention

__all__ = ["arguments_are_those_of_the_kernel"]
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's, at rows behind the last one
VECTORS = ("column_mass", "row_entropy", "diagonal", "previous", "row_sum")
SMALL = Blocks(16, 16, 4, 1)


def kernels(query, key, value, *, rule=LogitRule(), window=None, lengths=None, blocks=SMALL):  # noqa: B008 - frozen
    lengths = torch.full((len(query),), query.shape[2]) if lengths is None else torch.tensor(lengths)
    sizes = {"forward": blocks, "columns": Blocks(blocks.keys, blocks.rows, 4, 1)}
    return kernel_attention(query, key, value, rule=rule, window=window, lengths=lengths, **sizes)


def check(found, query, value, attention, lengths, tolerance=2e-5):
    expected = naive_vectors(attention, lengths)
    values = value.double().repeat_interleave(query.shape[1] // value.shape[1], 1)
    output = np.einsum("bhqk,bhkd->bhqd", attention, values)
    for prompt, length in enumerate(lengths):
        for name in VECTORS:
            vector = getattr(found.statistics, name).double().numpy()[prompt, :, :length]
            wanted = expected[name][prompt, :, :length]
            np.testing.assert_allclose(vector, wanted, atol=tolerance * length, rtol=0, err_msg=name)
        rows = found.output.double().numpy()[prompt, :, :length]
        np.testing.assert_allclose(rows, output[prompt, :, :length], atol=20 * tolerance, rtol=0)


def banded(tokens, window):
    row, key = np.arange(tokens)[:, None], np.arange(tokens)[None]
    return None if window is None else (key <= row) & (key > row - window)


OPTIONS = {
    "plain": {},
    "scaling": {"scaling": 0.11},
    "softcap": {"softcap": 3.0},
    "sink logits": {"sink_logits": torch.tensor([-3.0, 0.0, 4.0, 30.0])},
    "all three": {"scaling": 0.4, "softcap": 2.0, "sink_logits": torch.tensor([1.0, -1.0, 0.5, 2.0])},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("window", [None, 1, 7])
def test_every_rule_in_every_window_equals_the_map(options, window):
    query, key, value = random_heads(tokens=41)
    found = kernels(query, key, value, rule=LogitRule(**options), window=window, lengths=[41, 20])
    check(found, query, value, naive_map(query, key, seen=banded(41, window), **options), [41, 20])
    assert found.statistics.visible[0].tolist() == [min(row + 1, window or 41) for row in range(41)]


@settings(max_examples=12, derandomize=True)
@given(
    tokens=st.integers(1, 50),
    groups=st.sampled_from([1, 2, 4]),
    depth=st.integers(1, 20),
    breadth=st.integers(1, 20),
    window=st.none() | st.integers(1, 60),
    shape=st.sampled_from([(16, 16), (32, 16), (16, 32)]),
    seed=st.integers(0, 99),
)
def test_any_shape_equals_the_map(tokens, groups, depth, breadth, window, shape, seed):
    sizes = {"tokens": tokens, "groups": groups, "depth": depth, "breadth": breadth, "seed": seed}
    query, key, value = random_heads(**sizes, size=1.0)
    lengths = [tokens, max(1, tokens - 3)]
    found = kernels(query, key, value, window=window, lengths=lengths, blocks=Blocks(*shape, 4, 1))
    check(found, query, value, naive_map(query, key, seen=banded(tokens, window)), lengths)


def test_a_bias_of_the_keys_is_added():
    query, key, value = random_heads(tokens=35)
    bias = torch.randn(1, 4, 1, 35, generator=torch.Generator().manual_seed(1))
    found = kernels(query, key, value, rule=LogitRule(bias=bias), lengths=[35, 35])
    check(found, query, value, naive_map(query, key, added=bias.double().numpy()), [35, 35])


def test_half_precision_is_read_exactly_and_summed_in_float32():
    query, key, value = (each.half() for each in random_heads(tokens=40, size=1.0))
    found = kernels(query, key, value)
    attention = naive_map(query, key)
    assert found.output.dtype == torch.float16
    expected = naive_vectors(attention, [40, 40])
    for name in VECTORS:
        np.testing.assert_allclose(getattr(found.statistics, name).numpy(), expected[name], atol=1e-5, err_msg=name)
    # weights and outputs are rounded to half a unit of float16 each
    output = np.einsum("bhqk,bhkd->bhqd", attention, value.double().repeat_interleave(2, 1))
    np.testing.assert_allclose(found.output.double(), output, atol=4e-3, rtol=0)


def test_views_are_read_where_they_lie():
    query, key, value = random_heads(tokens=33)
    whole = kernels(query, key, value)
    turned = [each.transpose(1, 2).contiguous().transpose(1, 2) for each in (query, key, value)]
    found = kernels(*turned)
    assert torch.equal(found.output, whole.output)
    assert torch.equal(found.statistics.column_mass, whole.statistics.column_mass)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_log_sums_are_those_of_both_implementations(options):
    """And give the attention that any one key receives."""
    query, key, value = random_heads(tokens=37)
    found = kernels(query, key, value, rule=LogitRule(**options))
    other = blockwise_attention(query, key, value, rule=LogitRule(**options))
    torch.testing.assert_close(found.log_sum_exp, other.log_sum_exp, rtol=1e-5, atol=1e-5)
    left = {"log_sum_exp": found.log_sum_exp, "row_sum": found.statistics.row_sum}
    received = attention_to(query, key, torch.tensor([[3], [8]]), rule=LogitRule(**options), **left)
    attention = naive_map(query, key, **options)
    expected = np.stack([attention[0, ..., 3], attention[1, ..., 8]])
    np.testing.assert_allclose(received[:, :, 0], expected, atol=2e-5)


def test_kernels_that_do_not_run_are_said_once_and_replaced(monkeypatch):
    query, key, value = random_heads(tokens=9)
    monkeypatch.setattr(_attention.KERNELS, "broken", set())
    monkeypatch.setattr(_attention, "kernels_fit", lambda *_: True)

    def refused(*_, **__):
        raise OSError("no C compiler")

    monkeypatch.setattr("thalweg.streaming._triton.kernel_attention", refused)
    with pytest.warns(UserWarning, match=r"do not run here \(OSError: no C compiler\)"):
        found = streamed_attention(query, key, value)
    again = streamed_attention(query, key, value)  # a second warning would be an error
    expected = blockwise_attention(query, key, value)
    assert torch.equal(found.output, expected.output)
    assert torch.equal(again.output, expected.output)


def test_what_the_kernels_compute_goes_to_them_and_nothing_else():
    query, key, value = random_heads(tokens=9)
    assert not _attention.kernels_fit(query, key, value, LogitRule())  # on a processor

    class OnCuda(torch.Tensor):
        device = torch.device("cuda")

    def fits(query, key, value, **rule):
        on_cuda = (each.as_subclass(OnCuda) for each in (query, key, value))
        return _attention.kernels_fit(*on_cuda, LogitRule(**rule))

    assert fits(query, key, value)
    assert fits(query.bfloat16(), key.bfloat16(), value.bfloat16(), bias=torch.zeros(1, 4, 1, 9))
    assert not fits(query, key, value, bias=torch.zeros(1, 4, 9, 9))
    assert not fits(query.double(), key.double(), value.double())
    assert not fits(query, key.half(), value)
    assert not fits(*random_heads(tokens=9, depth=300))

"""What heads read at the sink and write, against the output projection itself."""

import math

import pytest
import torch

from thalweg import metrics


def test_sink_and_rest_against_a_loop():
    vectors = torch.randn(2, 3, 6, 4, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([6, 4])
    padded = vectors.clone()
    padded[1, :, 4:] = math.nan
    for sink in (0, 2):
        found = metrics.sink_and_rest_norms(padded, lengths=lengths, sink_position=sink)
        for n, tokens in enumerate((6, 4)):
            rows = vectors[n, :, :tokens].double().norm(dim=-1)
            rest = torch.cat([rows[:, :sink], rows[:, sink + 1 :]], dim=1).mean(1)
            torch.testing.assert_close(found.sink[n], rows[:, sink], rtol=1e-12, atol=0)
            torch.testing.assert_close(found.rest[n], rest, rtol=1e-12, atol=0)


def test_a_sink_of_no_value_keeps_its_digits():
    vectors = torch.ones(1, 1, 4, 1)
    vectors[0, 0, 0] = 1e-30
    found = metrics.sink_and_rest_norms(vectors, lengths=torch.tensor([4]))
    assert found.sink.item() == pytest.approx(1e-30)
    assert found.rest.item() == 1


def test_one_token_and_prompts_that_do_not_reach_the_sink():
    vectors = torch.ones(2, 1, 3, 2)
    alone = metrics.sink_and_rest_norms(vectors[:1, :, :1], lengths=torch.tensor([1]))
    assert (alone.sink.item(), alone.rest.isnan().item()) == (pytest.approx(math.sqrt(2)), True)
    found = metrics.sink_and_rest_norms(vectors, lengths=torch.tensor([2, 3]), sink_position=2)
    assert found.sink.isnan().flatten().tolist() == [True, False]
    assert found.rest.isnan().flatten().tolist() == [True, False]


@pytest.mark.parametrize("width", [16, 2])
def test_the_factor_writes_as_much_as_the_projection(width):
    gen = torch.Generator().manual_seed(1)
    heads, breadth, tokens = 3, 4, 5
    projection = torch.randn(width, heads * breadth, generator=gen, dtype=torch.float64)
    slices = projection.view(width, heads, breadth).transpose(0, 1)
    outputs = torch.randn(2, heads, tokens, breadth, generator=gen, dtype=torch.float64)
    written = torch.einsum("hwb,nhtb->nhtw", slices, outputs).norm(dim=-1)
    outputs[1, :, 3:] = math.nan
    found = metrics.head_write_norm(outputs, factors=metrics.write_factors(slices), lengths=torch.tensor([5, 3]))
    torch.testing.assert_close(found[0], written[0].mean(-1), rtol=1e-12, atol=0)
    torch.testing.assert_close(found[1], written[1, :, :3].mean(-1), rtol=1e-12, atol=0)


def test_dormant_is_below_a_tenth_of_the_mean():
    # The mean is 0.7525, a tenth of it 0.07525.
    assert metrics.dormant(torch.tensor([[1.0, 1.0, 1.0, 0.01]])).tolist() == [[False, False, False, True]]
    assert metrics.dormant(torch.tensor([1.0, 0.1])).tolist() == [False, False]
    assert metrics.dormant(torch.tensor([1.0, math.nan, 0.04])).tolist() == [False, False, True]
    assert metrics.dormant_rate(torch.tensor([[True, False, False, False]])).tolist() == [0.25]


def test_everything_in_a_block_may_write_nothing():
    assert metrics.dormant(torch.zeros(3)).tolist() == [False] * 3


def test_no_global_switch_changes_what_is_written():
    gen = torch.Generator().manual_seed(2)
    outputs, factors = torch.randn(2, 3, 40, 64, generator=gen), torch.randn(3, 64, 64, generator=gen)
    lengths = torch.tensor([40, 30])
    exact = metrics.head_write_norm(outputs.double(), factors=factors, lengths=lengths)
    before = torch.get_float32_matmul_precision()
    try:
        for precision, autocast in (("highest", False), ("highest", True), ("medium", False)):
            torch.set_float32_matmul_precision(precision)
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                found = metrics.head_write_norm(outputs, factors=factors, lengths=lengths)
            # float32 products: 6e-8 on each of 64 terms; bfloat16 ones would be off by 1e-3.
            torch.testing.assert_close(found, exact, rtol=1e-6, atol=0)
    finally:
        torch.set_float32_matmul_precision(before)

"""The norm of what a head writes, from a small factor: the same as from the whole matrix, however that is stored."""

import pytest
import torch
from accelerate import cpu_offload
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.pytorch_utils import Conv1D

from thalweg.capture._subject import ProjectionFactors


class Quantized(nn.Module):
    """Stands in for a packed layer: its weight is integers in another layout, only forward knows the matrix."""

    def __init__(self, matrix, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, dtype=torch.uint8), requires_grad=False)
        self.matrix, self.bias = matrix, bias

    def forward(self, z):
        return z @ self.matrix.T + self.bias


class Packed(nn.Linear):
    """A Linear by name whose weight is not its matrix, as bitsandbytes keeps it: two numbers a byte, or integers."""

    def __init__(self, matrix, shape):
        super().__init__(matrix.shape[1], matrix.shape[0], bias=False)
        self.matrix = matrix
        self.weight = nn.Parameter(torch.zeros(shape, dtype=torch.uint8), requires_grad=False)

    def forward(self, z):
        return z @ self.matrix.T


def linear(matrix, bias):
    layer = nn.Linear(matrix.shape[1], matrix.shape[0])
    layer.weight.data, layer.bias.data = matrix.clone(), bias.clone()
    return layer


def conv(matrix, bias):
    layer = Conv1D(matrix.shape[0], matrix.shape[1])
    layer.weight.data, layer.bias.data = matrix.T.clone().contiguous(), bias.clone()
    return layer


def offloaded(matrix, bias):
    model = nn.Sequential(linear(matrix, bias))
    cpu_offload(model, execution_device=torch.device("cpu"))
    layer = model[0]
    assert layer.weight.device.type == "meta"
    return layer


KINDS = {
    "Linear": linear,
    "Conv1D": conv,
    "no plain weight": Quantized,
    "packed Linear": lambda matrix, _: Packed(matrix, (matrix.numel() // 2, 1)),
    "integer Linear": lambda matrix, _: Packed(matrix, matrix.shape),
    "offloaded": offloaded,
}


def parts(width, heads, breadth, tokens, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(width, heads * breadth, generator=generator, dtype=dtype)
    bias = 100 * torch.randn(width, generator=generator, dtype=dtype)
    outputs = torch.randn(2, tokens, heads * breadth, generator=generator, dtype=dtype)
    return matrix, bias, outputs


def written(matrix, outputs, heads):
    """||W_h z_h|| the obvious way, in float64: ``batch head token``."""
    by_head = outputs.double().unflatten(-1, (heads, -1))
    slices = matrix.double().unflatten(1, (heads, -1))
    return torch.einsum("whb,nthb->nhtw", slices, by_head).norm(dim=-1)


def from_factors(factors, outputs, heads):
    by_head = outputs.double().unflatten(-1, (heads, -1)).transpose(1, 2)
    return torch.einsum("hab,nhtb->nhta", factors.double(), by_head).norm(dim=-1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_factor_gives_the_norm_of_what_a_head_writes(kind):
    matrix, bias, outputs = parts(width=24, heads=4, breadth=5, tokens=7, seed=0)
    factors = ProjectionFactors().of(KINDS[kind](matrix, bias), 4, outputs)
    assert factors.shape == (4, 5, 5)
    assert torch.equal(factors, factors.triu())
    torch.testing.assert_close(
        from_factors(factors, outputs, 4), written(matrix, outputs, 4), rtol=1e-4 if "no" in kind else 1e-5, atol=0
    )


@settings(max_examples=40)
@given(
    st.integers(1, 12),
    st.integers(1, 4),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(0, 2**20),
    st.sampled_from(list(KINDS)),
)
def test_the_norm_is_right_for_every_shape(width, heads, breadth, tokens, seed, kind):
    matrix, bias, outputs = parts(width, heads, breadth, tokens, seed, torch.float64)
    layer = KINDS[kind](matrix, bias)
    factors = ProjectionFactors().of(layer, heads, outputs)
    expected = written(matrix, outputs, heads)
    torch.testing.assert_close(from_factors(factors, outputs, heads), expected, rtol=1e-9, atol=1e-9)


def test_half_precision_weights_give_float32_factors():
    matrix, bias, outputs = (one.to(torch.bfloat16) for one in parts(16, 2, 4, 3, 1))
    factors = ProjectionFactors().of(linear(matrix, bias), 2, outputs)
    assert factors.dtype == torch.float32
    torch.testing.assert_close(from_factors(factors, outputs, 2), written(matrix, outputs, 2), rtol=1e-5, atol=0)


def test_a_factor_is_computed_once_for_each_projection(monkeypatch):
    made = []
    own = torch.linalg.qr
    monkeypatch.setattr(torch.linalg, "qr", lambda *given, **options: (made.append(1), own(*given, **options))[1])
    matrix, bias, outputs = parts(24, 4, 5, 7, 0)
    factors, one, other = ProjectionFactors(), linear(matrix, bias), linear(2 * matrix, bias)
    first = factors.of(one, 4, outputs)
    assert factors.of(one, 4, outputs) is first
    torch.testing.assert_close(factors.of(other, 4, outputs).abs(), 2 * first.abs())
    assert len(made) == 2


def test_an_offloaded_weight_goes_back_where_it_was():
    matrix, bias, outputs = parts(24, 4, 5, 7, 0)
    layer = offloaded(matrix, bias)
    ProjectionFactors().of(layer, 4, outputs)
    assert layer.weight.device.type == "meta"


def test_asking_a_layer_what_it_does_wakes_no_hook():
    matrix, bias, outputs = parts(24, 4, 5, 7, 0)
    layer, heard = Quantized(matrix, bias), []
    layer.register_forward_pre_hook(lambda *_: heard.append(1))
    ProjectionFactors().of(layer, 4, outputs)
    assert heard == []

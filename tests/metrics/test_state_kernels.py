"""What the kernels read of a state is what NumPy says of it, through Triton's interpreter."""

import os

os.environ["TRITON_INTERPRET"] = "1"  # read when triton is loaded

import numpy as np
import pytest
import torch

from kernel_calls import arguments_are_those_of_the_kernel
from thalweg.metrics import _heads, _vectors

pytest.importorskip("triton", reason="triton is not installed")
from thalweg.metrics import _state_kernels
from thalweg.metrics._state_kernels import median_and_entries, row_vectors
from thalweg.metrics._write_kernel import written_norms

__all__ = ["arguments_are_those_of_the_kernel"]
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's, of half precision
KINDS = ("normal", "constant", "few values", "periodic", "sorted", "two values", "small")
MANY = 5


def state_of_kind(kind, dtype):
    small = kind == "small"
    tokens, shape = ([40, 1, 13], (3, 40, 7)) if small else ([20, 11], (2, 20, 1100))
    state = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if kind == "constant":
        state[:] = -3
    elif kind == "few values":
        state = state.round()
    elif kind == "periodic":
        state.flatten(1)[:, ::5] = 100  # the sample's own step: what it sees is not what is there
    elif kind == "sorted":
        state = state.flatten(1).abs().sort().values.view(shape)
    elif kind == "two values":  # the two in the middle differ, by more than the parts of a bracket
        state = torch.where(torch.arange(state.numel()).view(shape) % 2 == 0, 1.0, 50.0)
    return state.to(dtype), torch.tensor(tokens)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16], ids=["float32", "bfloat16", "float16"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_medians_and_entries(kind, dtype):
    state, tokens = state_of_kind(kind, dtype)
    row_sq, peaks, dims = row_vectors(state, tokens)
    medians, counts, entries = median_and_entries(state, tokens, peaks, floor=0.5, ratio=3.0, many=MANY)
    for number, length in enumerate(tokens.tolist()):
        rows = state[number, :length].double().numpy()
        np.testing.assert_allclose(row_sq[number, :length], np.square(rows).sum(1), rtol=1e-14)
        assert not row_sq[number, length:].any()
        first = np.abs(rows).argmax(1)
        assert dims[number, :length].tolist() == first.tolist()
        assert peaks[number, :length].tolist() == rows[np.arange(length), first].tolist()
        median = np.median(np.abs(rows))
        assert medians[number].item() == median
        sizes = np.sort(np.abs(rows), axis=None)[::-1]
        assert counts[number] == (sizes > max(0.5, 3 * median)).sum()
        seen = min(MANY, int(counts[number]))
        position, dim, value = entries[number].numpy()
        assert np.abs(value[:seen]).tolist() == sizes[:seen].tolist()
        places = list(zip(position[:seen].astype(int), dim[:seen].astype(int), strict=True))
        assert [rows[place] for place in places] == value[:seen].tolist()
        assert len(set(places)) == seen
        assert not entries[number, :, seen:].any()


def test_a_sample_that_was_wrong_costs_passes_and_no_exactness(monkeypatch):
    state, tokens = state_of_kind("normal", torch.float32)
    monkeypatch.setattr(_state_kernels, "SAMPLE", 16)
    monkeypatch.setattr(_state_kernels, "DEVIATIONS", -20)  # a bracket beside the middle
    _, peaks, _ = row_vectors(state, tokens)
    medians, _, _ = median_and_entries(state, tokens, peaks, floor=0.5, ratio=3.0, many=MANY)
    for number, length in enumerate(tokens.tolist()):
        assert medians[number].item() == np.median(np.abs(state[number, :length].double().numpy()))


def test_rows_that_are_not_finite_are_read_within_their_bounds():
    state = torch.full((1, 3, 1100), torch.nan)
    state[0, :, 0] = 2.0  # the interpreter finds no largest number where there is none
    state[0, 1] = 1.0
    row_sq, _, dims = row_vectors(state, torch.tensor([3]))
    assert row_sq[0].isnan().tolist() == [True, False, True]
    assert int(dims.max()) < 1100


@pytest.mark.parametrize(("dtype", "breadth", "rank"), [(torch.float32, 20, 20), (torch.float16, 64, 33)])
def test_what_heads_write(dtype, breadth, rank):
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(2, 70, 3, breadth, generator=generator).to(dtype).transpose(1, 2)
    factors = torch.randn(3, rank, breadth, generator=generator, dtype=torch.float64)
    wanted = torch.linalg.vector_norm(outputs.double() @ factors.mT, dim=-1)
    torch.testing.assert_close(written_norms(outputs, factors).double(), wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("kernels", "name"), [(_vectors.KERNELS, "row_vectors"), (_heads.KERNELS, "written_norms")])
def test_kernels_that_do_not_run_are_said_once_and_replaced(monkeypatch, kernels, name):
    state, tokens = state_of_kind("small", torch.float32)
    factors = torch.eye(7, dtype=torch.float64).expand(3, 7, 7)

    def both():
        return *_vectors.state_vectors(state, tokens), _heads._written(state[:, None].expand(-1, 3, -1, -1), factors)

    expected = both()
    other = {_vectors.KERNELS, _heads.KERNELS} - {kernels}
    monkeypatch.setattr(kernels, "broken", set())
    monkeypatch.setattr(kernels, "fit", lambda *_: True)
    assert all(not one.fit(state) for one in other)

    def refused(*_, **__):
        raise OSError("no C compiler")

    room = "_state_kernels" if name == "row_vectors" else "_write_kernel"
    monkeypatch.setattr(f"thalweg.metrics.{room}.{name}", refused)
    with pytest.warns(UserWarning, match=r"kernels do not run here \(OSError: no C compiler\)"):
        found = both()
    again = both()  # a second warning would be an error
    for one, two, three in zip(expected, found, again, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)

"""Which errors mean that the memory is full: torch's own words, made by asking for too much."""

import pytest
import torch

from thalweg.engines import is_out_of_memory


def test_what_the_processors_allocator_says_is_recognized():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    ],
)
def test_a_full_memory_is_recognized(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("out of memory"),
        OSError("Cannot allocate memory of yours"),
        KeyboardInterrupt(),
        AssertionError("CUDA error: device-side assert triggered"),
    ],
)
def test_other_errors_are_not(error):
    assert not is_out_of_memory(error)

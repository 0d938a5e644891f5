"""The eigenvalues of many symmetric matrices in one call of NVIDIA's cuSOLVER.

Conventions: matrices are (number, n, n), float32 or float64, finite; only one triangle is read. Eigenvalues ascend.

`cusolverDnXsyevBatched` (CUDA 12.6.2 and later) divides and conquers all matrices together. torch calls it from some
version on; before, `torch.linalg.eigvalsh` takes them one by one, or by a Jacobi method whose eigenvalues were 5e-5 of
the largest off at n = 200. So it is called here, from the library that torch's own wheels bring along.
"""

# ctypes carries no types for what a library holds.
# pyright: basic

import ctypes
from collections.abc import Iterator
from ctypes.util import find_library
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thalweg.shapes import Float

DTYPES = {torch.float32: 0, torch.float64: 1}  # CUDA_R_32F, CUDA_R_64F
LOWER = 0


@cache
def has_solver(device: torch.device) -> bool:
    """Whether there is one for this device, and it solves what is easy."""
    if device.type != "cuda" or torch.version.cuda is None or _library() is None:
        return False
    try:
        values, _ = eigen(torch.eye(2, device=device)[None], vectors=False)
    except RuntimeError:
        return False
    return values.flatten().tolist() == [1.0, 1.0]


def eigen(matrices: Float[Tensor, "number size size"], /, *, vectors: bool) -> tuple[Tensor, Tensor | None]:
    """Eigenvalues, and eigenvectors in columns; NaN where a matrix does not converge. Waits for nothing."""
    number, size, _ = matrices.shape
    overwritten, kind = matrices.contiguous().clone(), DTYPES[matrices.dtype]
    values = overwritten.new_empty(number, size)
    failed = torch.empty(number, dtype=torch.int32, device=matrices.device)
    with torch.cuda.device(matrices.device):
        library: Any = _library()
        handle, options = _handle(matrices.device.index)
        stream = torch.cuda.current_stream().cuda_stream
        _checked(library.cusolverDnSetStream(handle, ctypes.c_void_p(stream)))
        shape = (
            *(handle, options, int(vectors), LOWER, ctypes.c_int64(size)),
            *(kind, _pointer(overwritten), ctypes.c_int64(size), kind, _pointer(values), kind),
        )
        there, here = ctypes.c_size_t(), ctypes.c_size_t()
        last = ctypes.c_int64(number)
        _checked(library.cusolverDnXsyevBatched_bufferSize(*shape, ctypes.byref(there), ctypes.byref(here), last))
        work = torch.empty(max(1, there.value), dtype=torch.uint8, device=matrices.device)
        own = ctypes.create_string_buffer(max(1, here.value))
        _checked(library.cusolverDnXsyevBatched(*shape, _pointer(work), there, own, here, _pointer(failed), last))
    values = values.masked_fill(failed[:, None] != 0, torch.nan)
    return values, overwritten.mT if vectors else None


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _checked(status: int) -> None:
    if status != 0:
        raise RuntimeError(f"cuSOLVER answers with status {status}.")


@cache
def _library() -> Any:
    """The library with the batched solver in it, or None."""
    for name in _names():
        try:
            library = ctypes.CDLL(name)
            library.cusolverDnXsyevBatched  # noqa: B018 - looked up by name
        except (OSError, AttributeError):
            continue
        return library
    return None


def _names() -> Iterator[str]:
    """Where it may lie: in torch's wheels, or where the system keeps libraries."""
    found = find_spec("nvidia")
    for folder in (found.submodule_search_locations or ()) if found else ():
        names = sorted(map(str, Path(folder).glob("**/libcusolver.so.*")), reverse=True)
        own = f".so.{int(str(torch.version.cuda).partition('.')[0]) - 1}"  # 11 is CUDA 12's
        yield from sorted(names, key=lambda name: not name.endswith(own))
    if system := find_library("cusolver"):
        yield system


@cache
def _handle(device: int) -> tuple[ctypes.c_void_p, ctypes.c_void_p]:  # noqa: ARG001 - one for each, made while it is the current one
    handle, options = ctypes.c_void_p(), ctypes.c_void_p()
    library: Any = _library()
    _checked(library.cusolverDnCreate(ctypes.byref(handle)))
    _checked(library.cusolverDnCreateParams(ctypes.byref(options)))
    return handle, options

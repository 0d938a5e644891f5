"""Kernels for a GPU, and what happens where they do not run: their result comes another way, and that is said once."""

import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Kernels:
    """Some kernels written in Triton.

    Args:
        name: what they are called in a sentence.
        instead: what is done where they do not run.
    """

    def __init__(self, name: str, instead: str) -> None:
        self.name, self.instead = name, instead
        self.broken = set[tuple[object, ...]]()
        """The dtypes and widths for which they do not run: one that is too wide for a card says nothing of another."""

    def fit(self, *tensors: Tensor) -> bool:
        """Whether such tensors are what they take: on CUDA, all of one dtype, at most float32."""
        first = tensors[0]
        alike = all(each.dtype == first.dtype for each in tensors)
        return first.device.type == "cuda" and alike and first.dtype in DTYPES and has_triton()

    def run(self, kernel: Callable[..., Any], *tensors: Tensor, **options: Any) -> Any:
        """What a kernel returns, launched where its tensors are; None where it does not run."""
        kind = (tensors[0].dtype, *(each.shape[-1] for each in tensors if each.is_floating_point()))
        if kind in self.broken:
            return None
        try:
            with torch.cuda.device(tensors[0].device if tensors[0].device.type == "cuda" else -1):
                return kernel(*tensors, **options)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a compiler, a driver or a missing C compiler raises
            if not self.broken:
                said = " ".join(str(error).split())[:200]
                warnings.warn(
                    f"the {self.name} kernels do not run here ({type(error).__name__}: {said}); {self.instead}, which "
                    "is slower and gives the same numbers.",
                    stacklevel=4,
                )
            self.broken.add(kind)
            return None


@cache
def has_triton() -> bool:
    """Whether there is something that compiles them."""
    return find_spec("triton") is not None

"""What a block takes and gives: a tensor in current transformers, a tuple or a mapping in older and remote code."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def unwrap(output: Any) -> Tensor | None:
    """The tensor inside what a module returned: itself, or the first entry; None where there is none."""
    if isinstance(output, Mapping):
        output = next(iter(output.values()), None)
    elif isinstance(output, tuple | list):
        output = output[0] if output else None
    return output if isinstance(output, Tensor) else None


def rewrap(output: Any, tensor: Tensor) -> Any:
    """What a module returned, with its tensor replaced by ``tensor``."""
    if isinstance(output, tuple):
        return (tensor, *output[1:])
    if isinstance(output, list):
        return [tensor, *output[1:]]
    if isinstance(output, Mapping):
        kind: Any = type(output)  # a ModelOutput is made from a mapping
        return kind({**output, next(iter(output)): tensor})
    return tensor

"""What a pass leaves on one or several devices, and how it reaches the processor: at its end, and together."""

from collections.abc import Sequence

import torch
from torch import Tensor


def brought(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape, stacked on the processor by one copy, for which alone the processor waits."""
    first = tensors[0].device
    return torch.stack([one.to(first) for one in tensors], dim).cpu()


def precise(values: Tensor) -> Tensor:
    """The values in float64; in float32 on Apple's GPU, which has no other."""
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)

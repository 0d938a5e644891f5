"""Copies from a device to the processor, of which each that is waited for costs.

Conventions: none of its own.
"""

import torch
from torch import Tensor


def here(*tensors: Tensor) -> list[Tensor]:
    """Several tensors of one device on the processor, with one wait; those that are there already as they are."""
    device = tensors[0].device
    if device.type != "cuda":
        return [each.cpu() for each in tensors]
    copies = [torch.empty_like(each, device="cpu", pin_memory=True) for each in tensors]
    for copy, each in zip(copies, tensors, strict=True):
        copy.copy_(each, non_blocking=True)
    torch.cuda.current_stream(device).synchronize()
    return copies

"""Copies from a device to the processor, of which each that is waited for costs.

Conventions: none of its own.
"""

import torch
from torch import Tensor


def here(*tensors: Tensor) -> list[Tensor]:
    """Several tensors of one device on the processor, with one wait; those that are there already as they are.

    Integers are below 2^53 in magnitude.
    """
    device = tensors[0].device
    if device.type in ("cpu", "mps"):  # Apple's GPU has no float64
        return [each.cpu() for each in tensors]
    if device.type != "cuda":
        together, found, start = torch.cat([each.double().flatten() for each in tensors]).cpu(), list[Tensor](), 0
        for each in tensors:
            found.append(together[start : start + each.numel()].view(each.shape).to(each.dtype))
            start += each.numel()
        return found
    copies = [torch.empty_like(each, device="cpu", pin_memory=True) for each in tensors]
    for copy, each in zip(copies, tensors, strict=True):
        copy.copy_(each, non_blocking=True)
    torch.cuda.current_stream(device).synchronize()
    return copies

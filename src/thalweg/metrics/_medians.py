"""The median magnitude of each prompt's state, of a whole batch on a device, without sorting it.

Conventions: magnitudes are (batch, token, width), not negative, padded on the right with anything; an ordinary median,
exact: for an even count the mean of the two middle values.

On CUDA kernels count (``_median_kernels``). Elsewhere two order statistics are asked of torch.
"""

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from thalweg.shapes import Float, Int

KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def median_magnitudes(
    magnitudes: Float[Tensor, "batch token width"], tokens: Int[Tensor, " batch"], /
) -> Float[Tensor, " batch"]:
    """The median of the entries of each prompt's real tokens, float64; nothing waits for the device."""
    if magnitudes.device.type == "cuda" and magnitudes.dtype in KERNEL_DTYPES and _triton_is_there():
        from thalweg.metrics._median_kernels import middle_values

        return middle_values(magnitudes, tokens).double().mean(-1)
    pads = torch.arange(magnitudes.shape[1], device=magnitudes.device) >= tokens[:, None]
    values = magnitudes.float() if magnitudes.dtype.itemsize < 4 else magnitudes
    flat = values.masked_fill(pads[..., None], torch.nan).flatten(1)
    lower, upper = flat.nanmedian(1).values, -(-flat).nanmedian(1).values
    return (lower.double() + upper.double()) / 2


@cache
def _triton_is_there() -> bool:
    return find_spec("triton") is not None

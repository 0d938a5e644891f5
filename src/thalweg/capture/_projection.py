"""What a head writes, from its output and one small triangular factor per head.

With W_h the head's slice of the output projection and W_h = Q R its QR decomposition, ||W_h z|| = ||R z||: the norm of
what a head adds to the residual stream costs a product of head width, not of model width.
"""

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from thalweg.metrics import write_factors
from thalweg.shapes import Float


class ProjectionFactors:
    """Factors of every output projection, computed when first needed and kept: heads x width x width numbers each."""

    def __init__(self) -> None:
        self._factors = dict[int, Tensor]()

    def of(self, projection: nn.Module, heads: int, outputs: Tensor) -> Float[Tensor, "head rank breadth"]:
        """R of each head's slice of ``projection``, on the device of ``outputs`` and at least float32."""
        key = id(projection)
        if key not in self._factors:
            weight = _weight(projection, outputs)
            slices = weight.unflatten(1, (heads, -1)).transpose(0, 1)
            self._factors[key] = write_factors(slices).to(outputs.device, weight.dtype)
        return self._factors[key]


def _weight(projection: nn.Module, outputs: Tensor) -> Float[Tensor, "width inputs"]:
    """The projection's matrix: its weight where it has an ordinary one, else what it does to unit vectors."""
    precision = torch.promote_types(outputs.dtype, torch.float32)
    with align_module_device(projection):  # brings an offloaded weight back for a moment
        weight = getattr(projection, "weight", None)
        if isinstance(weight, Tensor) and _plain_linear(projection, weight):
            return weight.detach().to(precision).clone()
        if isinstance(projection, Conv1D) and isinstance(weight, Tensor):
            return weight.detach().to(precision).T.clone()
    return _response(projection, outputs).to(precision)


def _plain_linear(projection: nn.Module, weight: Tensor) -> bool:
    """A Linear, under whatever name, with nothing packed: one floating-point row per output."""
    return (
        isinstance(projection, nn.Linear)
        and weight.is_floating_point()
        and tuple(weight.shape) == (projection.out_features, projection.in_features)
    )


def _response(projection: nn.Module, outputs: Tensor) -> Tensor:
    """Matrix of an affine map from what it does to the unit vectors; quantized layers allow nothing else."""
    unit = torch.eye(outputs.shape[-1], dtype=outputs.dtype, device=outputs.device)
    forward = projection.forward  # not the module itself, whose hooks are listening
    return (forward(unit) - forward(torch.zeros_like(unit[:1]))).T

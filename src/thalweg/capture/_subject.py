"""From a loaded model to a subject that can be observed: its parts, the way its attention is seen, what a head writes.

With W_h a head's slice of the output projection and W_h = Q R its QR decomposition, ||W_h z|| = ||R z||: the norm of
what a head adds to the residual stream costs a product of head width, not of model width.
"""

from contextlib import suppress
from dataclasses import dataclass
from textwrap import shorten
from typing import Any, Literal

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from thalweg.capture._families import OWN_WEIGHTS
from thalweg.capture._interface import (
    NAME,
    AttentionCall,
    TorchAttention,
    attention_implementation,
    listening,
    window_of,
)
from thalweg.capture._parts import Parts, find_parts, with_attention
from thalweg.capture._shared import entire
from thalweg.errors import ModelError
from thalweg.metrics import write_factors
from thalweg.shapes import Float

AttentionPath = Literal["interface", "torch", "weights"]
"""How attention is seen: transformers' AttentionInterface, torch's own function, or the model's own maps."""


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


@dataclass(frozen=True)
class Subject:
    """A model to observe: what it is made of and how its attention is seen."""

    model: PreTrainedModel
    parts: Parts
    path: AttentionPath
    factors: ProjectionFactors
    device: torch.device

    @property
    def implementation(self) -> str:
        """What transformers calls the attention under which it is observed."""
        return {"interface": NAME, "torch": "sdpa", "weights": "eager"}[self.path]


def subject_of(model: PreTrainedModel, device: torch.device | None = None) -> Subject:
    """Find the parts of ``model`` and how its attention can be seen.

    Args:
        model: any Hugging Face model with a list of blocks; put into evaluation mode.
        device: where tokens go in; that of the embedding by default.

    Raises:
        ModelError: no decoder-only structure, or no softmax attention in any block.
    """
    parts, path = find_parts(model), "weights"
    device = device or _entrance(model)
    if getattr(model, "hf_quantizer", None) is not None:
        _unpack(model, device)
    if model.eval().config.model_type not in OWN_WEIGHTS:
        path, parts = _seen_attention(model, parts, device)
    return Subject(model, parts, path, ProjectionFactors(), device)


def plain_subject(model: PreTrainedModel) -> Subject:
    """The parts of a model alone, without a pass of it: its states can be watched, its attention cannot."""
    return Subject(model.eval(), find_parts(model), "weights", ProjectionFactors(), _entrance(model))


@torch.no_grad()
def _unpack(model: PreTrainedModel, device: torch.device) -> None:
    """Packed weights may be unpacked by the first pass of the whole model, and by no pass of its parts."""
    with suppress(Exception):  # what cannot be run says so below
        model(input_ids=torch.zeros(1, 4, dtype=torch.long, device=device), use_cache=False)


def _entrance(model: PreTrainedModel) -> torch.device:
    """Where tokens go in: an offloaded embedding runs elsewhere than its weight is kept."""
    embedding: Any = model.get_input_embeddings()
    device = getattr(getattr(embedding, "_hf_hook", None), "execution_device", None)
    return embedding.weight.device if device is None else torch.device(device)


def _seen_attention(model: PreTrainedModel, parts: Parts, device: torch.device) -> tuple[AttentionPath, Parts]:
    """Try the AttentionInterface, then torch's own attention, on four tokens, and see who calls."""
    tokens = torch.zeros(1, 4, dtype=torch.long, device=device)
    heard = list[AttentionCall]()
    with listening(torch.tensor([4]), heard.append):
        # A model outside the interface meets a name or a mask that it does not know and fails in a way of its own.
        with suppress(AttributeError, TypeError, KeyError, ValueError, RuntimeError):
            _run(model, parts, tokens, NAME)
            if heard:
                calls = [(call.module, window_of(call.mask)) for call in heard if call.module is not None]
                return "interface", with_attention(parts, calls)
        heard.clear()
        try:
            _run(model, parts, tokens, "sdpa")
        except Exception as error:  # whatever its own code raises
            said = shorten(f"{type(error).__name__}: {error}", 300, placeholder=" ...")
            raise ModelError(
                f"{type(model).__name__} fails by itself on four tokens, without anything of thalweg's: {said}. Try it "
                "in transformers, where the error has its place."
            ) from error
    if heard:
        return "torch", parts
    raise ModelError(
        f"{type(model).__name__} shows no softmax attention: none of its blocks calls transformers' AttentionInterface "
        "or torch's own attention. thalweg measures decoder-only models with softmax attention, and hybrids where "
        "they have it; state-space models have none. A model that computes attention in a way of its own needs a row "
        "in capture/_families.py."
    )


def _run(model: PreTrainedModel, parts: Parts, tokens: Tensor, implementation: str) -> None:
    with torch.no_grad(), attention_implementation(model, implementation), TorchAttention():
        parts.body(input_ids=tokens, use_cache=False)


def _weight(projection: nn.Module, outputs: Tensor) -> Float[Tensor, "width inputs"]:
    """The projection's matrix: its weight where it has an ordinary one, else what it does to unit vectors."""
    precision = torch.promote_types(outputs.dtype, torch.float32)
    with align_module_device(projection):  # brings an offloaded weight back for a moment
        weight = getattr(projection, "weight", None)
        weight = entire(weight) if isinstance(weight, Tensor) else None
        if weight is not None and _plain_linear(projection, weight):
            return weight.detach().to(precision).clone()
        if isinstance(projection, Conv1D) and weight is not None:
            return weight.detach().to(precision).T.clone()
    return _response(projection, outputs).to(precision)


def _plain_linear(projection: nn.Module, weight: Tensor) -> bool:
    """A Linear, under whatever name, with nothing packed: one floating-point row per output."""
    plain = type(weight) in (Tensor, nn.Parameter) and weight.is_floating_point()
    ordinary = isinstance(projection, nn.Linear) and plain
    return ordinary and tuple(weight.shape) == (projection.out_features, projection.in_features)


def _response(projection: nn.Module, outputs: Tensor) -> Tensor:
    """Matrix of an affine map from what it does to the unit vectors; quantized layers allow nothing else."""
    unit = torch.eye(outputs.shape[-1], dtype=outputs.dtype, device=outputs.device)
    forward = projection.forward  # not the module itself, whose hooks are listening
    return (forward(unit) - forward(torch.zeros_like(unit[:1]))).T

"""From a loaded model to a subject that can be observed: find its parts and the way its attention is seen."""

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from thalweg.capture._families import OWN_WEIGHTS
from thalweg.capture._interface import NAME, AttentionCall, TorchAttention, attention_implementation, listening
from thalweg.capture._observe import AttentionPath, Subject
from thalweg.capture._parts import Parts, find_parts, with_attention
from thalweg.capture._projection import ProjectionFactors
from thalweg.errors import ModelError


def subject_of(model: PreTrainedModel, device: torch.device | None = None) -> Subject:
    """Find the parts of ``model`` and how its attention can be seen.

    Args:
        model: any Hugging Face model with a list of blocks; put into evaluation mode.
        device: where tokens go in; that of the embedding by default.

    Raises:
        ModelError: no decoder-only structure, or no softmax attention in any block.
    """
    parts = find_parts(model)
    place = device or _entrance(model)
    model.eval()
    if model.config.model_type in OWN_WEIGHTS:
        return Subject(model, parts, "weights", ProjectionFactors(), place)
    path, parts = _seen_attention(model, parts, place)
    return Subject(model, parts, path, ProjectionFactors(), place)


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
                return "interface", with_attention(parts, [call.module for call in heard if call.module is not None])
        heard.clear()
        _run(model, parts, tokens, "sdpa")
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

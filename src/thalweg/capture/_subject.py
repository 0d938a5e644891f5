"""From a loaded model to a subject that can be observed: find its parts and the way its attention is seen."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from thalweg.capture._families import OWN_WEIGHTS
from thalweg.capture._interface import NAME, AttentionCall, TorchAttention, attention_implementation, listening
from thalweg.capture._observe import AttentionPath, Subject
from thalweg.capture._parts import Parts, find_parts
from thalweg.capture._projection import ProjectionFactors
from thalweg.errors import ModelError

__all__ = ["subject_of"]


def subject_of(model: PreTrainedModel, device: torch.device | None = None) -> Subject:
    """Find the parts of ``model`` and how its attention can be seen.

    Raises:
        ModelError: no decoder-only structure, or no softmax attention in any block.
    """
    parts = find_parts(model)
    place = device or model.get_input_embeddings().weight.device
    return Subject(model.eval(), parts, _path(model, parts, place), ProjectionFactors(), place)


def _path(model: PreTrainedModel, parts: Parts, device: torch.device) -> AttentionPath:
    if model.config.model_type in OWN_WEIGHTS:
        return "weights"
    tokens = torch.zeros(1, 4, dtype=torch.long, device=device)
    # A model outside the interface meets a name or a mask that it does not know and fails in a way of its own.
    if _calls(lambda: _run(model, parts, tokens, NAME), tolerant=True):
        return "interface"
    if _calls(lambda: _run(model, parts, tokens, "sdpa"), tolerant=False):
        return "torch"
    raise ModelError(
        f"{type(model).__name__} has no block with softmax attention that can be seen (a state-space model?); thalweg "
        "measures decoder-only models with softmax attention, and hybrids where they have it."
    )


def _run(model: PreTrainedModel, parts: Parts, tokens: Tensor, implementation: str) -> None:
    with torch.no_grad(), attention_implementation(model, implementation), TorchAttention():
        parts.body(input_ids=tokens, use_cache=False)


def _calls(run: Callable[[], None], *, tolerant: bool) -> int:
    heard = list[AttentionCall]()
    with listening(torch.tensor([4]), heard.append):
        try:
            run()
        except (AttributeError, TypeError, KeyError, ValueError, RuntimeError):
            if not tolerant:
                raise
            return 0
    return len(heard)

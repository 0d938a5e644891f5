"""From X(L) to logits: final norm, unembedding, a scale and a soft cap where the family has them."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from thalweg.capture._families import LOGIT_SOFTCAPS
from thalweg.capture._parts import text_configuration


@dataclass(frozen=True)
class Unembedding:
    """How a state is read as logits.

    Attributes:
        norm: the final norm; None if the model has none.
        head: the matrix to the vocabulary.
        scale: factor on the logits (Cohere, Granite), solved for.
        softcap: bound of a tanh on the logits (Gemma 2), or None.
        error: largest relative error against the model's own logits over the tokens tried.
    """

    norm: nn.Module | None
    head: nn.Module
    scale: float
    softcap: float | None
    error: float

    def logits(self, state: Tensor, /) -> Tensor:
        """Logits of a state, X(l) before the final norm."""
        logits = self.head(state if self.norm is None else self.norm(state)) * self.scale
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap


def find_unembedding(
    model: PreTrainedModel, norm: nn.Module | None, head: nn.Module, state: Tensor, logits: Tensor
) -> Unembedding:
    """Solve for the scale and measure the error."""
    config = text_configuration(model)
    softcap = next((cap for name in LOGIT_SOFTCAPS if (cap := getattr(config, name, None))), None)
    plain = Unembedding(norm, head, 1.0, None, torch.nan)
    bare = plain.logits(state).double()
    target = logits.double() if softcap is None else torch.atanh((logits.double() / softcap).clamp(-1, 1)) * softcap
    # a soft cap that saturates has no inverse: only finite targets tell the scale
    usable = target.isfinite()
    scale = float((bare * target)[usable].sum() / (bare * bare)[usable].sum())
    found = Unembedding(norm, head, round(scale, 5), softcap, torch.nan)
    gap = (found.logits(state).double() - logits.double()).norm(dim=-1) / logits.double().norm(dim=-1)
    return replace(found, error=float(gap.max()))

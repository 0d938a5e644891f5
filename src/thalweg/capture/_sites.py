"""Where a block's two summands come out, ready to be hooked: modules instead of names."""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import PreTrainedModel

from thalweg.capture._additive import AdditiveParts, additive_parts
from thalweg.capture._observe import Subject
from thalweg.capture._parts import text_configuration
from thalweg.capture._proof import proof_tokens, require

# How far rounding takes a factor that is solved for from the one that the model multiplies by.
SOLVED = {torch.float64: 1e-5, torch.float32: 1e-5, torch.float16: 4e-3}
SOLVED_COARSELY = 3e-2


@dataclass(frozen=True)
class Site:
    """A module whose output, times a factor, is one summand of a block.

    Attributes:
        module: it returns batch x token x width, or the same with batch and token flattened, alone or first in a tuple.
        scale: the factor; 1, or the model's residual multiplier.
    """

    module: nn.Module
    scale: float


_found: WeakKeyDictionary[PreTrainedModel, list[AdditiveParts]] = WeakKeyDictionary()


def additive_sites(subject: Subject) -> list[dict[str, Site]]:
    """For every block its ``attention`` and ``mlp`` site; proved the first time a model is asked about.

    Raises:
        ProofError: the block's output is not its input plus two modules' outputs.
    """
    if subject.model not in _found:
        require(subject, "additive parts")
        _found[subject.model] = additive_parts(subject.parts, proof_tokens(subject))
    return [
        {
            "attention": Site(
                block.module.get_submodule(found.attention or ""), _stated(subject.model, found.attention_scale)
            ),
            "mlp": Site(block.module.get_submodule(found.mlp or ""), _stated(subject.model, found.mlp_scale)),
        }
        for block, found in zip(subject.parts.blocks, _found[subject.model], strict=True)
    ]


def _stated(model: PreTrainedModel, solved: float) -> float:
    """The factor as the model has it, 1 or a number of its configuration, where rounding hid it; else as solved for."""
    numbers = [value for value in vars(text_configuration(model)).values() if isinstance(value, float)]
    nearest = min([1.0, *numbers], key=lambda number: abs(number - solved))
    return nearest if abs(nearest - solved) <= SOLVED.get(model.dtype, SOLVED_COARSELY) * abs(solved) else solved

"""The tuned lens: an affine translator for each state before the last, then the model's own unembedding.

Belrose et al. 2023; in the residual form of their published translators, X(l) + W X(l) + b, so that zeros are the logit
lens. The translation is computed in float32 and then has the model's own dtype.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.capture import Subject
from thalweg.lenses._logit import LogitLens, device_of
from thalweg.shapes import Float


@dataclass(frozen=True)
class Translator:
    """One state's affine map, what it adds to the state.

    Attributes:
        weight: W.
        bias: b; None where the lens was trained without.
    """

    weight: Float[Tensor, "width width"]
    bias: Float[Tensor, " width"] | None

    def __call__(self, rows: Float[Tensor, "token width"], /) -> Float[Tensor, "token width"]:
        """X + X W^T + b, in float32."""
        own = rows.float()
        return own + torch.nn.functional.linear(own, self.weight, self.bias)


class TunedLens:
    """Translators for states 0..L-1 on top of the logit lens; state L is read as the model reads it.

    Attributes:
        model: the logit lens underneath.
        last: L.
        translators: by state.
    """

    def __init__(self, subject: Subject, translators: Sequence[Translator]) -> None:
        """Prove the model's unembedding and put the translators where it is.

        Args:
            subject: the loaded model.
            translators: one for each of the states 0..L-1, of the model's width.

        Raises:
            ProofError: final norm and unembedding do not give the model's own logits.
            ValueError: another number of translators than the model has blocks.
        """
        self.model = LogitLens(subject)
        self.last = self.model.last
        if len(translators) != self.last:
            raise ValueError(f"expected {self.last} translators, one a state before the last; got {len(translators)}")
        place = device_of(self.model.unembedding)
        self.translators = tuple(
            Translator(_float(one.weight, place), None if one.bias is None else _float(one.bias, place))
            for one in translators
        )

    def logits(self, state: int, rows: Float[Tensor, "token width"], /) -> Float[Tensor, "token vocabulary"]:
        """As :class:`Lens` says."""
        return self.model.logits(state, self.translated(state, rows))

    def translated(self, state: int, rows: Float[Tensor, "token width"], /) -> Float[Tensor, "token width"]:
        """Rows of X(state) as the translator sees the last state in them, in the model's own dtype."""
        if state == self.last:
            return rows
        return self.translators[state](rows.to(device_of(self.model.unembedding))).to(rows.dtype)


def translators_of(tensors: Mapping[str, Tensor]) -> list[Translator]:
    """Translators from tensors named "0.weight", "0.bias", ... as published checkpoints name them."""
    count = sum(name.endswith(".weight") for name in tensors)
    return [Translator(tensors[f"{state}.weight"], tensors.get(f"{state}.bias")) for state in range(count)]


def _float(tensor: Tensor, place: torch.device) -> Tensor:
    return tensor.detach().to(place, torch.float32)

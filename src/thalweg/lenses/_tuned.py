"""The tuned lens: an affine translator for each state before the last, then the model's own unembedding.

Belrose et al. 2023; in the residual form of their published translators, X(l) + W X(l) + b, so that zeros are the logit
lens. The translation is computed in float32 and then has the model's own dtype.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from thalweg import metrics
from thalweg.capture import Subject, precise
from thalweg.errors import ModelError
from thalweg.lenses._logit import LogitLens
from thalweg.shapes import Float
from thalweg.validated import Says, validated


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
        exact = rows.float()
        return exact + torch.nn.functional.linear(exact, self.weight, self.bias)


class TunedLens:
    """Translators for states 0..L-1 on top of the logit lens; state L is read as the model reads it.

    Attributes:
        model: the logit lens underneath.
        last: L.
        translators: by state.
    """

    def __init__(self, subject: Subject, translators: Sequence[Translator]) -> None:
        """Prove the model's unembedding, as :class:`LogitLens` does, and put the translators where it is.

        Raises:
            ValueError: another number of translators than the model has blocks.
        """
        self.model = LogitLens(subject)
        self.last = self.model.last
        if len(translators) != self.last:
            raise ValueError(f"expected {self.last} translators, one a state before the last; got {len(translators)}")
        place = self.model.unembedding.device

        def moved(tensor: Tensor) -> Tensor:
            return tensor.detach().to(place, torch.float32)

        self.translators = tuple(
            Translator(moved(each.weight), None if each.bias is None else moved(each.bias)) for each in translators
        )

    def logits(self, state: int, rows: Float[Tensor, "token width"], /) -> Float[Tensor, "token vocabulary"]:
        """As :class:`Lens` says."""
        return self.model.logits(state, self.translated(state, rows))

    def translated(self, state: int, rows: Float[Tensor, "token width"], /) -> Float[Tensor, "token width"]:
        """Rows of X(state) as the translator sees the last state in them, in the model's own dtype."""
        if state == self.last:
            return rows
        return self.translators[state](rows.to(self.model.unembedding.device)).to(rows.dtype)


def translators_of(tensors: Mapping[str, Tensor]) -> list[Translator]:
    """Translators from tensors named "0.weight", "0.bias", ... as published checkpoints name them."""
    count = sum(name.endswith(".weight") for name in tensors)
    return [Translator(tensors[f"{state}.weight"], tensors.get(f"{state}.bias")) for state in range(count)]


@validated
class Recipe:
    """How translators are trained.

    Attributes:
        steps: of the optimiser.
        learning_rate: at the first step, before it is multiplied by 1 - momentum.
        momentum: Nesterov's.
        weight_decay: pulls towards the logit lens.
        clip: largest norm of all gradients together.
    """

    steps: Annotated[int, Field(ge=1), Says("--steps must be at least 1; got {got}.")] = 250
    learning_rate: Annotated[
        float, Field(gt=0, allow_inf_nan=False), Says("--learning-rate must be above 0 and finite; got {got}.")
    ] = 1.0
    momentum: float = 0.9
    weight_decay: float = 1e-3
    clip: float = 1.0


class Training:
    """Translators that are being trained, and everything that the next step depends on.

    At every state, KL of the model's own distribution to the one read there, over all tokens. The recipe of Belrose et
    al. 2023 and their published code: translators begin at zero, the logit lens; SGD with Nesterov momentum 0.9,
    learning rate 1 x (1 - momentum) that falls linearly to 0, weight decay 1e-3, the norm of all gradients together
    clipped at 1. All states learn from the same forward pass. Translators are float32; the model is not changed.

    Attributes:
        done: steps that are finished.
        losses: by finished step and state, KL in nats as it was before the step.
    """

    def __init__(self, subject: Subject, recipe: Recipe) -> None:
        """Prove the model's unembedding, as :class:`LogitLens` does, and begin with it."""
        self._model, self._recipe = LogitLens(subject), recipe
        self._place = self._model.unembedding.device
        width = subject.model.config.get_text_config(decoder=True).hidden_size
        self._parameters = {
            f"{state}.{name}": torch.zeros(shape, device=self._place, requires_grad=True)
            for state in range(self._model.last)
            for name, shape in (("weight", (width, width)), ("bias", (width,)))
        }
        self._optimizer = torch.optim.SGD(
            self._parameters.values(),
            lr=recipe.learning_rate * (1 - recipe.momentum),
            momentum=recipe.momentum,
            nesterov=True,
            weight_decay=recipe.weight_decay,
        )
        self.done, self.losses = 0, list[list[float]]()
        self._summed = precise(torch.zeros(self._model.last, device=self._place))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The translators as published checkpoints name them."""
        return {name: tensor.detach() for name, tensor in self._parameters.items()}

    def add(self, states: Sequence[Float[Tensor, "row width"]], tokens: int) -> None:
        """Add the gradient of some rows, all states of the same tokens.

        Args:
            states: rows of X(0), ..., X(L), in one order.
            tokens: of the whole step, over which the loss is averaged.
        """
        for piece in torch.arange(len(states[-1])).split(self._model.rows_at_once):
            place = slice(int(piece[0]), int(piece[-1]) + 1)
            with torch.no_grad():
                last = metrics.log_probabilities(self._model.logits(self._model.last, states[-1][place]))
            for state in range(self._model.last):
                self._add(state, states[state][place], last, tokens)

    def _add(self, state: int, rows: Tensor, last: Tensor, tokens: int) -> None:
        weight, bias = self._parameters[f"{state}.weight"], self._parameters[f"{state}.bias"]
        with torch.enable_grad():
            translated = Translator(weight, bias)(rows.detach().to(self._place)).to(rows.dtype)
            read = metrics.log_probabilities(self._model.logits(state, translated))
            loss = metrics.kl_to_last(read, last).sum() / tokens
            loss.backward(inputs=(weight, bias))  # the model's own weights get no gradient
        self._summed[state] += loss.detach()

    def step(self) -> None:
        """Finish a step with the gradients that were added.

        Raises:
            ModelError: a loss is not finite, as where a state of the model is not.
        """
        summed = self._summed.cpu()
        if not summed.isfinite().all():
            state = int((~summed.isfinite()).nonzero()[0])
            raise ModelError(
                f"KL at state {state} is not finite in step {self.done + 1}: the model's states or logits are not. "
                "Try --dtype float32, or a smaller --learning-rate."
            )
        recipe = self._recipe
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), recipe.clip)
        for group in self._optimizer.param_groups:
            left = max(0.0, 1 - self.done / recipe.steps)
            group["lr"] = recipe.learning_rate * (1 - recipe.momentum) * left
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.losses.append(summed.tolist())
        self._summed.zero_()
        self.done += 1

    def snapshot(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, as tensors."""
        momenta = {
            f"momentum.{name}": self._optimizer.state[parameter]["momentum_buffer"]
            for name, parameter in self._parameters.items()
            if self._optimizer.state[parameter].get("momentum_buffer") is not None
        }
        losses = torch.tensor(self.losses, dtype=torch.float64).reshape(self.done, self._model.last)
        return {**self.tensors, **momenta, "losses": losses}

    @torch.no_grad()
    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Go on from a snapshot, to the same bits as if nothing had happened."""
        for name, parameter in self._parameters.items():
            parameter.copy_(snapshot[name])
            if f"momentum.{name}" in snapshot:
                self._optimizer.state[parameter]["momentum_buffer"] = snapshot[f"momentum.{name}"].to(self._place)
        self.losses = snapshot["losses"].tolist()
        self.done = len(self.losses)

"""One linear layer for each state, all trained together in one loop over batches.

Each state's layer is what training it alone would give: ``torch.manual_seed(seed)``, ``torch.nn.Linear(width,
classes)``, ``torch.optim.Adam``, cross entropy, batches in the order of :func:`training_order`. Every state begins with
the same weights and sees the same batches; Adam is elementwise and the states' losses are added, so no state knows of
another.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from thalweg.experiments._probe.recipe import Recipe
from thalweg.shapes import Float, Int

CHUNK = 2**24
"""Numbers of the features that are held at once where nothing is trained."""


@runtime_checkable
class FeatureRows(Protocol):
    """Features as an array of rows x states x width, from which rows are taken."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, states, width."""
        ...

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """Some of the rows, in the order given."""
        ...


@dataclass(frozen=True)
class Probes:
    """A linear classifier for each state: scores are w x + b.

    Attributes:
        weight: by state and class.
        bias: by state and class.
    """

    weight: Float[Tensor, "state class width"]
    bias: Float[Tensor, "state class"]

    @torch.no_grad()
    def scores(self, features: FeatureRows, rows: np.ndarray) -> Float[Tensor, "state batch class"]:
        """Every state's scores of some rows, in their order.

        Args:
            features: rows x states x width.
            rows: which of them.
        """
        size = max(1, CHUNK // (self.weight.shape[0] * self.weight.shape[2]))
        parts = [self._scores(_batch(features, part)) for part in _parts(rows, size)]
        return torch.cat(parts, 1) if parts else self.weight.new_zeros(len(self.weight), 0, self.weight.shape[1])

    def _scores(self, batch: Float[Tensor, "state batch width"]) -> Float[Tensor, "state batch class"]:
        return torch.baddbmm(self.bias.unsqueeze(1), batch, self.weight.transpose(1, 2))


def train_linear(
    features: FeatureRows,
    rows: np.ndarray,
    classes: Int[Tensor, " example"],
    count: int,
    recipe: Recipe,
    *,
    done: Callable[[int], None] = lambda _: None,
) -> Probes:
    """Train a linear classifier on every state, in one pass over the batches for each epoch.

    Args:
        features: rows x states x width; the classifiers are of their dtype.
        rows: which of them to train on.
        classes: of each of ``rows``, 0 .. count - 1.
        count: number of classes.
        recipe: learning rate, epochs, batch, seed.
        done: told after every step how many examples it had.

    Returns:
        The classifiers.

    Example:
        >>> features = np.float32([[[1.0]], [[-1.0]]] * 50)  # one state of width 1
        >>> probes = train_linear(features, np.arange(100), torch.tensor([1, 0] * 50), 2, Recipe(epochs=50, batch=4))
        >>> probes.scores(features, np.arange(2)).argmax(-1).tolist()
        [[1, 0]]
    """
    states, width = features.shape[1:]
    dtype = torch.from_numpy(features[rows[:1]]).dtype
    layer = starting_layer(width, count, recipe.seed, dtype)
    weight = layer.weight.detach().repeat(states, 1, 1).requires_grad_()
    bias = layer.bias.detach().repeat(states, 1).requires_grad_()
    probes, optimizer = Probes(weight, bias), torch.optim.Adam([weight, bias], lr=recipe.learning_rate)
    for order in training_order(len(rows), recipe):
        scores = probes._scores(_batch(features, rows[order.numpy()]))
        wanted = classes[order].repeat(states)
        each = functional.cross_entropy(scores.flatten(0, 1), wanted, reduction="none")
        optimizer.zero_grad()
        (each.sum() / len(order)).backward()
        optimizer.step()
        done(len(order))
    return Probes(weight.detach(), bias.detach())


def starting_layer(width: int, classes: int, seed: int, dtype: torch.dtype = torch.float32) -> nn.Linear:
    """The layer that every state begins with: torch's own after ``torch.manual_seed(seed)``.

    Args:
        width: of a state.
        classes: how many.
        seed: of the draw; the caller's own random state is left as it is.
        dtype: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(width, classes, dtype=dtype)


def training_order(examples: int, recipe: Recipe) -> Iterator[Int[Tensor, " batch"]]:
    """The examples of each step: every epoch a new permutation, cut into batches; the last one may be smaller.

    Args:
        examples: how many there are.
        recipe: epochs, batch and seed.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    for _ in range(recipe.epochs):
        yield from torch.randperm(examples, generator=generator).split(recipe.batch)


def _batch(features: FeatureRows, rows: np.ndarray) -> Float[Tensor, "state batch width"]:
    return torch.from_numpy(features[rows]).transpose(0, 1)


def _parts(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for first in range(0, len(rows), size):
        yield rows[first : first + size]

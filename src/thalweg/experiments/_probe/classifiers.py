"""One linear layer for each state, all trained together in one loop over batches.

Each state's layer is what training it alone would give: ``torch.manual_seed(seed)``, ``torch.nn.Linear(width,
classes)``, ``torch.optim.Adam``, cross entropy, batches in the order of :func:`training_order`. Every state begins with
the same weights and sees the same batches; Adam is elementwise and the states' losses are added, so no state knows of
another.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from thalweg.errors import UsageError
from thalweg.experiments._probe import Recipe
from thalweg.shapes import Float, Int
from thalweg.store import Features

CHUNK = 2**24
"""Numbers of the features that are held at once where nothing is trained."""


@dataclass(frozen=True)
class Standardized:
    """Features of which some rows have mean 0 and standard deviation 1 in every state and dimension.

    A dimension that is the same in all of these rows keeps its scale.
    """

    features: Features | np.ndarray
    mean: Float[np.ndarray, "state width"]
    scale: Float[np.ndarray, "state width"]

    @classmethod
    def over(cls, features: Features | np.ndarray, rows: np.ndarray) -> "Standardized":
        """By mean and standard deviation over ``rows``, float64."""
        _, states, width = features.shape
        size = max(1, CHUNK // (states * width))
        pieces = [rows[first : first + size] for first in range(0, len(rows), size)]
        none = np.zeros((states, width))
        mean = sum((features[piece].astype(np.float64).sum(0) for piece in pieces), none) / len(rows)
        scale = np.sqrt(sum((((features[piece] - mean) ** 2).sum(0) for piece in pieces), none) / len(rows))
        return cls(features, mean, np.where(scale > 0, scale, 1.0))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows x states x width."""
        return self.features.shape

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        taken = self.features[rows]
        return ((taken - self.mean) / self.scale).astype(taken.dtype)


FeatureRows = Features | Standardized | np.ndarray
"""Rows x states x width, from which rows are taken."""


@dataclass(frozen=True)
class Probes:
    """A linear classifier for each state: scores are w x + b."""

    weight: Float[Tensor, "state class width"]
    bias: Float[Tensor, "state class"]

    @torch.no_grad()
    def scores(self, features: FeatureRows, rows: np.ndarray) -> Float[Tensor, "state batch class"]:
        """Every state's scores of some rows, in their order."""
        states, classes, width = self.weight.shape
        size = max(1, CHUNK // (states * width))
        parts = [self._scores(_batch(features, rows[first : first + size])) for first in range(0, len(rows), size)]
        return torch.cat([self.weight.new_zeros(states, 0, classes), *parts], 1)

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
    """The layer that every state begins with: torch's own after ``torch.manual_seed(seed)``, on a state of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(width, classes, dtype=dtype)


def training_order(examples: int, recipe: Recipe) -> Iterator[Int[Tensor, " batch"]]:
    """The examples of each step: every epoch a new permutation, cut into batches; the last one may be smaller."""
    generator = torch.Generator().manual_seed(recipe.seed)
    for _ in range(recipe.epochs):
        yield from torch.randperm(examples, generator=generator).split(recipe.batch)


def _batch(features: FeatureRows, rows: np.ndarray) -> Float[Tensor, "state batch width"]:
    return torch.from_numpy(features[rows]).transpose(0, 1)


ITERATIONS = 1000


def require_scikit_learn() -> None:
    """Say how to install scikit-learn where it is missing."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "--classifier logistic needs scikit-learn, which is not installed. Run: pip install scikit-learn"
        ) from error


def fit_logistic(
    state: Callable[[int], np.ndarray],
    states: int,
    classes: np.ndarray,
    count: int,
    recipe: Recipe,
    *,
    done: Callable[[int], None] = lambda _: None,
) -> tuple[Probes, list[bool]]:
    """Fit scikit-learn's logistic regression on every state, one after the other, and say whether each fit converged.

    L2 penalty with C = 1, L-BFGS, at most 1000 iterations. A state
    with a NaN has classifiers of NaN.

    Args:
        state: gives the training rows at one state, rows x width.
        states: how many there are.
        classes: of each row, 0 .. count - 1; every class is there.
        count: number of classes.
        recipe: its seed.
        done: told after every state that one is done.

    Example:
        >>> rows = np.array([[-1.0], [1.0], [2.0], [-2.0]])
        >>> probes, converged = fit_logistic(lambda _: rows, 1, np.array([0, 1, 1, 0]), 2, Recipe("logistic"))
        >>> (probes.scores(rows[:, None], np.arange(4)).argmax(-1).tolist(), converged)
        ([[0, 1, 1, 0]], [True])
    """
    require_scikit_learn()
    fits = list[tuple[np.ndarray, np.ndarray, bool]]()
    for index in range(states):
        fits.append(_fitted(state(index), classes, count, recipe))
        done(1)
    weights, biases, converged = zip(*fits, strict=True)
    return Probes(torch.from_numpy(np.stack(weights)), torch.from_numpy(np.stack(biases))), list(converged)


def _fitted(rows: np.ndarray, classes: np.ndarray, count: int, recipe: Recipe) -> tuple[np.ndarray, np.ndarray, bool]:
    """Weights and biases by class in the dtype of the rows, and whether the fit converged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if not np.isfinite(rows).all():
        return np.full((count, rows.shape[1]), np.nan, rows.dtype), np.full(count, np.nan, rows.dtype), False
    model: Any = LogisticRegression(max_iter=ITERATIONS, random_state=recipe.seed)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(rows, classes)
    for warning in said:
        if not issubclass(warning.category, ConvergenceWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    weight, bias = np.zeros((count, rows.shape[1]), rows.dtype), np.full(count, -np.inf, rows.dtype)
    if len(model.classes_) == 2:  # one row of weights: the second class against the first
        first, second = model.classes_
        weight[second], bias[second], bias[first] = model.coef_[0], model.intercept_[0], 0.0
    else:
        weight[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return weight, bias, not any(issubclass(warning.category, ConvergenceWarning) for warning in said)

"""Logistic regression on every state by scikit-learn, one state after the other; the one file that imports it.

Features are taken as they are, not standardised; L2 penalty with C = 1, L-BFGS, at most 1000 iterations.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from thalweg.errors import UsageError
from thalweg.experiments._probe.linear import Probes
from thalweg.experiments._probe.recipe import Recipe

ITERATIONS = 1000


def require_scikit_learn() -> None:
    """Say how to install scikit-learn where it is missing.

    Raises:
        UsageError: it is.
    """
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
    """Fit a logistic regression on every state.

    Args:
        state: gives the training rows at one state, rows x width.
        states: how many there are.
        classes: of each row, 0 .. count - 1; every class is there.
        count: number of classes.
        recipe: its seed.
        done: told after every state that one is done.

    Returns:
        The classifiers, and for each state whether its fit converged. A state with a NaN has classifiers of NaN.

    Raises:
        UsageError: scikit-learn is not installed.

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
    weight = torch.from_numpy(np.stack([weight for weight, _, _ in fits]))
    bias = torch.from_numpy(np.stack([bias for _, bias, _ in fits]))
    return Probes(weight, bias), [converged for _, _, converged in fits]


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

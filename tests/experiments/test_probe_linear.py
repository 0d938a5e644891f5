"""All states trained together are each state trained alone with torch's own layer and optimizer."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from thalweg.errors import UsageError
from thalweg.experiments._probe import Recipe
from thalweg.experiments._probe import classifiers as module
from thalweg.experiments._probe.classifiers import Probes, starting_layer, train_linear, training_order

ROWS, STATES, WIDTH, CLASSES = 203, 5, 24, 3


def drawn(dtype, seed=0):
    """Features of quite different sizes by state, one of them with a massive dimension, and classes that they tell."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((ROWS, STATES, WIDTH)) * np.geomspace(0.1, 30, STATES)[:, None]
    features[:, 3, 7] += 400
    classes = rng.integers(0, CLASSES, ROWS)
    features[np.arange(ROWS), :, classes] += 2 * np.geomspace(0.1, 30, STATES)
    return features.astype(dtype), torch.from_numpy(classes)


def alone(features, classes, count, recipe):
    """One state: the plain loop that anyone would write."""
    torch.manual_seed(recipe.seed)
    layer = torch.nn.Linear(features.shape[1], count, dtype=features.dtype)
    optimizer = torch.optim.Adam(layer.parameters(), lr=recipe.learning_rate)
    generator = torch.Generator().manual_seed(recipe.seed)
    for _ in range(recipe.epochs):
        order = torch.randperm(len(features), generator=generator)
        for first in range(0, len(order), recipe.batch):
            own = order[first : first + recipe.batch]
            optimizer.zero_grad()
            functional.cross_entropy(layer(features[own]), classes[own]).backward()
            optimizer.step()
    return layer.weight.detach(), layer.bias.detach()


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-4)])
@pytest.mark.parametrize("recipe", [Recipe(), Recipe(learning_rate=0.05, epochs=4, batch=50, seed=7)])
def test_together_is_alone(dtype, tolerance, recipe):
    features, classes = drawn(dtype)
    found = train_linear(features, np.arange(ROWS), classes, CLASSES, recipe)
    for state in range(STATES):
        weight, bias = alone(torch.from_numpy(features[:, state]), classes, CLASSES, recipe)
        assert not torch.equal(weight, starting_layer(WIDTH, CLASSES, recipe.seed, weight.dtype).weight)
        torch.testing.assert_close(found.weight[state], weight, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(found.bias[state], bias, rtol=tolerance, atol=tolerance)


def test_states_do_not_know_of_each_other():
    features, classes = drawn(np.float64)
    every = train_linear(features, np.arange(ROWS), classes, CLASSES, Recipe())
    one = train_linear(features[:, [2]], np.arange(ROWS), classes, CLASSES, Recipe())
    torch.testing.assert_close(one.weight[0], every.weight[2], rtol=1e-12, atol=1e-12)


def test_rows_are_taken_in_the_order_given():
    features, classes = drawn(np.float64)
    rows = np.random.default_rng(1).permutation(ROWS)[:90]
    some = train_linear(features, rows, classes[rows], CLASSES, Recipe())
    copied = train_linear(features[rows], np.arange(90), classes[rows], CLASSES, Recipe())
    assert torch.equal(some.weight, copied.weight)


def test_the_callers_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    features, classes = drawn(np.float32)
    train_linear(features, np.arange(ROWS), classes, CLASSES, Recipe())
    assert torch.equal(torch.rand(3), expected)


def test_every_epoch_sees_every_example_once_in_a_new_order():
    steps = list(training_order(10, Recipe(epochs=3, batch=4)))
    assert [len(step) for step in steps] == [4, 4, 2] * 3
    epochs = torch.cat(steps).reshape(3, 10)
    assert (epochs.sort(1).values == torch.arange(10)).all()
    assert not torch.equal(epochs[0], epochs[1])


def test_what_is_linearly_there_is_found_and_what_is_not_is_not():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((1200, 2, 8)).astype(np.float32)
    classes = torch.from_numpy(rng.integers(0, 2, 1200))
    features[:, 1, 4] += 6 * classes.numpy() - 3
    found = train_linear(features, np.arange(800), classes[:800], 2, Recipe(learning_rate=0.05, epochs=5))
    right = (found.scores(features, np.arange(800, 1200)).argmax(-1) == classes[800:]).float().mean(1)
    assert right[1] > 0.99
    assert abs(right[0] - 0.5) < 0.1  # four standard deviations of 400 coins


def test_scores_are_w_x_plus_b_however_they_are_cut(monkeypatch):
    features, _ = drawn(np.float64)
    probes = Probes(torch.randn(STATES, CLASSES, WIDTH).double(), torch.randn(STATES, CLASSES).double())
    rows = np.array([5, 0, 200, 7, 7])
    naive = [
        [probes.weight[s] @ torch.from_numpy(features[r, s]) + probes.bias[s] for r in rows] for s in range(STATES)
    ]
    expected = torch.stack([torch.stack(one) for one in naive])
    torch.testing.assert_close(probes.scores(features, rows), expected, rtol=1e-12, atol=1e-12)
    monkeypatch.setattr(module, "CHUNK", 2 * STATES * WIDTH)
    torch.testing.assert_close(probes.scores(features, rows), expected, rtol=1e-12, atol=1e-12)
    assert probes.scores(features, rows[:0]).shape == (STATES, 0, CLASSES)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"learning_rate": 0.0}, "--learning-rate must be above 0 and finite; got 0"),
        ({"learning_rate": float("nan")}, "--learning-rate must be above 0"),
        ({"epochs": 0}, "--epochs must be a whole number of at least 1; got 0"),
        ({"batch": 0}, "--batch must be"),
        ({"seed": -1}, "--seed must be"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(asked, said):
    with pytest.raises(UsageError, match=said):
        Recipe(**asked)

"""Logistic regression is scikit-learn's own; its warnings become a flag."""

import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from thalweg.errors import UsageError
from thalweg.experiments._probe import Recipe
from thalweg.experiments._probe import classifiers as module
from thalweg.experiments._probe.classifiers import fit_logistic

ASKED = Recipe("logistic")


@pytest.mark.parametrize("count", [2, 3])
def test_answers_are_scikit_learns(count):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((150, 3, 6))
    classes = rng.integers(0, count, 150)
    features[np.arange(150), :, classes] += 1.0
    probes, converged = fit_logistic(lambda state: features[:, state], 3, classes, count, ASKED)
    assert converged == [True] * 3
    scores = probes.scores(features, np.arange(150))
    for state in range(3):
        theirs = LogisticRegression(max_iter=1000, random_state=123).fit(features[:, state], classes)
        assert np.array_equal(scores[state].argmax(-1).numpy(), theirs.predict(features[:, state]))
        log_odds = scores[state].log_softmax(-1).numpy()
        np.testing.assert_allclose(log_odds, theirs.predict_log_proba(features[:, state]), rtol=1e-8, atol=1e-10)


def test_one_that_does_not_converge_says_so_and_warns_nobody(monkeypatch):
    monkeypatch.setattr(module, "ITERATIONS", 2)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((80, 5))
    _, converged = fit_logistic(lambda _: rows, 1, rng.integers(0, 2, 80), 2, ASKED)
    assert converged == [False]


def test_a_class_that_is_not_there_is_never_the_answer():
    rng = np.random.default_rng(0)
    rows, classes = rng.standard_normal((60, 4)), rng.choice([0, 2], 60)
    probes, _ = fit_logistic(lambda _: rows, 1, classes, 3, ASKED)
    assert set(probes.scores(rows[:, None], np.arange(60)).argmax(-1)[0].tolist()) <= {0, 2}


def test_a_state_with_a_gap_has_no_classifier():
    rows = np.ones((4, 2))
    rows[1, 1] = np.nan
    probes, converged = fit_logistic(lambda _: rows, 1, np.array([0, 1, 0, 1]), 2, ASKED)
    assert converged == [False]
    assert probes.weight.isnan().all()


def test_without_scikit_learn_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(UsageError, match=r"pip install scikit-learn"):
        fit_logistic(lambda _: np.zeros((2, 1)), 1, np.array([0, 1]), 2, ASKED)

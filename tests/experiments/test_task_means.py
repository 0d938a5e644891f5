"""Means over tasks and how far behind the best a state is, against SciPy's intervals."""

import math

import numpy as np
import polars as pl
import pytest
from scipy import stats

from thalweg.experiments._mteb.measure import task_means


def table(scores, kinds=None):
    return pl.DataFrame(
        [
            {"model": "m", "revision": "r", "task": task, "type": (kinds or {}).get(task, "STS"), "state": state}
            | {"score": float(score)}
            for task, own in scores.items()
            for state, score in enumerate(own)
        ]
    )


def test_means_and_paired_intervals_are_scipys():
    scores = np.random.default_rng(0).uniform(0.2, 0.9, (7, 5))
    found = task_means(table({f"t{row}": own for row, own in enumerate(scores)})).filter(type="all").sort("state")
    np.testing.assert_allclose(found["mean"], scores.mean(0), rtol=1e-12)
    best = int(scores.mean(0).argmax())
    assert found["best"].arg_true().to_list() == [best]
    for state in range(5):
        own = stats.ttest_1samp(scores[:, state], 0).confidence_interval()
        np.testing.assert_allclose(found.select("low", "high").row(state), own, rtol=1e-9)
        if state != best:
            behind = stats.ttest_rel(scores[:, best], scores[:, state]).confidence_interval()
            np.testing.assert_allclose(found.select("behind_low", "behind_high").row(state), behind, rtol=1e-9)
            assert found["tied"][state] == (behind.low <= 0)
    assert found["tied"][best]


def test_what_all_tasks_say_alike_is_no_tie_however_much_the_tasks_differ():
    found = task_means(table({"easy": [0.9, 0.95], "hard": [0.1, 0.15], "odd": [0.5, 0.551]})).filter(type="all")
    assert found["tied"].to_list() == [False, True]
    assert found["low"][1] < found["mean"][0] < found["high"][1]


def test_each_type_has_means_of_its_own():
    found = task_means(table({"a": [0.1, 0.3], "b": [0.3, 0.5], "c": [0.9, 0.8]}, {"c": "Clustering"}))
    by = {(row["type"], row["state"]): row for row in found.to_dicts()}
    assert by["STS", 1]["mean"] == pytest.approx(0.4)
    assert by["Clustering", 0]["best"]
    assert by["Clustering", 0]["n"] == 1
    assert by["all", 0]["mean"] == pytest.approx(1.3 / 3)


def test_one_task_cannot_say_what_is_tied_unless_scores_are_equal():
    found = task_means(table({"a": [0.5, 0.7, 0.7]})).filter(type="all")
    assert found["tied"].to_list() == [None, True, True]
    assert found["best"].to_list() == [False, True, False]
    assert math.isnan(found["low"][1])


def test_a_score_that_is_undefined_is_left_out_and_its_state_is_not_the_best():
    found = task_means(table({"a": [0.5, 0.6], "b": [0.4, math.nan]})).filter(type="all")
    assert found["n"].to_list() == [2, 1]
    assert found["best"].to_list() == [True, False]
    every = task_means(table({"a": [math.nan, math.nan]})).filter(type="all")
    assert every["mean"].is_nan().all()
    assert not every["best"].any()


def test_models_are_kept_apart():
    both = pl.concat([table({"a": [0.5, 0.6]}), table({"a": [0.9, 0.1]}).with_columns(model=pl.lit("other"))])
    found = task_means(both).filter(type="all", best=True)
    assert dict(found.select("model", "state").iter_rows()) == {"m": 1, "other": 0}

"""Massive activations, sinks and the valley appear at the checkpoint from which they stay."""

import math

import numpy as np
import polars as pl
import pytest

from thalweg.averages import checkpoint_curves, emergence, training_order, training_step

NAN = math.nan


def profile(checkpoints, data="words", model="lab/model"):
    """Rows of a profile: by revision, the values of some metrics by state or block."""
    rows = []
    for revision, metrics in checkpoints.items():
        key = {"model": model, "revision": revision, "data": data}
        for metric, values in metrics.items():
            site = "block" if metric == "sink_rate" else "state"
            rows += [
                {**key, "site": site, "index": index, "metric": metric, "mean": float(value)}
                for index, value in enumerate(values)
            ]
    return pl.DataFrame(rows).sample(fraction=1, shuffle=True, seed=1)


def checkpoint(ratio=(5, 2, 3), rate=(0, 0.1), entropy=(0.9, 0.8, 0.7)):
    return {
        "norm_ratio": ratio,
        "sink_rate": rate,
        "entropy_normalized": entropy,
        "sink_norm": [10 * value for value in ratio],
        "peak_value": [-value for value in ratio],
    }


def found(checkpoints, **options):
    frame = emergence(checkpoint_curves(profile(checkpoints, **options)))
    return {row["phenomenon"]: row for row in frame.iter_rows(named=True)}


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step143000", 143000),
        ("step0", 0),
        ("checkpoint-500", 500),
        ("global_step100", 100),
        ("step_100", 100),
        ("ckpt_042", 42),
        ("iter-7", 7),
        ("iteration 9", 9),
        ("Step8", 8),
        ("1500", 1500),
        ("step1000-tokens4B", 1000),
        ("stage1-step2000-tokens9B", 2000),
        ("main", None),
        ("local", None),
        ("v1.0", None),
        ("v2", None),
        ("step1k", None),
        ("step12k", None),
        ("step1.5", None),
        ("0a1b2c3", None),
        ("step", None),
        ("", None),
    ],
)
def test_the_step_is_read_out_of_the_name(name, step):
    assert training_step(name) == step


def test_checkpoints_are_ordered_by_step_with_main_last_or_as_given():
    assert training_order(["main", "step10", "step2", "step1000"]) == ["step2", "step10", "step1000", "main"]
    assert training_order(["step10", "early", "step2", "main"]) == ["step10", "early", "step2", "main"]
    assert training_order(["main"]) == ["main"]


def test_each_value_comes_with_the_place_where_it_is_reached():
    curves = checkpoint_curves(
        profile({"step4": checkpoint(ratio=(99, 2, 40, 8), rate=(0.1, 0.6, 0.2), entropy=(0.01, 0.8, 0.2, 0.6))})
    )
    values = {metric: (index, value) for metric, index, value in curves.select("metric", "index", "value").iter_rows()}
    assert values == {
        "max_norm_ratio": (2, 40.0),
        "max_sink_norm": (2, 400.0),
        "peak_value": (2, -40.0),
        "max_sink_rate": (1, 0.6),
        "min_entropy_normalized": (2, 0.2),
        "earlier_entropy_normalized": (1, 0.8),
        "entropy_ratio": (2, pytest.approx(0.25)),
    }
    assert curves.select("model", "revision", "data", "step", "order").unique().rows() == [
        ("lab/model", "step4", "words", 4, 0)
    ]


def test_a_phenomenon_emerges_where_it_comes_to_stay():
    rows = found(
        {
            "step20": checkpoint(ratio=(0, 1, 40), entropy=(0.7, 0.8, 0.41)),
            "step0": checkpoint(ratio=(50, 1, 12)),
            "step10": checkpoint(ratio=(50, 1, 9.9), rate=(0, 0.3)),
            "step30": checkpoint(ratio=(0, 1, 10), rate=(0.35, 0), entropy=(0.1, 0.8, 0.4)),
        }
    )
    assert {name: (row["revision"], row["step"], row["order"]) for name, row in rows.items()} == {
        "massive activations": ("step20", 20, 2),
        "sinks": ("step30", 30, 3),
        "valley": ("step30", 30, 3),
    }
    assert rows["massive activations"]["reason"] == "it was there at step0 and lost again"
    assert rows["sinks"]["reason"] == "it was there at step10 and lost again"
    assert rows["valley"]["reason"] is None
    assert rows["valley"]["definition"] == "min normalized entropy <= half of the largest at an earlier state"


def test_what_is_there_from_the_beginning_may_be_older():
    row = found({"step1": checkpoint(rate=(0.5,)), "step2": checkpoint(rate=(0.3,))})["sinks"]
    assert (row["step"], row["reason"]) == (1, "it is there at the first checkpoint measured, and may be older")


def test_never_says_how_far_it_came():
    rows = found({"step1": checkpoint(), "step2": checkpoint(ratio=(99, 2, 3.25))})
    assert all(row["step"] is row["order"] is row["revision"] is None for row in rows.values())
    assert rows["massive activations"]["reason"] == "at the last checkpoint it is 3.25"
    assert rows["valley"]["reason"] == "at the last checkpoint the least is 0.7 and the largest before it 0.9"


def test_a_valley_that_block_0_writes_is_one():
    low = checkpoint(ratio=(1, 300, 300), entropy=(0.9, 0.02, 0.015))
    assert found({"step1": checkpoint(), "step2": low})["valley"]["step"] == 2
    least_first = checkpoint(entropy=(0.3, 0.2, 0.9))
    assert found({"step1": checkpoint(), "step2": least_first})["valley"]["reason"].endswith(
        "the least is 0.2 and the largest before it 0.3"  # what comes after it makes no valley
    )


def test_what_is_undefined_does_not_hold():
    rows = found(
        {
            "step1": checkpoint(rate=(0.9, 0.9)),
            "step2": checkpoint(rate=(NAN, NAN), entropy=(NAN, NAN, 0.1)),
            "step3": checkpoint(rate=(0.9, NAN), entropy=(1, 0.8, 0.1)),
        }
    )
    assert rows["sinks"]["step"] == rows["valley"]["step"] == 3
    last = found({"step1": checkpoint(), "step2": checkpoint(rate=())})["sinks"]
    assert (last["step"], last["reason"]) == (None, "it is undefined at the last checkpoint")


def test_a_single_checkpoint_has_curves_and_no_emergence():
    curves = checkpoint_curves(profile({"main": checkpoint()}))
    assert curves["step"].to_list() == [None] * 7
    assert emergence(curves).height == 0


def test_names_without_a_step_keep_their_order_and_have_none():
    frames = [profile({name: checkpoint(rate=(rate,))}) for name, rate in (("late", 0.1), ("early", 0.7))]
    rows = emergence(checkpoint_curves(pl.concat(frames))).filter(phenomenon="sinks")
    assert rows.select("revision", "step", "order").rows() == [("early", None, 1)]


def test_models_and_data_sets_are_told_apart():
    frames = [
        profile({"step1": checkpoint(), "step2": checkpoint(rate=(rate,))}, data, model)
        for model, data, rate in (("a", "x", 0.1), ("a", "y", 0.7), ("b", "x", 0.8))
    ]
    rows = emergence(checkpoint_curves(pl.concat(frames))).filter(phenomenon="sinks")
    assert sorted(rows.select("model", "data", "step").rows()) == [("a", "x", None), ("a", "y", 2), ("b", "x", 2)]


def falls(entropy):
    """Whether the least of states 1..L is at most half of the largest at an earlier state."""
    least = min(entropy[1:])
    return least <= max(entropy[: entropy.index(least, 1)]) / 2


@pytest.mark.parametrize("seed", range(20))
def test_the_definition_written_out_gives_the_same(seed):
    random = np.random.default_rng(seed)
    steps = sorted(random.choice(1000, size=6, replace=False).tolist())
    checkpoints = {
        f"step{step}": checkpoint(
            ratio=random.uniform(0, 12, 4), rate=random.uniform(0, 0.4, 3), entropy=random.uniform(0.3, 1, 4)
        )
        for step in steps
    }
    rows = found(dict(sorted(checkpoints.items())))  # by name: not the order of training
    for name, holds in {
        "massive activations": lambda one: max(one["norm_ratio"][1:]) >= 10,
        "sinks": lambda one: max(one["sink_rate"]) >= 0.3,
        "valley": lambda one: falls(list(one["entropy_normalized"])),
    }.items():
        expected = next(
            (step for step in steps if all(holds(checkpoints[f"step{later}"]) for later in steps if later >= step)),
            None,
        )
        assert rows[name]["step"] == expected

"""Effects against the plain paired computation: every prompt with itself, gaps on either side left out."""

import math

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import stats

from thalweg import averages

KEY = {"model": "lab/one", "revision": "main", "data": "words"}
STATE = ("entropy", "entropy_normalized", "sink_norm", "rest_norm", "norm_ratio", "row_ratio")
BLOCK = ("sink_rate", "sink_score", "top_rate", "top_score", "elsewhere_rate", "mixing_normalized")
INTACT = pl.col("condition") == "intact"
BY = ("condition", "seed")
STATES, BLOCKS, PROMPTS = 4, 3, 6
CONDITIONS = (("intact", None), ("blocks 1", None), ("other position", 0), ("other position", 1))


def drawn(seed=0, *, prompts=PROMPTS, conditions=CONDITIONS, gaps=True):
    """Random tables with a few gaps."""
    random = np.random.default_rng(seed)
    states, blocks, losses = [], [], []
    for condition, draw in conditions:
        for prompt in range(prompts):
            own = {**KEY, "prompt": prompt, "condition": condition, "seed": draw}
            for state in range(STATES):
                numbers = {name: float(random.uniform(0.5, 50.0)) for name in STATE}
                numbers |= {"norm_ratio": math.nan} if gaps and prompt == 2 and state == 1 else {}
                numbers |= {"entropy_without_massive": float(random.uniform(20.0, 50.0))}
                position = int(random.integers(0, 3))
                states.append({**own, "state": state, **numbers, "row_position": position})
            for block in range(BLOCKS):
                rate = math.nan if gaps and prompt == 4 else float(random.uniform())
                others = {name: float(random.uniform()) for name in BLOCK}
                blocks.append({**own, "block": block, **others, "sink_rate": rate})
            losses.append({**own, "loss": float(random.uniform(1.0, 9.0)), "tokens": 9})
    types = {"seed": pl.Int32, "state": pl.Int32, "block": pl.Int32}
    return tuple(
        pl.DataFrame(rows, schema_overrides={name: kind for name, kind in types.items() if name in rows[0]})
        for rows in (states, blocks, losses)
    )


def naive(before, after, *, geometric):
    """Means, deviations and t intervals of the pairs, by numpy and scipy."""
    one, other = np.array(before), np.array(after)
    if geometric:
        one, other = np.log(one), np.log(other)
    kept = np.isfinite(one) & np.isfinite(other)
    one, other = one[kept], other[kept]
    found = {"n": len(one)}
    for name, values in (("intact", one), ("ablated", other), ("difference", other - one)):
        mean, spread, count = values.mean(), values.std(ddof=1), len(values)
        half = stats.t.ppf(0.975, count - 1) * spread / math.sqrt(count)
        low, high = mean - half, mean + half
        named = ("low", "high") if name == "difference" else (f"{name}_low", f"{name}_high")
        numbers = np.array([mean, low, high])
        found |= dict(zip((name, *named), np.exp(numbers) if geometric else numbers, strict=True))
        found |= {} if name == "difference" else {f"{name}_std": spread}
    return found


def column(frame, condition, seed, metric, **place):
    own = frame.filter(pl.col("seed").eq_missing(pl.lit(seed, pl.Int32)), condition=condition, **place)
    return own.sort("prompt")[metric].to_list()


@pytest.mark.parametrize("seed", range(3))
def test_effects_are_those_of_a_plain_paired_computation(seed):
    states, blocks, losses = drawn(seed)
    measured = averages.measurements(states.lazy(), blocks.lazy(), losses.lazy(), by=BY)
    table = averages.effects(measured, INTACT, by=BY)
    assert table.height == len(CONDITIONS) * (STATES * len(STATE) + BLOCKS * len(BLOCK) + 1)
    for row in table.iter_rows(named=True):
        frame, place = {
            "state": (states, {"state": row["index"]}),
            "block": (blocks, {"block": row["index"]}),
            "prompt": (losses, {}),
        }[row["site"]]
        both = CONDITIONS[0], (row["condition"], row["seed"])
        sides = [column(frame, *which, row["metric"], **place) for which in both]
        geometric = row["metric"] in ("norm_ratio", "row_ratio")
        assert row["geometric"] is geometric
        for name, value in naive(*sides, geometric=geometric).items():
            # both in float64; sums of at most six numbers differ in their last digits
            assert row[name] == pytest.approx(value, rel=1e-12, abs=1e-12), (row, name)


def test_the_model_as_it_is_differs_from_itself_by_nothing():
    states, blocks, losses = (frame.lazy() for frame in drawn())
    table = averages.effects(averages.measurements(states, blocks, losses, by=BY), INTACT, by=BY).filter(INTACT)
    ratios = pl.col("geometric")
    assert table.filter(~ratios)["difference"].unique().to_list() == [0.0]
    assert table.filter(ratios)["difference"].unique().to_list() == [1.0]
    for name in ("", "_std", "_low", "_high"):
        assert table[f"intact{name}"].equals(table[f"ablated{name}"].rename(f"intact{name}"))


def test_the_documented_example_and_one_prompt_alone():
    rows = [(0, "intact", 1.0), (1, "intact", 3.0), (0, "changed", 2.0), (1, "changed", 6.0)]
    long = {**KEY, "site": "state", "index": 0, "metric": "entropy"}
    measured = pl.LazyFrame([{**long, "prompt": p, "condition": c, "value": v} for p, c, v in rows])
    row = averages.effects(measured, INTACT, by=["condition"]).filter(condition="changed").row(0, named=True)
    assert (row["intact"], row["ablated"], row["difference"], row["n"]) == (2.0, 4.0, 2.0, 2)
    alone = averages.effects(measured.filter(prompt=0), INTACT, by=["condition"])
    assert alone["difference"].to_list() == [1.0, 0.0]
    assert alone["low"].is_nan().all()


def test_rows_in_another_order_give_the_same_bits():
    frames = drawn(5)
    tables = []
    for order in (1, 2):
        mixed = (frame.sample(fraction=1.0, shuffle=True, seed=order).lazy() for frame in frames)
        tables.append(averages.effects(averages.measurements(*mixed, by=BY), INTACT, by=BY))
    assert_frame_equal(*tables, check_exact=True)


def test_a_prompt_without_any_value_leaves_a_gap():
    states, blocks, losses = drawn(prompts=3)
    gone = blocks.with_columns(pl.lit(math.nan).alias("sink_rate"))
    table = averages.effects(averages.measurements(states.lazy(), gone.lazy(), losses.lazy(), by=BY), INTACT, by=BY)
    rates = table.filter(metric="sink_rate")
    assert rates.height == len(CONDITIONS) * BLOCKS
    assert rates["n"].unique().to_list() == [0]
    assert rates["ablated"].is_nan().all()

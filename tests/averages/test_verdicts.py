"""The rule of the verdicts at its borders and against a plain recomputation; who replaces a massive row that went."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tests.averages.test_effects import BY, INTACT, KEY, column, drawn, naive

from thalweg import averages

NUMBERS = st.floats(-2.0, 2.0, allow_nan=False)


@pytest.mark.parametrize(
    ("high_after", "low", "high", "said"),
    [
        (0.05, -0.5, -0.4, "removed"),
        (0.05 + 1e-9, -0.5, -0.4, "reduced"),
        (0.5, -0.2, -1e-9, "reduced"),
        (0.5, -0.2, 0.0, "unchanged"),
        (0.5, -0.2, 0.2, "unchanged"),
        (0.5, 0.0, 0.2, "unchanged"),
        (0.9, 1e-9, 0.2, "increased"),
        (0.6, -0.005, -0.001, "unchanged"),
        (0.6, -0.005 - 1e-9, -0.001, "reduced"),
        (0.6, 0.001, 0.005, "unchanged"),
        (0.6, 0.001, 0.005 + 1e-9, "increased"),
        (-0.1, -0.9, -0.7, "removed"),
    ],
)
def test_the_borders_of_the_rule(high_after, low, high, said):
    assert averages.verdict(intact=0.5, ablated_high=high_after, low=low, high=high) == said


@pytest.mark.parametrize("intact", [0.0, -0.2, math.nan])
def test_where_there_is_nothing_there_is_nothing_to_remove(intact):
    assert averages.verdict(intact=intact, ablated_high=0.0, low=-0.1, high=0.1) is None


@pytest.mark.parametrize("name", ["ablated_high", "low", "high"])
def test_without_a_number_there_is_no_verdict(name):
    given_ = {"intact": 0.7, "ablated_high": 0.1, "low": -0.7, "high": -0.5, name: math.nan}
    assert averages.verdict(**given_) is None


@given(st.floats(0.1, 1.0), NUMBERS, NUMBERS, NUMBERS)
def test_the_verdict_does_not_depend_on_the_unit(intact, high_after, one, other):
    low, high = sorted((one, other))
    said = {
        averages.verdict(intact=intact * unit, ablated_high=high_after * unit, low=low * unit, high=high * unit)
        for unit in (1.0, 4.0, 0.25)  # powers of two: no border is crossed by rounding
    }
    assert len(said) == 1


def tables(values, *, ratios=None, positions=None, rates=None, losses=None):
    """Rows from entropies by condition, prompt and state; the row ratio is 50 at states 2 and 3 unless given."""
    states, blocks, found = [], [], []
    for condition, prompts in values.items():
        for prompt, entropies in enumerate(prompts):
            own = {**KEY, "prompt": prompt, "condition": condition, "seed": None}
            for state, entropy in enumerate(entropies):
                ratio = (ratios or {}).get(condition, {2: 50.0, 3: 50.0}).get(state, 1.5)
                position = (positions or {}).get((condition, prompt), 0)
                number = {"entropy": entropy, "entropy_normalized": entropy / 4, "norm_ratio": ratio}
                number |= {"sink_norm": ratio, "rest_norm": 1.0, "row_ratio": ratio, "row_position": position}
                states.append({**own, "state": state, **number})
            for block in range(len(entropies) - 1):
                rate = (rates or {}).get(condition, 0.5)
                blocks.append({**own, "block": block, "sink_rate": rate + prompt / 100, "sink_score": rate})
            loss = (losses or {}).get(condition, 3.0)
            found.append({**own, "loss": loss + prompt / 10, "tokens": 8})
    types = {"seed": pl.Int32}
    return tuple(pl.LazyFrame(rows, schema_overrides=types) for rows in (states, blocks, found))


def by_phenomenon(table, condition):
    own = table.filter(condition=condition)
    return {row["phenomenon"]: row for row in own.iter_rows(named=True)}


VALLEY = [[2.0, 2.1, 0.3, 0.4, 1.9], [2.0, 2.3, 0.2, 0.3, 1.8], [2.1, 2.2, 0.25, 0.3, 1.9]]
FLAT = [[2.0, 2.1, 2.1, 2.1, 1.9], [2.0, 2.3, 2.29, 2.31, 1.8], [2.1, 2.2, 2.2, 2.19, 1.9]]
SHALLOW = [[2.0, 2.1, 1.2, 1.1, 1.9], [2.0, 2.3, 1.3, 1.3, 1.8], [2.1, 2.2, 1.2, 1.3, 1.9]]


def test_verdicts_are_those_of_a_plain_recomputation():
    values = {"intact": VALLEY, "flat": FLAT, "shallow": SHALLOW}
    parts = tables(values, rates={"flat": 0.0}, losses={"flat": 3.4})
    table = averages.verdicts(*parts)
    depth = {name: [1 - np.mean(row[2:4]) / row[1] for row in rows] for name, rows in values.items()}
    assert by_phenomenon(table, "flat")["compression"]["verdict"] == "removed"
    assert by_phenomenon(table, "shallow")["compression"]["verdict"] == "reduced"
    assert by_phenomenon(table, "flat")["sinks"]["verdict"] == "removed"
    assert by_phenomenon(table, "shallow")["sinks"]["verdict"] == "unchanged"
    assert table.height == 2 * 2
    for condition in ("flat", "shallow"):
        row = by_phenomenon(table, condition)["compression"]
        expected = naive(depth["intact"], depth[condition], geometric=False)
        for name in ("intact", "ablated", "ablated_low", "ablated_high", "difference", "low", "high", "n"):
            assert row[name] == pytest.approx(expected[name], rel=1e-12), name
        assert (row["compress_first"], row["compress_last"]) == (2, 3)
        assert row["loss_change"] == pytest.approx(0.4 if condition == "flat" else 0.0)
    change = np.subtract(depth["flat"], depth["intact"])
    low, high = stats.t.interval(0.95, 2, loc=change.mean(), scale=change.std(ddof=1) / math.sqrt(3))
    assert by_phenomenon(table, "flat")["compression"]["low"] == pytest.approx(low)
    assert by_phenomenon(table, "flat")["compression"]["high"] == pytest.approx(high)


@pytest.mark.parametrize("seed", range(3))
def test_means_over_the_compress_phase_and_the_depth_are_plain_means(seed):
    states, blocks, losses = drawn(seed)
    found = pl.DataFrame([{**KEY, "compress_first": 1, "compress_last": 2}])
    lazy = states.lazy(), blocks.lazy()
    long = pl.concat([averages.compress_means(*lazy, found, by=BY), averages.depth_means(*lazy, by=BY)]).collect()
    assert losses.height * (4 + 3) == long.height

    def told(condition, draw, site, metric):
        return column(long.filter(site=site, metric=metric), condition, draw, "value")

    for condition, draw in {(row["condition"], row["seed"]) for row in losses.iter_rows(named=True)}:

        def at(metric, places, frame=states, name="state", own=(condition, draw)):
            return np.array([column(frame, *own, metric, **{name: place}) for place in places])

        rates = at("sink_rate", range(3), blocks, "block")
        expected = {
            ("compress", "compression"): 1 - at("entropy", (1, 2)).mean(0) / at("entropy", (0,))[0],
            ("compress", "entropy_normalized"): at("entropy_normalized", (1, 2)).mean(0),
            ("compress", "norm_ratio"): np.exp(np.log(at("norm_ratio", (1, 2))).mean(0)),
            ("compress", "sinks"): rates[1:].mean(0),
            ("depth", "entropy_normalized"): at("entropy_normalized", (1, 2, 3)).mean(0),
            ("depth", "norm_ratio"): np.exp(np.log(at("norm_ratio", (1, 2, 3))).mean(0)),
            ("depth", "sink_rate"): rates.mean(0),
        }
        for (site, metric), values in expected.items():
            np.testing.assert_allclose(told(condition, draw, site, metric), values, rtol=1e-12, err_msg=metric)


def test_one_table_holds_all_effects_with_the_phase():
    parts = tables({"intact": VALLEY, "flat": FLAT})
    table = averages.changes(*parts, INTACT, by=BY)
    assert set(table.select("compress_first", "compress_last").iter_rows()) == {(2, 3)}
    # five states, four blocks, the loss; four of the phase, three of the depth; twice
    assert table.height == 2 * (5 * 6 + 4 * 2 + 1 + 4 + 3)
    (row,) = table.filter(site="compress", metric="compression", condition="flat").iter_rows(named=True)
    assert row["ablated"] == pytest.approx(by_phenomenon(averages.verdicts(*parts), "flat")["compression"]["ablated"])
    none = averages.changes(*tables({"intact": FLAT, "flat": FLAT}, ratios={"intact": {}, "flat": {}}), INTACT, by=BY)
    assert none["compress_first"].is_null().all()
    assert set(none["site"]) == {"state", "block", "prompt", "depth"}


def replaced(ratios, positions, **options):
    values = {"intact": VALLEY, "changed": SHALLOW}
    parts = tables(values, ratios={"changed": ratios}, positions=positions)
    return by_phenomenon(averages.verdicts(*parts, **options), "changed")["compression"]


def test_a_row_that_became_massive_elsewhere_is_found():
    moved = {("changed", prompt): 3 for prompt in range(3)}
    row = replaced({2: 50.0, 3: 50.0}, moved)
    assert row["replacement"] == "position 3 is massive in its place at states 2-3"
    assert (row["massive_states"], row["massive_position"], row["massive_position_share"]) == ([2, 3], 3, 1.0)
    still = replaced({1: 50.0, 3: 50.0}, {})
    assert still["replacement"] == "position 0 is still massive at states 1, 3"
    assert replaced({3: 50.0}, moved, sink_position=3)["replacement"] == "position 3 is still massive at state 3"
    scattered = {("changed", prompt): prompt + 1 for prompt in range(3)}
    said = "other positions are massive in its place at state 2, 1 most often"
    assert replaced({2: 50.0}, scattered)["replacement"] == said


def test_without_a_massive_row_nothing_replaces_it():
    row = replaced({}, {})
    assert (row["verdict"], row["replacement"], row["massive_states"]) == ("reduced", None, [])
    assert replaced({2: 9.99}, {})["replacement"] is None
    assert replaced({2: 9.99}, {}, massive_ratio=9.0)["replacement"] is not None


def test_what_is_removed_needs_no_replacement():
    parts = tables({"intact": VALLEY, "flat": FLAT})  # its rows are still large, and yet the valley is gone
    both = by_phenomenon(averages.verdicts(*parts), "flat")
    assert (both["compression"]["verdict"], both["compression"]["replacement"]) == ("removed", None)
    assert both["sinks"]["replacement"] is None


@pytest.mark.parametrize(
    ("values", "options", "compression", "sinks"),
    [
        ({"ratios": {"intact": {}, "changed": {}}}, {}, "no massive state", "no massive state"),
        ({"rates": {"intact": math.nan}}, {}, None, "no block of the compress phase has a sink rate"),
        ({"rates": {"intact": -0.01}}, {}, None, "no sinks to remove"),
        ({}, {"prompts": 1}, "one prompt: no interval", "one prompt: no interval"),
    ],
)
def test_no_verdict_has_a_reason(values, options, compression, sinks):
    count = options.get("prompts", 3)
    parts = tables({"intact": VALLEY[:count], "changed": FLAT[:count]}, **values)
    both = by_phenomenon(averages.verdicts(*parts), "changed")
    for phenomenon, reason in (("compression", compression), ("sinks", sinks)):
        row = both[phenomenon]
        if reason is None:
            assert (row["verdict"] is None, row["reason"]) == (False, None)
        else:
            assert row["verdict"] is None
            assert row["reason"].startswith(reason)

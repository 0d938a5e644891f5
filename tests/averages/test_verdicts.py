"""Verdicts against a plain recomputation and planted cases for every answer; who replaces a massive row that went."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tests.averages.test_effects import BLOCK, BY, INTACT, KEY, column, drawn

from thalweg import averages

L = 5
COMPRESS = {**KEY, "name": "compress", "first": 2, "last": 3}


def plain(before, after, least):
    """The rule of DEFINITIONS.md, said again with numpy and scipy."""
    if len(before) < 2:
        return "cannot be told"
    was, left = before.mean(axis=1), after.mean(axis=1)
    if not was.mean() > least:
        return "nothing to remove"
    half = stats.t.ppf(0.975, len(left) - 1) / math.sqrt(len(left))
    each_below_half = all(after[:, place].mean() <= 0.5 * before[:, place].mean() for place in range(before.shape[1]))
    if left.mean() + half * left.std(ddof=1) <= 0.1 * was.mean() and each_below_half:
        return "removed"
    change = left - was
    low, high = change.mean() - half * change.std(ddof=1), change.mean() + half * change.std(ddof=1)
    if abs(change.mean()) <= 0.01 * was.mean() or low <= 0 <= high:
        return "unchanged"
    return "reduced" if high < 0 else "increased"


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 6), st.sampled_from([0.0, 0.02, 0.3, 0.97, 1.0, 1.3]))
@settings(max_examples=150)
def test_the_verdict_is_that_of_a_plain_recomputation_in_any_order_of_prompts(seed, prompts, places, factor):
    random = np.random.default_rng(seed)
    before = random.uniform(0.05, 1.0) * random.uniform(0.5, 1.5, size=(prompts, places))
    after = before * factor * random.uniform(0.9, 1.1, size=before.shape) ** random.integers(0, 2)
    said = averages.verdict(before, after, least=0.2)
    assert said == plain(before, after, 0.2)
    order = random.permutation(prompts)
    assert averages.verdict(before[order], after[order], least=0.2) == said


WAS = np.array([[0.8, 0.9], [0.7, 0.8], [0.8, 0.8]])
SPREAD = np.array([[-1.0], [0.0], [1.0]])


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (WAS, WAS * 0.05, "removed"),
        (WAS, WAS * [1e-3, 0.51], "reduced"),  # a state above half of what it was, though the mean would do
        (np.tile(WAS, 5), np.tile(WAS, 5) * ([0.51] + [0.0] * 9), "reduced"),
        (np.tile(WAS, 5), np.tile(WAS, 5) * ([0.49] + [0.0] * 9), "removed"),
        (WAS, WAS * 0.09 + 0.03 * SPREAD, "reduced"),  # the mean would do, its upper bound does not
        (WAS, WAS * 0.5, "reduced"),
        (WAS, WAS + 0.5 * SPREAD, "unchanged"),  # the interval holds 0
        (WAS, WAS * 0.991, "unchanged"),  # certain, and within 1 %
        (WAS, WAS * 0.989, "reduced"),
        (WAS, WAS * 1.02, "increased"),
        (WAS * 0.2, WAS * 0.0, "nothing to remove"),
        (WAS[:1], WAS[:1] * 0.0, "cannot be told"),
        (WAS[:0], WAS[:0], "cannot be told"),
        (WAS[:, :0], WAS[:, :0], "cannot be told"),
    ],
)
def test_every_answer_has_its_case(before, after, said):
    assert averages.verdict(before, after, least=0.2) == said


def tables(cs, *, rates=None, anywhere=None, prompts=3):
    """States and blocks of a model of five blocks from C by condition and state, and rates by condition and block.

    The model as it is has entropy 2 without the massive rows; prompts differ by hundredths.
    """
    states, blocks = [], []
    for condition, compression in cs.items():
        for prompt in range(prompts):
            own = {**KEY, "prompt": prompt, "condition": condition, "seed": None}
            for state in range(L + 1):
                entropy = 2.0 * (1 - compression[state]) + prompt / 100
                without = 2.0 if condition == "intact" else 99.0  # the reference is the model as it is
                states.append({**own, "state": state, "entropy": entropy, "entropy_without_massive": without})
            for block in range(L):
                rate = (rates or {}).get(condition, [0.5] * L)[block]
                top = (anywhere or {}).get(condition, [rate] * L)[block]
                blocks.append({**own, "block": block, "sink_rate": rate, "top_rate": top})
    types = {"seed": pl.Int32}
    return tuple(pl.LazyFrame(rows, schema_overrides=types) for rows in (states, blocks))


def conditions(*names, first_state=1, judged=None):
    rows = [{**KEY, "condition": name, "seed": None, "first_state": first_state, "judged": judged} for name in names]
    return pl.DataFrame(rows, schema_overrides={"seed": pl.Int32, "judged": pl.String})


def judged(cs, *, segments=(COMPRESS,), first_state=1, about=None, **options):
    """Rows by phenomenon of the condition "changed"."""
    states, blocks = tables({"intact": VALLEY, **cs}, **options)
    segments = pl.DataFrame(segments, schema_overrides={"name": pl.String}) if segments else NO_SEGMENT
    table = averages.verdicts(states, blocks, segments, conditions("changed", first_state=first_state, judged=about))
    return {row["phenomenon"]: row for row in table.iter_rows(named=True)}


NO_SEGMENT = pl.DataFrame(schema={**dict.fromkeys([*KEY, "name"], pl.String), "first": pl.Int64, "last": pl.Int64})
VALLEY, FLAT = [0, 0, 0.9, 0.8, 0, 0], [0, 0, 0.0, 0.0, 0, 0]


def test_verdicts_hold_the_numbers_of_a_plain_recomputation():
    both = judged({"changed": [0, 0, 0.4, 0.2, 0, 0]}, rates={"changed": [0.5, 0.5, 0.3, 0.01, 0.5]})
    row = both["compression"]
    before, after = (
        np.array([[c[state] - prompt / 200 for state in (2, 3)] for prompt in range(3)]).mean(1)
        for c in (VALLEY, [0, 0, 0.4, 0.2])
    )
    change = after - before
    low, high = stats.t.interval(0.95, 2, loc=after.mean(), scale=after.std(ddof=1) / math.sqrt(3))
    assert (row["verdict"], row["n"], row["first"], row["last"]) == ("reduced", 3, 2, 3)
    assert row["intact"] == pytest.approx(before.mean())
    assert row["ablated"] == pytest.approx(after.mean())
    assert (row["ablated_low"], row["ablated_high"]) == pytest.approx((low, high))
    assert row["difference"] == pytest.approx(change.mean())
    assert (row["low"], row["high"]) == pytest.approx((change.mean(), change.mean()))
    sinks = both["sinks"]
    assert (sinks["intact"], sinks["ablated"], sinks["gone_from"]) == (0.5, pytest.approx(0.155), 3)
    assert (sinks["before_intact"], sinks["before_ablated"]) == (0.5, pytest.approx(0.3))
    assert (sinks["anywhere_intact"], sinks["anywhere_ablated"], sinks["moved"]) == (0.5, pytest.approx(0.155), False)


def test_a_row_perfectly_removed_has_a_compression_of_nothing():
    row = judged({"changed": [0, 0, -0.3, -0.2, 0, 0]})["compression"]  # more entropy than without it
    assert (row["verdict"], row["ablated"], row["gone_from"]) == ("removed", 0.0, 2)


def test_what_is_judged_is_what_can_be_reached():
    cs = {"changed": [0, 0, 0.9, 0.0, 0, 0]}
    assert judged(cs)["compression"]["verdict"] == "reduced"
    above = judged(cs, first_state=3)
    assert (above["compression"]["verdict"], above["compression"]["first"]) == ("removed", 3)
    assert (above["sinks"]["first"], above["sinks"]["last"]) == (3, 3)
    for row in judged(cs, first_state=4).values():
        assert row["verdict"] == "cannot be told"
        assert row["reason"] == "it ends at state 3, before state 4, the first that can change"


def test_a_segment_that_no_block_reads_has_no_sinks_to_judge():
    last = {**COMPRESS, "first": L, "last": L}
    both = judged({"changed": FLAT}, segments=(last,))
    assert both["sinks"]["reason"] == "no block with softmax attention reads its states"
    assert both["compression"]["verdict"] == "nothing to remove"


def test_sinks_that_went_elsewhere_are_not_gone():
    gone = {"changed": [0.0] * L}
    elsewhere = {"intact": [0.5] * L, "changed": [0.14] * L}
    sinks = judged({"changed": FLAT}, rates=gone, anywhere=elsewhere)["sinks"]
    assert (sinks["verdict"], sinks["moved"]) == ("removed", True)
    assert (sinks["anywhere_intact"], sinks["anywhere_ablated"]) == pytest.approx((0.5, 0.14))
    assert judged({"changed": FLAT}, rates=gone)["sinks"]["moved"] is False


def test_no_more_than_half_may_come_before_what_is_gone():
    four = {**COMPRESS, "first": 1, "last": 4}
    for kept, gone_from in ((1, 2), (2, 3), (3, None)):
        rates = {"changed": [0.4] + [0.4] * kept + [0.0] * (4 - kept)}
        assert judged({"changed": FLAT}, segments=(four,), rates=rates)["sinks"]["gone_from"] == gone_from


def test_each_segment_is_judged_apart_and_a_control_on_its_own_alone():
    wave = {**COMPRESS, "name": "wave", "first": 1, "last": 1}
    states, blocks = tables({"intact": [0, 0.18, 0.9, 0.8, 0, 0], "changed": FLAT})
    segments = pl.DataFrame([wave, COMPRESS])
    table = averages.verdicts(states, blocks, segments, conditions("changed"))
    said = {(row["segment"], row["phenomenon"]): row["verdict"] for row in table.iter_rows(named=True)}
    assert said == {
        ("wave", "compression"): "nothing to remove",
        ("wave", "sinks"): "unchanged",
        ("compress", "compression"): "removed",
        ("compress", "sinks"): "unchanged",
    }
    control = averages.verdicts(states, blocks, segments, conditions("changed", judged="compress"))
    assert set(control["segment"]) == {"compress"}


@pytest.mark.parametrize(
    ("options", "compression", "sinks"),
    [
        ({"segments": ()}, "no massive state: no compress phase, no wave", "no massive state: no compress phase"),
        ({"rates": {"intact": [math.nan] * L}}, None, "no prompts with finite values: no interval"),
        ({"rates": {"changed": [math.nan] * L}}, None, "no prompts with finite values: no interval"),
        ({"prompts": 1}, "1 prompt with finite values: no interval", "1 prompt with finite values: no interval"),
    ],
)
def test_what_cannot_be_told_has_a_reason(options, compression, sinks):
    both = judged({"changed": FLAT}, **options)
    for phenomenon, reason in (("compression", compression), ("sinks", sinks)):
        row = both[phenomenon]
        assert (row["verdict"] == "cannot be told") is (reason is not None)
        assert row["reason"] is None if reason is None else row["reason"].startswith(reason)


@pytest.mark.parametrize("seed", range(3))
def test_means_over_segments_and_the_depth_are_plain_means(seed):
    states, blocks, losses = drawn(seed)
    found = pl.DataFrame([{**KEY, "name": "compress", "first": 1, "last": 2}])
    lazy = states.lazy(), blocks.lazy()
    means = averages.segment_means(*lazy, found, INTACT, by=BY), averages.depth_means(*lazy, by=BY)
    long = pl.concat(means).collect()
    assert losses.height * (3 + len(BLOCK) + 3) == long.height

    def told(condition, draw, site, metric):
        return column(long.filter(site=site, metric=metric), condition, draw, "value")

    def at(own, metric, places, frame=states, name="state"):
        return np.array([column(frame, *own, metric, **{name: place}) for place in places])

    for own in {(row["condition"], row["seed"]) for row in losses.iter_rows(named=True)}:
        reference = at(("intact", None), "entropy_without_massive", (1, 2))
        c = np.maximum(1 - at(own, "entropy", (1, 2)) / reference, 0)
        blockwise = {name: at(own, name, range(3), blocks, "block") for name in BLOCK}
        expected = {
            ("compress", "compression"): c.mean(0),
            ("compress", "entropy_normalized"): at(own, "entropy_normalized", (1, 2)).mean(0),
            ("compress", "norm_ratio"): np.exp(np.log(at(own, "norm_ratio", (1, 2))).mean(0)),
            **{
                ("compress", name.replace("sink_rate", "sinks")): values[1:].mean(0)
                for name, values in blockwise.items()
            },
            ("depth", "entropy_normalized"): at(own, "entropy_normalized", (1, 2, 3)).mean(0),
            ("depth", "norm_ratio"): np.exp(np.log(at(own, "norm_ratio", (1, 2, 3))).mean(0)),
            ("depth", "sink_rate"): blockwise["sink_rate"].mean(0),
        }
        for (site, metric), values in expected.items():
            np.testing.assert_allclose(told(*own, site, metric), values, rtol=1e-12, err_msg=metric)


def test_one_table_holds_all_effects_with_the_phase():
    states, blocks, losses = (frame.lazy() for frame in drawn())
    segments = pl.DataFrame([{**KEY, "name": "compress", "first": 1, "last": 2}])
    table = averages.changes(states, blocks, losses, segments, INTACT, by=BY)
    assert set(table.select("compress_first", "compress_last").iter_rows()) == {(1, 2)}
    # four states, three blocks, the loss; nine of the segment, three of the depth; of four conditions
    assert table.height == 4 * (4 * 6 + 3 * 6 + 1 + 9 + 3)
    none = averages.changes(states, blocks, losses, NO_SEGMENT, INTACT, by=BY)
    assert none["compress_first"].is_null().all()
    assert set(none["site"]) == {"state", "block", "prompt", "depth"}


def rows_of(others, *, own=None, before=(), prompts=4):
    """Rows by (prompt, state): ratio, position and token of another large row; ``before``: where it was so anyway."""
    found = []
    for condition in ("intact", "changed"):
        for prompt in range(prompts):
            for state in range(L + 1):
                place = (prompt, state)
                large = others.get(place) if condition == "changed" or place in before else None
                ratio, position, token = large or (1.5, 9, None)
                found.append(
                    {
                        **KEY,
                        "prompt": prompt,
                        "condition": condition,
                        "seed": None,
                        "state": state,
                        "own_ratio": (own or {}).get(place, 2.0),
                        "other_ratio": ratio,
                        "other_position": position,
                        "other_token": token,
                    }
                )
    return pl.LazyFrame(found, schema_overrides={"seed": pl.Int32, "other_token": pl.String})


def replaced(others, **options):
    return averages.replacements(rows_of(others, **options)).row(0, named=True)


def test_a_row_that_became_massive_elsewhere_is_found():
    others = {(prompt, state): (40.0 * state, 7, " the") for prompt in (0, 1, 2) for state in (2, 3)}
    others |= {(3, 2): (11.0, 5, "A")}
    row = replaced(others)
    assert (row["other_states"], row["other_position"], row["other_share"]) == ([2, 3], 7, 6 / 7)
    assert (row["other_tokens"], row["other_prompts"]) == ([" the"], 1.0)
    assert row["other_ratio"] == pytest.approx(max((80**3 * 11) ** 0.25, (120**3 * 1.5) ** 0.25))
    assert row["still_states"] == []


@pytest.mark.parametrize(("many", "states"), [(1, []), (2, [3]), (4, [3])])
def test_a_replacement_is_one_for_half_of_the_prompts(many, states):
    row = replaced({(prompt, 3): (30.0, 1, "x") for prompt in range(many)})
    assert (row["other_states"], row["other_position"]) == (states, 1 if states else None)
    assert row["other_prompts"] == many / 4


def test_what_was_massive_before_replaces_nothing():
    others = {(prompt, 3): (30.0, 1, "x") for prompt in range(4)}
    assert replaced(others, before={(prompt, 3) for prompt in range(4)})["other_states"] == []
    # of the two prompts that had none, both have one
    assert replaced(others, before={(0, 3), (1, 3)})["other_states"] == [3]
    one = {place: large for place, large in others.items() if place[0] != 3}
    assert replaced(one | {(2, 3): (3.0, 1, None)}, before={(0, 3), (1, 3)})["other_states"] == []
    assert replaced({(prompt, 0): (30.0, 1, "x") for prompt in range(4)})["other_states"] == []  # no block wrote it


@pytest.mark.parametrize(("many", "states"), [(1, []), (2, [3]), (4, [3])])
def test_a_row_is_still_massive_where_it_is_for_half_of_the_prompts(many, states):
    own = {(prompt, 3): 10.0 for prompt in range(many)}
    assert replaced({}, own=own)["still_states"] == states

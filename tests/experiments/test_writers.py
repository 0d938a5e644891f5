"""The smallest sets of writers and erasers against every set there is, and averages against plain loops."""

import math
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.experiments._attribute import writers as formulas
from thalweg.experiments._attribute.writers import Erasers, Writers

KEY = {"model": "lab/one", "revision": "main", "data": "words"}
SHARES = st.lists(st.floats(-1.0, 1.0).map(lambda value: round(value, 3)), min_size=1, max_size=7)


@given(SHARES, st.sampled_from([0.5, 0.9]))
def test_no_smaller_set_reaches_the_threshold(shares, threshold):
    found = formulas.writing_blocks(dict(enumerate(shares)), threshold=threshold)
    reaching = [
        chosen
        for size in range(1, len(shares) + 1)
        for chosen in combinations(range(len(shares)), size)
        if math.fsum(shares[block] for block in chosen) >= threshold
    ]
    if not reaching:
        assert found.blocks == ()
        assert f"below {threshold:.0%}" in found.reason
        assert found.share == pytest.approx(sum(share for share in shares if share > 0))
    else:
        assert len(found.blocks) == len(reaching[0])
        assert found.share == pytest.approx(math.fsum(shares[block] for block in found.blocks))
        assert found.share >= threshold
        assert found.share == pytest.approx(
            max(math.fsum(shares[one] for one in chosen) for chosen in reaching if len(chosen) == len(found.blocks))
        )
        assert found.reason is None


PARTS = st.dictionaries(
    st.tuples(st.integers(0, 3), st.sampled_from(["attention", "mlp"])), st.floats(-1.0, 1.0).map(lambda v: round(v, 3))
)


@given(PARTS)
def test_no_smaller_set_takes_nine_tenths_of_what_is_taken(shares):
    found = formulas.erasing_parts(shares)
    taken = {part: -share for part, share in shares.items() if share < 0}
    whole = math.fsum(taken.values())
    assert found.whole == pytest.approx(whole)
    assert set(found.parts) <= set(taken)
    assert found.parts == tuple(sorted(found.parts))
    assert found.share == pytest.approx(math.fsum(taken[part] for part in found.parts))
    assert found.share >= 0.9 * whole
    for smaller in combinations(taken, max(len(found.parts) - 1, 0)):
        assert math.fsum(taken[part] for part in smaller) < 0.9 * whole or not found.parts


def test_the_documented_examples_and_ties():
    assert formulas.writing_blocks({0: 0.05, 1: 0.7, 2: -0.1, 3: 0.25}) == Writers((1, 3), 0.95, None)
    assert formulas.writing_blocks({4: 0.5, 2: 0.5, 3: 0.5}, threshold=0.9).blocks == (2, 3)
    for unknown in ({}, {0: math.nan, 1: 1.0}):
        found = formulas.writing_blocks(unknown)
        assert (found.blocks, found.reason) == ((), "no prompt has such a row")
        assert math.isnan(found.share)
    two = {(3, "mlp"): -0.1, (2, "mlp"): -0.7, (2, "attention"): 0.3}
    assert formulas.erasing_parts(two) == Erasers(((2, "mlp"), (3, "mlp")), 0.7 + 0.1, 0.7 + 0.1)
    assert formulas.erasing_parts({(1, "mlp"): 0.5}) == Erasers((), 0.0, 0.0)


BLOCKS = 3
SEGMENT = {"name": "compress", "first": 1, "last": 2, "reference_state": 2, "sink_position": None}


def tables(prompts, *segments):
    """Rows of prompts given as (shares of every part, sink and row ratio and largest row by state), alike in every
    segment."""
    states, parts, dims = [], [], []
    segments = segments or (SEGMENT,)
    for prompt, (shares, ratios) in enumerate(prompts):
        for segment in segments:
            own = {**KEY, "prompt": prompt, "segment": segment["name"]}
            for state in range(BLOCKS + 1):
                sink, row, position = ratios[state]
                place = {"row_ratio": row, "sink_ratio": sink, "row_position": position}
                states.append({**own, "state": state, **place})
            names = [(None, "embedding"), *((block, part) for block in range(BLOCKS) for part in ("attention", "mlp"))]
            for (block, part), share in zip(names, shares, strict=True):
                before = block is None or block < segment["reference_state"]
                numbers = {"norm": 100 * abs(share) + 1, "along": 100 * share, "share": share, "cosine": share / 2}
                parts.append({**own, "block": block, "part": part, **numbers, "before": before})
                for rank, (dim, held) in enumerate([(prompt, 0.8), (7, 0.5), (9, 0.05)]):
                    value = held * (100 * abs(share) + 1)
                    dims.append({**own, "block": block, "part": part, "rank": rank, "dim": dim, "value": value})
    plan = pl.DataFrame(
        [{**KEY, **segment} for segment in segments],
        schema_overrides={"first": pl.Int64, "last": pl.Int64, "sink_position": pl.Int64},
    )
    return [*(pl.DataFrame(rows, infer_schema_length=None) for rows in (states, parts, dims)), plan]


PLAIN = [(1.0, 1.2, 3)] * 4
MASSIVE = [(1.0, 1.2, 3), (80.0, 80.0, 0), (90.0, 90.0, 0), (1.0, 1.2, 2)]
ELSEWHERE = [(1.0, 1.2, 3), (0.5, 80.0, 5), (0.6, 90.0, 5), (1.0, 1.2, 2)]
# embedding, then attention and MLP of blocks 0, 1, 2
BY_ONE = ([0.02, 0.01, 0.95, -0.01, 0.03, 0.0, -0.9], MASSIVE)
BY_TWO = ([0.08, 0.00, 0.62, 0.00, 0.30, 0.0, 0.8], MASSIVE)
ORDINARY = ([1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], PLAIN)
LOST = ([math.nan] * 7, [(math.nan, 1.2, 3)] * 4)


def written(prompts, *segments, **options):
    states, parts, _, plan = tables(prompts, *segments)
    return formulas.writers(states, parts, plan, **options).row(0, named=True)


def test_the_mean_share_decides_and_agreement_is_told():
    row = written([BY_ONE, BY_ONE, BY_TWO, BY_ONE])
    assert row["writing_blocks"] == [0, 1]  # (3 x 0.95 + 0.62) / 4 is below 0.9
    assert row["writing_share"] == pytest.approx((3 * 0.98 + 0.92) / 4)
    assert row["writing_agreement"] == 0.25
    assert (row["segment"], row["first"], row["last"], row["reference_state"]) == ("compress", 1, 2, 2)
    assert (row["prompts"], row["massive_prompts"], row["reason"]) == (4, 4, None)
    assert row["erasing_parts"] == ["mlp 2"]
    assert row["erasing_share"] == row["erased_share"] == pytest.approx((3 * 0.9 - 0.8) / 4)
    assert row["erasing_agreement"] == 0.75


def test_what_comes_after_the_reference_state_does_not_write_it():
    row = written([BY_TWO])
    assert row["writing_blocks"] == [0, 1]  # not block 2, though its share is the largest
    assert row["writing_share"] == pytest.approx(0.92)
    assert (row["erasing_parts"], row["erased_share"]) == ([], 0.0)


def test_erasers_end_where_the_next_segment_begins():
    taken = ([1.0, 0.0, -0.1, -0.2, -0.3, -0.4, -0.5], MASSIVE)
    wave = {**SEGMENT, "name": "wave", "first": 1, "last": 1, "reference_state": 1}
    later = {**SEGMENT, "first": 2, "last": 3, "reference_state": 3}
    states, parts, _, plan = tables([taken], wave, later)
    first, second = formulas.writers(states, parts, plan).to_dicts()
    assert (first["segment"], first["erasing_parts"]) == ("wave", ["attention 1", "mlp 1"])
    assert first["erased_share"] == pytest.approx(0.5)
    assert (second["segment"], second["erasing_parts"]) == ("compress", [])
    assert math.isnan(second["erased_share"])  # nothing comes after the last state
    alone = formulas.writers(*(frame.filter(segment="wave") for frame in (states, parts)), plan)
    assert alone.equals(
        formulas.writers(states, parts, plan)[:1]
    )  # measured alone, it still ends where the next begins


def test_prompts_without_a_massive_row_do_not_enter():
    row = written([BY_ONE, BY_ONE, ORDINARY])
    assert row["writing_blocks"] == [0]
    assert row["writing_share"] == pytest.approx(0.95)
    assert (row["prompts"], row["massive_prompts"]) == (3, 2)


def test_prompts_that_do_not_reach_the_row_are_left_out():
    row = written([BY_ONE, LOST, BY_ONE])
    assert row["writing_share"] == pytest.approx(0.95)
    alone = written([LOST], {**SEGMENT, "name": "none", "first": None, "last": None})
    assert (alone["writing_blocks"], alone["reason"]) == ([], "no massive activation")


def test_a_row_that_is_massive_in_fewer_than_half_of_the_prompts_is_not_judged():
    row = written([BY_ONE, ORDINARY, ORDINARY])
    assert row["writing_blocks"] == row["erasing_parts"] == []
    assert row["reason"] == "its row is massive in 1 of 3 prompts, fewer than half"
    assert math.isnan(row["writing_share"])
    assert math.isnan(row["erased_share"])
    assert written([BY_ONE, ORDINARY])["writing_blocks"] == [0]  # half is enough


def test_without_a_massive_state_nothing_is_written():
    row = written([ORDINARY], {**SEGMENT, "name": "none", "first": None, "last": None})
    assert (row["writing_blocks"], row["erasing_parts"]) == ([], [])
    assert (row["segment"], row["reason"]) == ("none", "no massive activation")


def test_a_massive_row_elsewhere_is_said_to_be_there():
    row = written([(BY_ONE[0], ELSEWHERE)] * 2, {**SEGMENT, "sink_position": 1})
    assert row["writing_blocks"] == []
    assert row["reason"] == (
        "the massive row is not at position 1, but at position 5 most often; leave out --sink-position"
    )


def test_where_mlps_do_not_suffice_the_reason_says_what_does():
    row = written([([0.6, 0.1, 0.2, 0.0, 0.1, 0.0, 0.0], MASSIVE)])
    assert row["writing_blocks"] == []
    assert row["writing_share"] == pytest.approx(0.3)
    assert row["reason"] == (
        "all MLPs that raise it write 30% of the massive row, below 90%; the embedding writes 60%, attention 10%"
    )
    assert written([([0.6, 0.1, 0.2, 0.0, 0.1, 0.0, 0.0], MASSIVE)], threshold=0.3)["writing_blocks"] == [0, 1]


def test_models_and_data_are_kept_apart():
    first, second = tables([BY_ONE]), tables([ORDINARY], {**SEGMENT, "name": "none", "first": None, "last": None})
    joined = [
        pl.concat([one, other.with_columns(data=pl.lit("sums"))], how="vertical_relaxed")
        for one, other in zip(first, second, strict=True)
    ]
    found = formulas.writers(joined[0], joined[1], joined[3])
    assert found.select("data", "segment", "writing_blocks").rows() == [
        ("words", "compress", [0]),
        ("sums", "none", []),
    ]
    profile = formulas.attribution_profile(*joined, found)
    assert profile.filter("writes").select("data", "block", "part").unique().rows() == [("words", 0, "mlp")]
    assert profile.filter("erases").select("data", "block", "part").unique().rows() == [("words", 2, "mlp")]


def test_averages_are_plain_means_of_the_prompts_that_enter():
    prompts = [BY_ONE, BY_TWO, ORDINARY, LOST]
    states, parts, dims, plan = tables(prompts)
    profile = formulas.attribution_profile(states, parts, dims, plan, formulas.writers(states, parts, plan))
    for place, (block, part) in enumerate(parts.select("block", "part").rows()[:7]):
        own = profile.filter(pl.col("block").eq_missing(pl.lit(block)), part=part)
        values = {name: (mean, std, n) for name, mean, std, n in own.select("metric", "mean", "std", "n").iter_rows()}
        shares = [one[0][place] for one in (BY_ONE, BY_TWO)]
        for name, numbers in {"share": shares, "along": [100 * one for one in shares]}.items():
            mean, std, n = values[name]
            assert (mean, std, n) == (pytest.approx(np.mean(numbers)), pytest.approx(np.std(numbers, ddof=1)), 2)


def test_dimensions_are_those_that_hold_a_hundredth_of_the_square():
    states, parts, dims, plan = tables([BY_ONE, BY_ONE])
    writing = formulas.writers(states, parts, plan)
    profile = formulas.attribution_profile(states, parts, dims, plan, writing)
    # each prompt's own dimension holds 0.64 / 2 of the mean square, 7 holds 0.25, 9 holds 0.0025
    assert {tuple(one) for one in profile["dims"].to_list()} == {(0, 1, 7)}
    nothing = formulas.attribution_profile(states, parts, dims.clear(), plan, writing)
    assert {tuple(one) for one in nothing["dims"].to_list()} == {()}


def test_the_order_of_rows_changes_no_bit():
    random = np.random.default_rng(0)
    *frames, plan = tables([(random.normal(0.3, 1e3, 7).tolist(), MASSIVE) for _ in range(60)])
    one = formulas.writers(*frames[:2], plan)
    profile = formulas.attribution_profile(*frames, plan, one)
    for seed in range(3):
        shuffled = [frame.sample(fraction=1.0, shuffle=True, seed=seed) for frame in frames]
        assert formulas.writers(*shuffled[:2], plan).equals(one)
        assert formulas.attribution_profile(*shuffled, plan, one).equals(profile)


def test_no_rows_give_no_rows():
    states, parts, dims, plan = (frame.clear() for frame in tables([BY_ONE]))
    found = formulas.writers(states, parts, plan)
    assert found.height == 0
    assert formulas.attribution_profile(states, parts, dims, plan, found).height == 0

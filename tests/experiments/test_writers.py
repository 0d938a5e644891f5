"""The smallest set of writing blocks against every set there is, and averages against plain loops."""

import math
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.experiments._attribute import writers as formulas
from thalweg.experiments._attribute.writers import Writers

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


def test_the_documented_example_and_ties():
    assert formulas.writing_blocks({0: 0.05, 1: 0.7, 2: -0.1, 3: 0.25}) == Writers((1, 3), 0.95, None)
    assert formulas.writing_blocks({4: 0.5, 2: 0.5, 3: 0.5}, threshold=0.9).blocks == (2, 3)
    for unknown in ({}, {0: math.nan, 1: 1.0}):
        found = formulas.writing_blocks(unknown)
        assert (found.blocks, found.reason) == ((), "no prompt has a reference state")
        assert math.isnan(found.share)


def tables(prompts, *, blocks=3):
    """Rows of prompts given as (shares of every part, reference state, sink and row ratio by state)."""
    states, parts, dims = [], [], []
    for prompt, (shares, reference, ratios) in enumerate(prompts):
        own = {**KEY, "prompt": prompt}
        for state in range(blocks + 1):
            sink, row, position = ratios[state]
            place = {"row_ratio": row, "sink_ratio": sink, "row_position": position}
            states.append({**own, "state": state, **place})
        names = [(None, "embedding"), *((block, part) for block in range(blocks) for part in ("attention", "mlp"))]
        for (block, part), share in zip(names, shares, strict=True):
            before = reference is not None and (block is None or block < reference)
            numbers = {"norm": 100 * abs(share) + 1, "along": 100 * share, "share": share, "cosine": share / 2}
            parts.append(
                {**own, "block": block, "part": part, **numbers, "before": before, "reference_state": reference}
            )
            for rank, (dim, held) in enumerate([(prompt, 0.8), (7, 0.5), (9, 0.05)]):
                value = held * (100 * abs(share) + 1)
                dims.append({**own, "block": block, "part": part, "rank": rank, "dim": dim, "value": value})
    frames = [pl.DataFrame(rows, infer_schema_length=None) for rows in (states, parts, dims)]
    return [
        frame.with_columns(pl.col("reference_state").cast(pl.Int64)) if "share" in frame else frame for frame in frames
    ]


PLAIN = [(1.0, 1.2, 3)] * 4
MASSIVE = [(1.0, 1.2, 3), (80.0, 80.0, 0), (90.0, 90.0, 0), (1.0, 1.2, 2)]
ELSEWHERE = [(1.0, 1.2, 3), (0.5, 80.0, 5), (0.6, 90.0, 5), (1.0, 1.2, 2)]
# embedding, then attention and MLP of blocks 0, 1, 2
BY_ONE = ([0.02, 0.01, 0.95, -0.01, 0.03, 0.0, -0.9], 2, MASSIVE)
BY_TWO = ([0.08, 0.00, 0.62, 0.00, 0.30, 0.0, 0.8], 2, MASSIVE)
ORDINARY = ([1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], 0, PLAIN)
LOST = ([math.nan] * 7, None, MASSIVE)


def written(prompts, **options):
    states, parts, _ = tables(prompts)
    return formulas.writers(states, parts, **options).row(0, named=True)


def test_the_mean_share_decides_and_agreement_is_told():
    row = written([BY_ONE, BY_ONE, BY_TWO, BY_ONE])
    assert row["writing_blocks"] == [0, 1]  # (3 x 0.95 + 0.62) / 4 is below 0.9
    assert row["writing_share"] == pytest.approx((3 * 0.98 + 0.92) / 4)
    assert row["writing_agreement"] == 0.25
    assert (row["reference_state"], row["reference_agreement"]) == (2, 1.0)
    assert (row["compress_first"], row["compress_last"]) == (1, 2)
    assert (row["prompts"], row["massive_prompts"], row["reason"]) == (4, 4, None)


def test_what_comes_after_the_reference_state_does_not_write_it():
    row = written([BY_TWO])
    assert row["writing_blocks"] == [0, 1]  # not block 2, though its share is the largest
    assert row["writing_share"] == pytest.approx(0.92)


def test_prompts_without_a_massive_sink_do_not_enter():
    row = written([BY_ONE, BY_ONE, ORDINARY])
    assert row["writing_blocks"] == [0]
    assert row["writing_share"] == pytest.approx(0.95)
    assert (row["prompts"], row["massive_prompts"]) == (3, 2)


def test_prompts_without_a_reference_state_are_left_out():
    row = written([BY_ONE, LOST, BY_ONE])
    assert row["writing_share"] == pytest.approx(0.95)
    assert row["reference_agreement"] == 1.0
    alone = written([LOST])
    assert (alone["writing_blocks"], alone["reason"]) == ([], "no prompt has a reference state")


def test_without_a_massive_state_for_half_of_the_prompts_nothing_is_written():
    row = written([BY_ONE, ORDINARY, ORDINARY])
    assert row["writing_blocks"] == []
    assert row["has_massive_activations"] is False
    assert row["reason"] == "no massive activation"
    assert math.isnan(row["writing_share"])
    assert row["massive_prompts"] == 1
    assert written([BY_ONE, ORDINARY])["writing_blocks"] == [0]  # half is enough


def test_a_massive_row_elsewhere_is_said_to_be_there():
    row = written([(BY_ONE[0], 2, ELSEWHERE)] * 2)
    assert row["writing_blocks"] == []
    assert row["has_massive_activations"]
    assert row["reason"] == (
        "the massive row is not at the sink position 0, but at position 5 most often; ask with --sink-position 5"
    )


def test_where_mlps_do_not_suffice_the_reason_says_what_does():
    row = written([([0.6, 0.1, 0.2, 0.0, 0.1, 0.0, 0.0], 2, MASSIVE)])
    assert row["writing_blocks"] == []
    assert row["writing_share"] == pytest.approx(0.3)
    assert row["reason"] == (
        "all MLPs that raise it write 30% of the massive row, below 90%; the embedding writes 60%, attention 10%"
    )
    assert written([([0.6, 0.1, 0.2, 0.0, 0.1, 0.0, 0.0], 2, MASSIVE)], threshold=0.3)["writing_blocks"] == [0, 1]


def test_models_and_data_are_kept_apart():
    first, second = tables([BY_ONE]), tables([ORDINARY])
    joined = [
        pl.concat([one, other.with_columns(data=pl.lit("sums"))]) for one, other in zip(first, second, strict=True)
    ]
    found = formulas.writers(joined[0], joined[1])
    assert found.select("data", "writing_blocks").rows() == [("sums", []), ("words", [0])]
    profile = formulas.attribution_profile(*joined, found)
    assert profile.filter("writes").select("data", "block", "part").unique().rows() == [("words", 0, "mlp")]


def test_averages_are_plain_means_of_the_prompts_that_enter():
    prompts = [BY_ONE, BY_TWO, ORDINARY, LOST]
    states, parts, dims = tables(prompts)
    found = formulas.writers(states, parts)
    profile = formulas.attribution_profile(states, parts, dims, found)
    for place, (block, part) in enumerate(parts.select("block", "part").rows()[:7]):
        own = profile.filter(pl.col("block").eq_missing(pl.lit(block)), part=part)
        values = {name: (mean, std, n) for name, mean, std, n in own.select("metric", "mean", "std", "n").iter_rows()}
        shares = [one[0][place] for one in (BY_ONE, BY_TWO)]
        counted = shares if block is None or block < 2 else [0.0, 0.0]
        for name, numbers in {"share": shares, "share_before": counted, "along": [100 * one for one in shares]}.items():
            mean, std, n = values[name]
            assert (mean, std, n) == (pytest.approx(np.mean(numbers)), pytest.approx(np.std(numbers, ddof=1)), 2)
    before = profile.filter(metric="share_before")["mean"].sum()
    assert before == pytest.approx(1.0)


def test_dimensions_are_those_that_hold_a_hundredth_of_the_square():
    states, parts, dims = tables([BY_ONE, BY_ONE])
    profile = formulas.attribution_profile(states, parts, dims, formulas.writers(states, parts))
    # each prompt's own dimension holds 0.64 / 2 of the mean square, 7 holds 0.25, 9 holds 0.0025
    assert {tuple(one) for one in profile["dims"].to_list()} == {(0, 1, 7)}
    nothing = formulas.attribution_profile(states, parts, dims.clear(), formulas.writers(states, parts))
    assert {tuple(one) for one in nothing["dims"].to_list()} == {()}


def test_the_order_of_rows_changes_no_bit():
    random = np.random.default_rng(0)
    frames = tables([(random.normal(0.3, 1e3, 7).tolist(), 3, MASSIVE) for _ in range(60)])
    one = formulas.writers(*frames[:2])
    profile = formulas.attribution_profile(*frames, one)
    for seed in range(3):
        shuffled = [frame.sample(fraction=1.0, shuffle=True, seed=seed) for frame in frames]
        assert formulas.writers(*shuffled[:2]).equals(one)
        assert formulas.attribution_profile(*shuffled, one).equals(profile)


def test_no_rows_give_no_rows():
    states, parts, dims = (frame.clear() for frame in tables([BY_ONE]))
    found = formulas.writers(states, parts)
    assert found.height == 0
    assert formulas.attribution_profile(states, parts, dims, found).height == 0

"""Segments on trajectories whose answer can be read off, and against a second way to find them."""

import math

import numpy as np
import polars as pl
import pytest

from thalweg import averages

KEY = {"model": "m", "revision": "r", "data": "d"}


def layers_of(ratios, *, positions=None, medians=None, tokens=20):
    """Rows by prompt and state of row ratios, prompt x state."""
    return pl.DataFrame(
        [
            {
                **KEY,
                "prompt": prompt,
                "state": state,
                "tokens": tokens,
                "row_ratio": float(ratio),
                "row_position": positions[prompt][state] if positions else 0,
                "median_norm": float(medians[state]) if medians else 1.0,
            }
            for prompt, row in enumerate(ratios)
            for state, ratio in enumerate(row)
        ]
    )


def rows_of(norms, position=0):
    """Norms of the row at one position, prompt x state."""
    return pl.DataFrame(
        [
            {**KEY, "prompt": prompt, "position": position, "state": state, "norm": float(norm)}
            for prompt, row in enumerate(norms)
            for state, norm in enumerate(row)
        ]
    )


def found(ratios, massive_ratio=10.0):
    ratios = [float(ratio) for ratio in ratios]
    return averages.segments_of(ratios, [ratio >= massive_ratio for ratio in ratios], massive_ratio=massive_ratio)


def test_compress_is_the_full_width_at_half_maximum_in_logarithms():
    (compress,) = found([1, 9.9, 10.1, 100, 50, 10, 9.9, 1])
    assert (compress.name, compress.first, compress.last, compress.peak) == ("compress", 2, 5, 3)
    assert (compress.run_first, compress.dips, compress.shoulders) == (2, (), ())


def test_states_below_the_threshold_can_belong_to_compress_and_massive_ones_to_its_shoulders():
    (low,) = found([1, 6, 25, 6, 4, 1])  # the root of 25 is 5, below the massive ratio
    assert (low.first, low.last, low.run_first) == (1, 3, 2)
    (high,) = found([1, 12, 11, 400, 30, 15, 12, 1])  # the root of 400 is 20
    assert (high.first, high.last, high.shoulders, high.run_first) == (3, 4, (1, 2, 5, 6), 1)


def test_the_first_of_tied_peaks_is_taken_and_state_0_is_none():
    (compress,) = found([500, 1, 50, 20, 50, 1])
    assert (compress.peak, compress.first, compress.last) == (2, 2, 4)
    assert found([500, 1, 1]) == ()
    assert found([1, 9.99, 1]) == ()


def test_dips_that_are_massive_are_bridged_and_others_are_not():
    (bridged,) = found([1, 400, 12, 30, 1])
    assert (bridged.first, bridged.last, bridged.dips) == (1, 3, (2,))
    apart = found([1, 400, 9, 30, 1])  # 9 is at least half of the threshold: one run, but not massive
    assert [(each.name, each.first, each.last) for each in apart] == [("compress", 1, 1)]
    assert apart[0].shoulders == (3,)
    shoulder = found([1, 400, 12, 15, 1])  # the ratio does not come back above the line
    assert (shoulder[0].last, shoulder[0].shoulders) == (1, (2, 3))


def test_waves_are_runs_apart_and_last_until_half_of_the_threshold():
    wave, compress = found([1, 1, 12, 6, 5, 4.9, 100, 50, 1])
    assert (wave.name, wave.first, wave.last, wave.until, wave.peak) == ("wave", 2, 2, 4, 2)
    assert (compress.first, compress.last, compress.shoulders) == (6, 7, ())
    joined = found([1, 12, 6, 11, 1, 100, 1])
    assert [(each.name, each.first, each.last) for each in joined] == [("wave", 1, 3), ("compress", 5, 5)]
    three = found([1, 12, 1, 100, 1, 15, 1])
    assert [each.name for each in three] == ["wave 1", "compress", "wave 2"]
    touching = found([1, 12, 400, 1])
    assert [(each.name, each.shoulders) for each in touching] == [("compress", (1,))]


def by_intervals(ratios, massive_ratio):
    """Compress and waves by trying every interval of states, the slow way."""
    last = len(ratios) - 1
    massive = [ratio >= massive_ratio for ratio in ratios]
    candidates = [state for state in range(1, last + 1) if massive[state]]
    if not candidates:
        return None, []
    peak = candidates[int(np.argmax([ratios[state] for state in candidates]))]
    line = math.sqrt(ratios[peak])
    spans = [
        (first, end)
        for first in range(1, peak + 1)
        for end in range(peak, last + 1)
        if ratios[first] >= line
        and ratios[end] >= line
        and all(ratios[state] >= line or massive[state] for state in range(first, end + 1))
    ]
    compress = max(spans, key=lambda span: span[1] - span[0])
    # a graph of massive states, joined where nothing between falls below half of the threshold
    groups = []
    for state in candidates:
        if groups and min(ratios[groups[-1][-1] : state + 1]) >= massive_ratio / 2:
            groups[-1].append(state)
        else:
            groups.append([state])
    waves = [(group[0], group[-1]) for group in groups if group[-1] < compress[0] - 1 or group[0] > compress[1] + 1]
    return compress, waves


def test_against_a_slow_way_on_random_trajectories():
    random, several = np.random.default_rng(0), 0
    for _ in range(600):
        ratios = np.exp(np.abs(np.cumsum(random.normal(0, 1.2, random.integers(3, 22)))))
        compress, waves = by_intervals(ratios.tolist(), 10.0)
        segments = found(ratios.tolist())
        assert [(each.first, each.last) for each in segments if each.name == "compress"] == (
            [compress] if compress else []
        )
        assert [(each.first, each.last) for each in segments if each.name != "compress"] == waves
        several += len(waves) > 0
    assert several > 30


def test_a_model_is_massive_where_half_of_its_prompts_are_and_ratios_are_averaged_as_logarithms():
    (course,) = averages.courses(layers_of([[1, 100, 4], [1, 1, 4]]))
    assert course.mean.tolist() == pytest.approx([1, 10, 4])
    assert course.massive.tolist() == [False, True, False]
    assert (course.compress.first, course.compress.last) == (1, 2)  # the root of 10 is 3.2
    assert course.agreement() == (0.5, 0.0)  # the first prompt's own line is 10; the second has none


def test_short_prompts_and_such_without_a_ratio_are_left_out_and_counted():
    layers = layers_of([[1, 50, 1], [1, 50, math.nan], [1, 1, 1], [math.inf, 50, 1]])
    short = layers.with_columns(tokens=pl.when(pl.col("prompt") == 2).then(2).otherwise("tokens"))
    (course,) = averages.courses(short)
    assert (course.prompts.tolist(), course.left_out) == ([0], 3)
    nobody = averages.courses(layers.filter(prompt=1))[0]
    assert (nobody.segments, nobody.left_out) == ((), 1)
    assert nobody.phases() == [None] * 3


def test_phases_leave_out_waves_and_a_massive_state_0():
    (course,) = averages.courses(layers_of([[50, 1, 12, 6, 1, 100, 50, 1, 20, 1]]))
    assert course.phases() == [None, "mix", "wave", "wave", "mix", "compress", "compress", "refine", "wave", "refine"]


def test_lines_and_thresholds_say_how_firm_the_boundaries_are():
    (course,) = averages.courses(layers_of([[1, 5, 7, 9, 12, 100, 20, 8, 1]]))
    assert course.lines(0.4) == (2, 7)
    assert course.lines(0.6) == (5, 6)
    assert (course.compress.first, course.compress.last) == (4, 6)
    assert course.overlapping_runs(5.0) == [(1, 7)]
    assert course.overlapping_runs(20.0) == [(5, 6)]
    assert course.overlapping_runs(200.0) == []


@pytest.mark.parametrize(
    ("norms", "medians", "how", "factors"),
    [
        ([1, 100, 100, 1], [1, 1, 1, 1], "removed", (0.01, 1)),
        ([1, 100, 100, 100], [1, 1, 1, 50], "caught up", (1, 50)),
        ([1, 100, 100, 10], [1, 1, 1, 10], "both", (0.1, 10)),
        ([1, 100, 100, 4], [1, 1, 1, 0.5], "removed", (0.04, 0.5)),
    ],
)
def test_how_a_segment_ends(norms, medians, how, factors):
    ratios = [norm / median for norm, median in zip(norms, medians, strict=True)]
    layers = layers_of([ratios] * 3, medians=medians)
    row = averages.segments(layers, rows_of([norms] * 3)).row(0, named=True)
    assert (row["end"], row["end_state"], row["end_prompts"]) == (how, 3, 3)
    assert (row["row_factor"], row["others_factor"]) == pytest.approx(factors)
    fall = math.log(ratios[1] / ratios[3])
    assert -math.log(row["row_factor"]) + math.log(row["others_factor"]) == pytest.approx(fall)


def test_an_end_needs_a_fall_and_states_behind():
    to_the_end = averages.segments(layers_of([[1, 50, 40]]), rows_of([[1, 50, 40]])).row(0, named=True)
    assert (to_the_end["end"], to_the_end["end_state"]) == (None, None)
    assert math.isnan(to_the_end["row_factor"])
    # another row falls in: the segment's own row does not
    rising = averages.segments(layers_of([[1, 50, 4]]), rows_of([[1, 50, 51]])).row(0, named=True)
    assert (rising["end"], rising["end_state"], rising["row_factor"]) == (None, 2, pytest.approx(51 / 50))
    unknown = averages.segments(layers_of([[1, 50, 1]])).row(0, named=True)
    assert (unknown["end"], unknown["end_prompts"]) == (None, 0)


def test_the_row_of_a_segment_is_that_of_each_prompt_at_its_peak():
    positions = [[0, 3, 0], [0, 3, 1], [0, 5, 2]]
    layers = layers_of([[1, 50, 1]] * 3, positions=positions)
    texts = pl.DataFrame(
        [
            {**KEY, "prompt": n, "state": 1, "position": p, "token": t}
            for n, p, t in [(0, 3, "b"), (1, 3, "a"), (2, 5, "c")]
        ]
    )
    table = averages.segments(layers, massive=texts)
    row = table.row(0, named=True)
    assert (row["position"], row["position_share"], row["tokens"]) == (3, pytest.approx(2 / 3), ["a", "b"])
    rows = averages.segment_rows(layers, table).sort("prompt").collect()
    assert rows["position"].to_list() == [3, 3, 5]
    assert averages.segment_rows(layers, table, sink_position=7).collect()["position"].to_list() == [7] * 3


def test_the_end_lies_before_the_next_segment():
    ratios = [1, 12, 4, 2, 3, 100, 1]
    rows = averages.segments(layers_of([ratios]), rows_of([ratios])).to_dicts()
    assert [(row["name"], row["end_state"], row["massive_prompts"]) for row in rows] == [
        ("wave", 3, 1),
        ("compress", 6, 1),
    ]


def test_boundaries_of_several_models_are_sorted():
    other = layers_of([[1, 1, 30]]).with_columns(model=pl.lit("a"))
    table = averages.boundaries(pl.concat([layers_of([[1, 30, 1]]), other]).lazy())
    assert table.select("model", "compress_first", "compress_last").rows() == [("a", 2, 2), ("m", 1, 1)]
    nothing = averages.boundaries(layers_of([[1, 2]])).row(0, named=True)
    assert (nothing["states"], nothing["compress_first"]) == (1, None)

"""Top against bottom prompts: rankings, differences and tests against loops, enumeration and simulation."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binom

from thalweg.experiments._contrast.formulas import (
    TopAndBottom,
    _draw,
    comparable,
    contrast,
    head_changes,
    mean_of_others,
    permutations_needed,
    top_and_bottom,
)

FDR = 0.05


def scores(prompts, heads, seed=0):
    return np.random.default_rng(seed).random((prompts, heads)).astype(np.float32)


def test_the_mean_of_others_is_the_loops():
    values = scores(9, 5)
    expected = [
        [np.mean([float(values[n, other]) for other in range(5) if other != head]) for head in range(5)]
        for n in range(9)
    ]
    np.testing.assert_allclose(mean_of_others(values), expected, rtol=1e-12)


@pytest.mark.parametrize("count", [1, 3, 10])
def test_top_and_bottom_are_those_of_a_plain_sort(count):
    ranking = np.round(scores(21, 4), 1).astype(float)  # many ties
    found = top_and_bottom(ranking, count)
    for head in range(4):
        best = sorted(range(21), key=lambda row: (-ranking[row, head], row))[:count]
        least = sorted(set(range(21)) - set(best), key=lambda row: (ranking[row, head], row))[:count]
        assert found.top[:, head].tolist() == best
        assert found.bottom[:, head].tolist() == least


def test_no_prompt_is_on_both_sides_even_if_all_are_equal():
    found = top_and_bottom(np.full((7, 2), 0.5), 3)
    assert found.top[:, 0].tolist() == [0, 1, 2]
    assert found.bottom[:, 1].tolist() == [3, 4, 5]


@pytest.mark.parametrize("count", [0, -1, 4])
def test_more_prompts_than_there_are_are_refused(count):
    with pytest.raises(ValueError, match=f"expected 1 to 3 of 7 prompts a side, got {count}"):
        top_and_bottom(scores(7, 2), count)


def enumerated(values, chosen):
    """p and the 95% quantile of all pairs of disjoint sets, one after the other, in float64."""
    prompts, heads = values.shape
    count, wide = len(chosen.top), values.astype(np.float64)
    every = [
        [wide[list(one), head].mean() - wide[list(other), head].mean() for head in range(heads)]
        for one in combinations(range(prompts), count)
        for other in combinations(sorted(set(range(prompts)) - set(one)), count)
    ]
    drawn = np.abs(np.array(every))
    observed = [wide[chosen.top[:, h], h].mean() - wide[chosen.bottom[:, h], h].mean() for h in range(heads)]
    p = (drawn >= np.abs(observed) - 1e-6).mean(axis=0)  # equal but for what float32 made of them
    return np.array(observed), p, np.quantile(drawn, 0.95, axis=0)


@pytest.mark.parametrize(("prompts", "count", "digits"), [(8, 2, 5), (9, 3, 5), (10, 1, 5), (8, 4, 5), (9, 2, 1)])
def test_of_few_prompts_every_pair_of_sets_is_counted(prompts, count, digits):
    values = np.round(scores(prompts, 5, seed=count), digits)  # with one digit most differences tie
    chosen = top_and_bottom(mean_of_others(values), count)
    difference, p, half = enumerated(values, chosen)
    found = head_changes(values, chosen, permutations=10_000)
    np.testing.assert_allclose(found.difference, difference, atol=1e-7)
    np.testing.assert_allclose(found.p, p, atol=1e-12)
    # float32 sums beside float64
    np.testing.assert_allclose(found.high - found.difference, half, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.difference - found.low, half, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("prompts", "count"), [(10, 3), (200, 1), (200, 2), (200, 60)])
def test_draws_agree_with_all_of_them_or_with_plain_shuffles(prompts, count):
    values = scores(prompts, 6)
    chosen = top_and_bottom(mean_of_others(values), count)
    found = head_changes(values, chosen, permutations=4_000)
    if prompts == 10:
        _, expected, _ = enumerated(values, chosen)
    else:
        random, reached = np.random.default_rng(5), np.zeros(6)
        for _ in range(4_000):
            rows = random.permutation(prompts)
            drawn = values[rows[:count]].mean(axis=0) - values[rows[count : 2 * count]].mean(axis=0)
            reached += np.abs(drawn) >= np.abs(found.difference)
        expected = reached / 4_000
    # two shares of 4,000 draws: five standard deviations are at most 0.056
    np.testing.assert_allclose(found.p, expected, atol=0.056)


def test_p_counts_the_ranking_itself_among_the_draws():
    values = np.zeros((60, 2), dtype=np.float32)
    values[:20] = 1.0
    values += scores(60, 2) / 100
    found = head_changes(values, top_and_bottom(mean_of_others(values), 20), permutations=999)
    np.testing.assert_allclose(found.p, 1 / 1000)


def test_the_same_seed_gives_the_same_and_another_seed_nearly_so():
    values = scores(100, 20)
    chosen = top_and_bottom(mean_of_others(values), 10)
    first, again, other = (head_changes(values, chosen, permutations=3_000, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.p, again.p)
    assert (first.p != other.p).any()
    np.testing.assert_allclose(first.p, other.p, atol=0.065)  # five standard deviations of a difference of shares


def test_the_order_of_prompts_changes_nothing_but_ties():
    values = scores(9, 6)
    order = np.random.default_rng(3).permutation(9)
    found, mixed = (contrast({"s": one}, by="s", count=2, permutations=10_000) for one in (values, values[order]))
    for name in ("top", "bottom", "difference", "p", "q"):
        np.testing.assert_allclose(
            getattr(found.changes["s"], name), getattr(mixed.changes["s"], name), rtol=1e-6, atol=1e-7
        )
    np.testing.assert_array_equal(order[mixed.overall.top], found.overall.top)
    np.testing.assert_array_equal(order[mixed.overall.bottom], found.overall.bottom)


def test_scale_and_shift_of_a_metric_change_no_p():
    values = scores(40, 5)
    chosen = top_and_bottom(mean_of_others(values), 5)
    plain = head_changes(values, chosen, permutations=2_000)
    scaled = head_changes(1000 * values.astype(np.float64) + 7, chosen, permutations=2_000)
    np.testing.assert_array_equal(plain.p, scaled.p)
    np.testing.assert_allclose(1000 * plain.high, scaled.high, rtol=1e-5)


def test_a_head_that_never_varies_does_not_change():
    values = scores(30, 4)
    values[:, 2] = 0.1
    found = head_changes(values, top_and_bottom(mean_of_others(values), 4), permutations=1_000)
    assert (found.difference[2], found.low[2], found.high[2], found.p[2], found.q[2]) == pytest.approx((0, 0, 0, 1, 1))


def test_what_is_undefined_is_left_out_and_never_taken_for_nothing():
    sink, mixing = scores(10, 4), scores(10, 4, seed=1)
    sink[:6, 1] = np.nan  # most of a head
    sink[7, 2] = np.nan  # one prompt
    mixing[8, 0] = np.inf  # one prompt of another metric
    mixing[:, 3] = np.nan  # a head that has no mixing
    found = comparable({"sink": sink, "mixing": mixing}, by="sink")
    assert found.prompts.tolist() == [True] * 7 + [False, False, True]
    assert found.heads["sink"].tolist() == [True, False, True, True]
    assert found.heads["mixing"].tolist() == [True, False, True, False]
    values = {
        name: np.where(found.heads[name], own[found.prompts], np.float32("nan"))
        for name, own in (("sink", sink), ("mixing", mixing))
    }
    result = contrast(values, by="sink", count=2, permutations=10_000)
    assert np.isnan(result.changes["sink"].p).tolist() == [False, True, False, False]
    assert np.isnan(result.changes["mixing"].q).tolist() == [False, True, False, True]
    alone = contrast({"sink": sink[found.prompts][:, [0, 2, 3]]}, by="sink", count=2, permutations=10_000)
    np.testing.assert_allclose(result.changes["sink"].q[[0, 2, 3]], alone.changes["sink"].q)
    np.testing.assert_allclose(result.score, alone.score)


def test_one_head_has_no_others_to_rank_by():
    with pytest.raises(ValueError, match="expected two heads or more to rank by, got 1"):
        contrast({"s": scores(10, 1)}, by="s", count=2, permutations=100)


def test_inputs_stay_as_they_are():
    values = scores(30, 4)
    before = values.copy()
    contrast({"s": values}, by="s", count=3, permutations=500)
    np.testing.assert_array_equal(values, before)


def test_q_is_that_of_benjamini_and_hochberg():
    values = scores(60, 8)
    values[:, :3] += scores(60, 1, seed=4)  # some heads share a cause
    found = head_changes(values, top_and_bottom(mean_of_others(values), 8), permutations=2_000)
    expected = [min(8 * other / sum(found.p <= other) for other in found.p if other >= own) for own in found.p]
    np.testing.assert_allclose(found.q, np.minimum(expected, 1), rtol=1e-12)
    assert len(set(found.q)) > 2


@pytest.mark.parametrize(("prompts", "wanted"), [(40, 8), (40, 40), (5_000, 90)])
def test_a_draw_has_no_prompt_twice_and_every_prompt_as_often(prompts, wanted):
    rows = _draw(np.random.default_rng(0), 4_000, prompts, wanted)
    assert all(len(set(row)) == wanted for row in rows.tolist())
    seen, share = np.bincount(rows.ravel(), minlength=prompts), wanted / prompts
    slack = 5 * np.sqrt(4_000 * share * (1 - share)) + 1e-9  # five standard deviations of a binomial count
    assert (np.abs(seen - 4_000 * share) <= slack).all()


@pytest.mark.parametrize("heads", [1, 32, 1024, 20_000])
def test_there_are_enough_draws_to_see_a_single_head(heads):
    draws = permutations_needed(heads, FDR)
    assert 1 / (draws + 1) <= FDR / heads
    assert draws >= 10_000
    assert draws == {1024: 81_920}.get(heads, draws)


def test_heads_that_sink_on_some_prompts_only_are_found_and_no_others():
    random = np.random.default_rng(0)
    values = (0.05 * random.random((300, 40))).astype(np.float32)
    mixing = random.random((300, 40)).astype(np.float32)
    planted, triggered = [3, 17, 31], random.random(300) < 0.4
    values[np.ix_(triggered, planted)] += 0.8
    mixing[np.ix_(triggered, [17])] *= 0.2  # one of them stops mixing
    result = contrast({"sink": values, "mixing": mixing}, by="sink", count=30, permutations=10_000)
    changed = {name: np.flatnonzero(own.q <= FDR).tolist() for name, own in result.changes.items()}
    assert changed["sink"] == planted
    assert 17 in changed["mixing"]
    assert len(changed["mixing"]) <= 2  # of those said to change, 5% may be false
    sink = result.changes["sink"]
    np.testing.assert_allclose(sink.difference[planted], 0.8, atol=0.02)
    assert (sink.low[planted] < 0.8).all()
    assert (sink.high[planted] > 0.8).all()
    assert set(result.overall.top[:, 0]) <= set(np.flatnonzero(triggered))
    assert not set(result.overall.bottom[:, 0]) & set(np.flatnonzero(triggered))


def false_discoveries(ranking, *, repeats, heads, driven=0, prompts=60, count=6):
    """Share of false ones among the heads said to change, in each repeat; ``driven`` heads truly share a cause."""
    random, found = np.random.default_rng(7), []
    for repeat in range(repeats):
        values = random.standard_normal((prompts, heads)).astype(np.float32)
        values[:, :driven] += 2.0 * random.standard_normal((prompts, 1)).astype(np.float32)
        chosen = top_and_bottom(ranking(values), count)
        said = head_changes(values, chosen, permutations=1_500, seed=repeat).q <= FDR
        found.append(said[driven:].sum() / max(said.sum(), 1))
    return np.array(found)


def most(repeats):
    """What 5% of so many repeats stay below, but for one time in a thousand."""
    return binom.ppf(0.999, repeats, FDR) / repeats


@pytest.mark.parametrize(("heads", "repeats"), [(16, 400), (2, 300)])
def test_of_independent_heads_none_is_found_but_at_the_rate_allowed(heads, repeats):
    rate = false_discoveries(mean_of_others, repeats=repeats, heads=heads)
    # nothing is true, so that a repeat's share is 0 or 1: a binomial count
    assert rate.mean() <= most(repeats)
    assert rate.mean() > 0.01  # the test is not so strict that it could not fail


def test_beside_heads_that_do_change_the_rate_holds_too():
    rate = false_discoveries(mean_of_others, repeats=200, heads=16, driven=6)
    # shares between 0 and 1 vary less than the count of a binomial
    assert rate.mean() <= most(200)


def test_a_ranking_made_with_the_head_itself_would_break_it():
    with_itself = lambda values: np.repeat(values.mean(axis=1, keepdims=True), values.shape[1], axis=1)  # noqa: E731
    assert false_discoveries(with_itself, repeats=60, heads=16).mean() > 0.5


def test_p_of_independent_heads_is_uniform_or_above():
    random, found = np.random.default_rng(2), []
    for seed in range(100):
        values = random.standard_normal((40, 12)).astype(np.float32)
        chosen = top_and_bottom(mean_of_others(values), 4)
        found.append(head_changes(values, chosen, permutations=400, seed=seed).p)
    p = np.concatenate(found)
    for level in (0.01, 0.05, 0.2, 0.5):
        # 1,200 p, nearly independent
        assert binom.ppf(1e-4, p.size, level) <= (p <= level).sum() <= binom.ppf(1 - 1e-4, p.size, level)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_interval_covers_the_true_difference(shift):
    """400 heads, each with its own random top and bottom and a true difference between them."""
    random = np.random.default_rng(11)
    prompts, heads, count = 200, 400, 20
    values = random.standard_normal((prompts, heads)).astype(np.float32)
    chosen = top_and_bottom(random.random((prompts, heads)), count)
    assert isinstance(chosen, TopAndBottom)
    np.put_along_axis(values, chosen.top, np.take_along_axis(values, chosen.top, 0) + np.float32(shift), 0)
    found = head_changes(values, chosen, permutations=2_000)
    covered = ((found.low <= shift) & (shift <= found.high)).mean()
    assert binom.ppf(1e-3, heads, 0.95) / heads <= covered <= binom.ppf(1 - 1e-3, heads, 0.95) / heads
    width = found.high - found.low
    expected = 2 * 1.96 * np.sqrt(2 / count)  # of a difference of two means of standard normal values
    np.testing.assert_allclose(width.mean(), expected, rtol=0.05)

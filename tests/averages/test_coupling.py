"""Correlations of changes over depth, against NumPy and by hand."""

import math

import numpy as np
import polars as pl
import pytest

from thalweg import averages


def profile_of(norm, entropy, sinks, model="m", revision="r") -> pl.DataFrame:
    series = [("state", "sink_norm", norm), ("state", "entropy", entropy), ("block", "sink_rate", sinks)]
    return pl.DataFrame(
        [
            {
                "model": model,
                "revision": revision,
                "data": "d",
                "site": site,
                "index": i,
                "metric": metric,
                "mean": float(v),
            }
            for site, metric, values in series
            for i, v in enumerate(values)
        ]
    )


def random_profile(seed: int, layers: int = 9, **keys: str) -> tuple[pl.DataFrame, tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(seed)
    values = rng.random(layers + 1), rng.random(layers + 1), rng.random(layers)
    return profile_of(*values, **keys), values


def zscored_steps(values: np.ndarray) -> np.ndarray:
    return np.diff((values - values.mean()) / values.std())


@pytest.mark.parametrize("seed", range(4))
def test_each_correlation_pairs_the_layers_of_its_definition(seed):
    profile, (b, e, s) = random_profile(seed)
    layers = len(s)
    db, de = zscored_steps(b[1:]), zscored_steps(e[1:])  # l = 2..L
    ds = zscored_steps(s)  # l = 1..L-1
    found = averages.coupling(profile).row(0, named=True)
    assert found["coupling_entropy"] == pytest.approx(np.corrcoef(db, de)[0, 1], rel=1e-10)
    # l = 2..L-1, block l with state l.
    assert found["coupling_sink"] == pytest.approx(np.corrcoef(db[: layers - 2], ds[1:])[0, 1], rel=1e-10)
    # l = 2..L-2, block l + 1 with state l.
    assert found["coupling_sink_next"] == pytest.approx(np.corrcoef(db[: layers - 3], ds[2:])[0, 1], rel=1e-10)
    assert found["reason"] is None


def test_state_0_is_no_part_of_it():
    profile = profile_of([1e9, 1, 2, 4, 5], [-1e9, 8, 6, 2, 0], [0, 0.1, 0.5, 0.4])
    assert averages.coupling(profile)["coupling_entropy"].item() == pytest.approx(-1)


def test_a_sink_that_follows_the_norm_one_block_later():
    jump = [0, 0, 0, 1, 1, 1, 1, 1]
    found = averages.coupling(profile_of([0, *jump], np.arange(9) ** 2, jump)).row(0, named=True)
    # State 4 jumps, block 3 = jump[3] jumps: neither pairing is on the diagonal.
    assert found["coupling_sink"] < 0.5
    same = averages.coupling(profile_of([0, *jump], np.arange(9) ** 2, [0, *jump[:-1]])).row(0, named=True)
    assert same["coupling_sink"] == pytest.approx(1)
    later = averages.coupling(profile_of([0, *jump], np.arange(9) ** 2, [0, 0, *jump[:-2]])).row(0, named=True)
    assert later["coupling_sink_next"] == pytest.approx(1)


def test_too_few_layers_and_flat_trajectories_say_so():
    short = averages.coupling(profile_of([1, 2, 3, 4], [3, 1, 2, 1], [0, 1, 0])).row(0, named=True)
    assert math.isnan(short["coupling_entropy"])
    assert "coupling_entropy: fewer than three pairs" in short["reason"]
    flat = averages.coupling(profile_of([1] * 9, np.arange(9), np.arange(8))).row(0, named=True)
    assert math.isnan(flat["coupling_sink"])
    assert "coupling_sink: flat trajectory" in flat["reason"]
    assert (
        averages.step_correlation({i: float(i) for i in range(6)}, {i: float(i**2) for i in range(6)}).reason
        == "constant change"
    )


def test_missing_layers_are_gaps_and_not_bridged():
    # Hybrid models have blocks without attention heads.
    norm = {i: float(v) for i, v in enumerate([3, 1, 4, 1, 5, 9, 2, 6])}
    rate = {i: float(v) for i, v in enumerate([2, 7, 1, 8, 2, 8, 1, 8]) if i != 4}
    pairs = [i for i in range(1, 8) if i not in (4, 5)]
    x = [norm[i] - norm[i - 1] for i in pairs]
    y = [rate[i] - rate[i - 1] for i in pairs]
    assert averages.step_correlation(norm, rate).r == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_nan_means_are_gaps():
    profile = profile_of([0, 1, 2, 4, 5, math.nan], [0, 8, 6, 2, 0, 5], [0, 0.1, 0.5, 0.4, 0.2])
    assert averages.coupling(profile)["coupling_entropy"].item() == pytest.approx(-1)


def test_several_models_have_a_fisher_average():
    profiles = [random_profile(seed, model=f"m{seed}")[0] for seed in range(3)]
    table = averages.coupling(pl.concat(profiles))
    total = table.filter(pl.col("model") == "all models").row(0, named=True)
    rows = table.filter(pl.col("model") != "all models")
    for name in ("coupling_entropy", "coupling_sink", "coupling_sink_next"):
        r = rows[name].to_numpy()
        assert total[name] == pytest.approx(np.tanh(np.arctanh(r).mean()), rel=1e-12)
        assert total[f"{name}_std"] == pytest.approx(r.std(ddof=1), rel=1e-12)
    assert rows["coupling_entropy_std"].is_nan().all()
    assert len(table) == 4


def test_one_model_has_no_average():
    checkpoints = pl.concat([random_profile(seed, revision=f"step{seed}")[0] for seed in range(2)])
    assert averages.coupling(checkpoints)["model"].to_list() == ["m", "m"]


def test_fisher_mean():
    assert averages.fisher_mean([0.0, 0.8]) == pytest.approx(0.5)
    assert averages.fisher_mean([0.3, math.nan]) == pytest.approx(0.3)
    assert 0.999 < averages.fisher_mean([1.0, 1.0]) < 1
    assert math.isnan(averages.fisher_mean([math.nan]))


def test_correlations_stay_in_range():
    line = {i: float(v) for i, v in enumerate([1, 2, 4, 5])}
    assert averages.step_correlation(line, line).r == pytest.approx(1, abs=1e-15)
    assert averages.step_correlation(line, {i: -v for i, v in line.items()}).r >= -1

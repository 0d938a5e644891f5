"""Averages over prompts against plain loops and SciPy's t interval."""

import math

import numpy as np
import polars as pl
import pytest
from scipy import stats

from thalweg import averages, metrics

KEY = {"model": "m", "revision": "r", "data": "d"}


def layer_rows(values: dict[str, list[list[float]]]) -> pl.DataFrame:
    """Values by metric, prompt and state."""
    first = next(iter(values.values()))
    rows = [
        {**KEY, "prompt": n, "state": s, "tokens": 20, **{name: by[n][s] for name, by in values.items()}}
        for n in range(len(first))
        for s in range(len(first[n]))
    ]
    return pl.DataFrame(rows).with_columns(pl.col("state").cast(pl.Int32))


def head_rows(values: dict[str, np.ndarray]) -> pl.DataFrame:
    """Values by metric, with axes prompt, block, head."""
    prompts, blocks, heads = next(iter(values.values())).shape
    rows = [
        {**KEY, "prompt": n, "block": b, "head": h, **{name: by[n, b, h].item() for name, by in values.items()}}
        for n in range(prompts)
        for b in range(blocks)
        for h in range(heads)
    ]
    floats = [name for name, by in values.items() if by.dtype.kind == "f"]
    return pl.DataFrame(rows).with_columns(pl.col(floats).cast(pl.Float32), pl.col("block", "head").cast(pl.Int32))


def prompt_rows(tokens: list[int]) -> pl.DataFrame:
    return pl.DataFrame(
        [{**KEY, "prompt": n, "tokens": t, "sink_uniform": metrics.sink_uniform(t)} for n, t in enumerate(tokens)]
    )


NO_HEADS = head_rows({"sink_score": np.zeros((1, 1, 1))}).clear()


def one(table: pl.DataFrame, site: str, index: int, metric: str) -> dict[str, float]:
    rows = table.filter((pl.col("site") == site) & (pl.col("index") == index) & (pl.col("metric") == metric))
    assert len(rows) == 1, (site, index, metric)
    return rows.row(0, named=True)


def test_columns_and_order():
    layers = layer_rows({"entropy": [[1.0, 2.0]], "row_ratio": [[1.0, 20.0]]})
    table = averages.profile(layers, head_rows({"mixing": np.ones((1, 1, 2))}), prompt_rows([20]))
    assert table.columns == [
        *("model", "revision", "data", "site", "index", "phase", "metric"),
        *("mean", "std", "low", "high", "n", "geometric"),
    ]
    assert table.select("site", "index", "metric").rows() == [
        ("block", 0, "mixing"),
        ("state", 0, "entropy"),
        ("state", 0, "row_ratio"),
        ("state", 1, "entropy"),
        ("state", 1, "row_ratio"),
    ]


def test_means_and_intervals_are_those_of_scipy():
    rng = np.random.default_rng(0)
    entropy = rng.gamma(2, size=(7, 3))
    entropy[2, 1] = math.nan
    ratio = np.exp(rng.standard_normal((7, 3)))
    layers = layer_rows({"entropy": entropy.tolist(), "norm_ratio": ratio.tolist(), "row_ratio": ratio.tolist()})
    table = averages.profile(layers.lazy(), NO_HEADS.lazy(), prompt_rows([20] * 7).lazy())
    for state in range(3):
        known = entropy[:, state][~np.isnan(entropy[:, state])]
        found = one(table, "state", state, "entropy")
        low, high = stats.t.interval(0.95, len(known) - 1, known.mean(), stats.sem(known))
        assert (found["n"], found["geometric"]) == (len(known), False)
        assert found["mean"] == pytest.approx(known.mean(), rel=1e-13)
        assert found["std"] == pytest.approx(known.std(ddof=1), rel=1e-13)
        assert (found["low"], found["high"]) == pytest.approx((low, high), rel=1e-10)
        logs = np.log(ratio[:, state])
        low, high = stats.t.interval(0.95, 6, logs.mean(), stats.sem(logs))
        found = one(table, "state", state, "norm_ratio")
        assert found["geometric"]
        assert found["mean"] == pytest.approx(stats.gmean(ratio[:, state]), rel=1e-13)
        assert found["std"] == pytest.approx(logs.std(ddof=1), rel=1e-12)
        assert (found["low"], found["high"]) == pytest.approx((math.exp(low), math.exp(high)), rel=1e-10)


def test_the_documented_example():
    layers = layer_rows({"entropy": [[1.0], [2.0], [math.nan]], "row_ratio": [[1.0]] * 3})
    found = one(averages.profile(layers, NO_HEADS, prompt_rows([20] * 3)), "state", 0, "entropy")
    assert (found["mean"], found["n"]) == (1.5, 2)
    assert found["std"] == pytest.approx(0.70711, abs=1e-5)
    assert found["high"] - found["mean"] == pytest.approx(6.353, abs=1e-3)


def test_without_two_prompts_there_is_no_spread_and_without_one_no_mean():
    layers = layer_rows(
        {"entropy": [[1.0, math.nan]], "norm_ratio": [[2.0, 0.0]], "c": [[math.inf, 1.0]], "row_ratio": [[1.0, 1.0]]}
    )
    table = averages.profile(layers, NO_HEADS, prompt_rows([20]))
    single = one(table, "state", 0, "entropy")
    assert (single["mean"], single["n"]) == (1, 1)
    assert all(math.isnan(single[name]) for name in ("std", "low", "high"))
    for state, metric in ((1, "entropy"), (1, "norm_ratio"), (0, "c")):
        nothing = one(table, "state", state, metric)
        assert nothing["n"] == 0, metric
        assert all(math.isnan(nothing[name]) for name in ("mean", "std", "low", "high")), metric


def test_heads_are_averaged_before_prompts():
    scores = np.array([[[0.9, 0.1, 0.3, math.nan]], [[0.5, 0.5, 0.5, 0.5]]])
    table = averages.profile(
        layer_rows({"row_ratio": [[1.0]] * 2}), head_rows({"sink_score": scores}), prompt_rows([20, 20])
    )
    found = one(table, "block", 0, "sink_score")
    # Float32 on disk.
    assert found["mean"] == pytest.approx((1.3 / 3 + 0.5) / 2, rel=1e-7)
    assert found["n"] == 2


def test_rates_are_formed_for_each_prompt_and_left_out_on_short_ones():
    rng = np.random.default_rng(1)
    scores, concentrations = rng.random((4, 2, 5)), rng.random((4, 2, 5))
    dormant = rng.random((4, 2, 5)) < 0.3
    heads = head_rows({"sink_score": scores, "colsum_concentration": concentrations, "dormant": dormant})
    tokens = [9, 10, 300, 3]
    table = averages.profile(layer_rows({"row_ratio": [[1.0]] * 4}), heads, prompt_rows(tokens), tau=0.3)
    for block in range(2):
        for rate, values in (("sink_rate", scores), ("colsum_rate", concentrations)):
            found = one(table, "block", block, rate)
            assert found["n"] == 2
            assert found["mean"] == pytest.approx((values[1:3, block] >= 0.3).mean(), rel=1e-12)
        assert one(table, "block", block, "dormant_rate")["mean"] == pytest.approx(dormant[:, block].mean())
        assert one(table, "block", block, "sink_score")["n"] == 4
    assert averages.short_prompts(prompt_rows(tokens), tau=0.3) == 2
    assert averages.short_prompts(prompt_rows(tokens), tau=0.1) == 3


@pytest.mark.parametrize("tau", [0.3, 0.7, 0.1])
def test_a_score_at_the_threshold_counts_though_the_table_is_float32(tau):
    scores = np.array([[[tau, tau - 1e-6, tau + 1e-6, 0.0]]])
    table = averages.profile(
        layer_rows({"row_ratio": [[1.0]]}), head_rows({"sink_score": scores}), prompt_rows([200]), tau=tau
    )
    assert one(table, "block", 0, "sink_rate")["mean"] == 0.5


def test_places_flags_and_keys_are_not_averaged():
    layers = layer_rows(
        {"row_ratio": [[1.0]], "row_position": [[3]], "bound_violated": [[False]], "massive_rank": [[2]]}
    )
    heads = head_rows({"sink_score": np.ones((1, 1, 1)), "top_position": np.ones((1, 1, 1))})
    table = averages.profile(layers, heads, prompt_rows([20]))
    assert sorted(set(table["metric"])) == ["massive_rank", "row_ratio", "sink_rate", "sink_score"]


def test_models_revisions_and_data_stay_apart():
    layers = layer_rows({"entropy": [[1.0]], "row_ratio": [[1.0]]})
    both = pl.concat(
        [layers, layers.with_columns(pl.lit(None, dtype=pl.String).alias("revision"), entropy=pl.lit(5.0))]
    )
    table = averages.profile(both, NO_HEADS, prompt_rows([20])).filter(pl.col("metric") == "entropy")
    assert table.select("revision", "mean").sort("mean").rows() == [("r", 1.0), (None, 5.0)]


def test_phases_of_states_and_of_the_blocks_that_read_them():
    layers = layer_rows({"row_ratio": [[1.0, 30.0, 30.0, 2.0]] * 2})
    heads = head_rows({"mixing": np.ones((2, 3, 1))})
    table = averages.profile(layers, heads, prompt_rows([20, 20]))
    assert table.filter(pl.col("site") == "state")["phase"].to_list() == ["mix", "compress", "compress", "refine"]
    assert table.filter(pl.col("site") == "block")["phase"].to_list() == ["mix", "compress", "compress"]
    strict = averages.profile(layers, heads, prompt_rows([20, 20]), massive_ratio=40.0)
    assert set(strict["phase"]) == {None}


def test_no_rows_at_all():
    table = averages.profile(layer_rows({"row_ratio": [[1.0]]}).clear(), NO_HEADS, prompt_rows([20]).clear())
    assert table.is_empty()


def test_how_much_is_averaged_at_once_changes_nothing(monkeypatch):
    random = np.random.default_rng(0)
    layers = layer_rows({name: random.uniform(0, 9, (7, 5)) for name in ("row_ratio", "entropy_normalized")})
    heads = head_rows(
        {name: random.uniform(0, 1, (7, 4, 3)) for name in ("sink_score", "mixing_normalized", "diagonal", "previous")}
    )
    whole = [
        averages.profile(layers, heads, prompt_rows([20] * 7)),
        averages.claims(layers, heads, prompt_rows([20] * 7)),
    ]
    monkeypatch.setattr("thalweg.averages._profile.ROWS_AT_ONCE", 30)
    monkeypatch.setattr("thalweg.averages._profile.AT_ONCE", 1)
    again = [
        averages.profile(layers, heads, prompt_rows([20] * 7)),
        averages.claims(layers, heads, prompt_rows([20] * 7)),
    ]
    assert all(one.equals(other) for one, other in zip(whole, again, strict=True))
    assert whole[0].filter(metric="sink_score")["n"].to_list() == [7] * 4

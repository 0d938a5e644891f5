"""Phases on trajectories whose answer can be read off."""

import math

import numpy as np
import polars as pl
import pytest

from thalweg import averages

KEY = {"model": "m", "revision": "r", "data": "d"}


def measured(ratios, *, rest=None, entries=0, sinks=None, model="m"):
    """Layers and profile for row ratios by prompt and state."""
    rows = [
        {
            **KEY,
            "model": model,
            "prompt": n,
            "state": s,
            "row_ratio": ratio,
            "norm_ratio": ratio,
            "rest_norm": float(rest[s]) if rest else 1.0,
            "entropy_normalized": 1 / ratio if ratio else math.nan,
            "massive_entry_count": entries if n == 0 else 0,
        }
        for n, prompt in enumerate(ratios)
        for s, ratio in enumerate(prompt)
    ]
    heads = [
        {
            **KEY,
            "model": model,
            "prompt": n,
            "block": b,
            "head": 0,
            "sink_score": float(sinks[b]) if sinks else 0.0,
            "mixing": float(b),
        }
        for n in range(len(ratios))
        for b in range(len(ratios[0]) - 1)
    ]
    prompts = [{**KEY, "model": model, "prompt": n, "sink_uniform": 0.1} for n in range(len(ratios))]
    layers = pl.DataFrame(rows)
    return layers, averages.profile(layers, pl.DataFrame(heads), pl.DataFrame(prompts))


def phases_of(*args, **options):
    table = averages.phases(*measured(*args, **options))
    assert len(table) == 1
    return table.row(0, named=True)


def test_three_phases():
    found = phases_of([[1.0, 2.0, 50.0, 40.0, 50.0, 3.0, 1.0]] * 3, sinks=[0, 0, 1, 1, 0, 0])
    assert (found["states"], found["blocks"], found["prompts"]) == (6, 6, 3)
    assert (found["compress_first"], found["compress_last"], found["has_refine"], found["dips"]) == (2, 4, True, [])
    assert (found["compress_first_depth"], found["compress_last_depth"]) == pytest.approx((2 / 6, 4 / 6))
    assert (found["has_massive_activations"], found["agreement"], found["massive_share_threshold"]) == (True, 1, 0.5)
    assert (found["rise_state"], found["fall_state"]) == (2, 5)
    assert [found[f"{phase}_mixing"] for phase in ("mix", "compress", "refine")] == pytest.approx([0.5, 3, 5])
    assert [found[f"{phase}_sink_rate"] for phase in ("mix", "compress", "refine")] == pytest.approx([0, 2 / 3, 0])
    assert found["compress_entropy_normalized"] == pytest.approx((1 / 50 + 1 / 40 + 1 / 50) / 3)
    assert found["reason"] is None


def test_no_massive_state_is_an_answer():
    found = phases_of([[1.0, 2.0, 3.0]])
    assert found["has_massive_activations"] is False
    assert (found["compress_first"], found["compress_last"], found["has_refine"]) == (None, None, False)
    assert math.isnan(found["agreement"])
    assert math.isnan(found["mix_mixing"])
    assert found["dips"] == []
    assert found["reason"] == "no massive state: no compress phase"


def test_compress_to_the_end_has_no_refine_phase_and_says_so():
    found = phases_of([[1.0, 30.0, 30.0]])
    assert found["has_refine"] is False
    assert math.isnan(found["refine_entropy_normalized"])
    assert found["reason"] == "no refine phase: the last state is massive"
    assert "no mix phase" in phases_of([[30.0, 30.0, 1.0]])["reason"]


def test_dips_inside_are_listed():
    assert phases_of([[1.0, 30.0, 2.0, 30.0, 5.0, 30.0, 1.0]])["dips"] == [2, 4]


def test_half_of_the_prompts_are_enough_and_agreement_is_the_share_of_the_same_start():
    found = phases_of([[1.0, 30.0, 30.0, 1.0], [1.0, 1.0, 30.0, 1.0], [1.0, 1.0, 1.0, 1.0], [1.0, 30.0, 1.0, 1.0]])
    assert (found["compress_first"], found["compress_last"]) == (1, 2)
    assert found["agreement"] == 0.5


def test_prompts_without_a_row_ratio_have_no_vote():
    found = phases_of([[1.0, 30.0], [math.nan, math.nan], [math.nan, math.nan]])
    assert (found["compress_first"], found["agreement"], found["prompts"]) == (1, 1, 3)


def test_the_other_tokens_catch_up_after_their_least_norm():
    found = phases_of([[1.0, 30.0, 30.0, 30.0, 30.0, 30.0, 1.0]], rest=[9, 5, 1, 2, 2.1, 3, 9])
    assert found["rest_norm_rise_state"] == 4
    assert phases_of([[1.0, 30.0, 30.0, 1.0]])["rest_norm_rise_state"] is None


def test_the_share_of_prompts_with_a_massive_entry():
    assert phases_of([[1.0, 1.0]] * 4, entries=2)["sun_prompt_share"] == 0.25


def test_several_models_keep_their_own_rows():
    first, second = measured([[1.0, 30.0]]), measured([[30.0, 1.0]], model="other")
    table = averages.phases(pl.concat([first[0], second[0]]).lazy(), pl.concat([first[1], second[1]]))
    assert table.select("model", "compress_first").rows() == [("m", 1), ("other", 0)]


def test_without_entry_counts_their_share_is_unknown():
    layers, profile = measured([[1.0, 30.0]])
    found = averages.phases(layers.drop("massive_entry_count"), profile)
    assert math.isnan(found["sun_prompt_share"][0])
    assert np.isfinite(found["compress_first_depth"][0])

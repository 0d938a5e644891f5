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
            "mixing_normalized": float(b),
        }
        for n in range(len(ratios))
        for b in range(len(ratios[0]) - 1)
    ]
    prompts = [{**KEY, "model": model, "prompt": n, "sink_uniform": 0.1} for n in range(len(ratios))]
    layers = pl.DataFrame(rows)
    heads, prompts = pl.DataFrame(heads), pl.DataFrame(prompts)
    return layers, averages.profile(layers, heads, prompts), averages.claims(layers, heads, prompts)


def phases_of(*args, **options):
    table = averages.phases(*measured(*args, **options))
    assert len(table) == 1
    return table.row(0, named=True)


def test_three_phases():
    found = phases_of([[1.0, 2.0, 50.0, 40.0, 50.0, 3.0, 1.0]] * 3, sinks=[0, 0, 1, 1, 0, 0])
    assert (found["states"], found["blocks"], found["prompts"], found["left_out"]) == (6, 6, 3, 0)
    assert (found["compress_first"], found["compress_last"], found["has_refine"], found["dips"]) == (2, 4, True, [])
    assert (found["compress_first_depth"], found["compress_last_depth"]) == pytest.approx((2 / 6, 4 / 6))
    assert (found["peak_state"], found["peak_ratio"], found["shoulders"]) == (2, pytest.approx(50), [])
    assert (found["has_massive_activations"], found["massive_share_threshold"]) == (True, 0.5)
    assert (found["agreement_first"], found["agreement_last"], found["massive_at_embedding"]) == (1, 1, False)
    assert (found["rise_state"], found["fall_state"]) == (2, 5)
    assert [found[f"{phase}_mixing"] for phase in ("mix", "compress", "refine")] == pytest.approx([0.5, 3, 5])
    assert [found[f"{phase}_sink_rate"] for phase in ("mix", "compress", "refine")] == pytest.approx([0, 2 / 3, 0])
    assert found["compress_entropy_normalized"] == pytest.approx((1 / 50 + 1 / 40 + 1 / 50) / 3)
    assert (found["mix_mark"], found["compress_mark"]) == (
        "not here",
        "as the paper says",
    )  # it mixes less than compress
    assert (found["row_explains"], found["reason"]) == (None, None)
    assert math.isnan(found["given_back"])


def test_how_firm_the_boundaries_are_is_kept():
    found = phases_of([[1.0, 2.0, 6.0, 100.0, 30.0, 12.0, 6.0, 1.0, 1.0]])
    assert (found["compress_first"], found["compress_last"], found["line_matters"]) == (3, 5, False)
    assert (found["compress_first_low"], found["compress_last_low"]) == (3, 5)  # 100 to the power 0.4 is 6.3
    assert (found["compress_first_high"], found["compress_last_high"]) == (3, 4)
    assert [found[f"runs_at_{ratio}"] for ratio in (5, 10, 20)] == [[2, 6], [3, 5], [3, 4]]
    moving = phases_of([[1.0, 7.0, 7.0, 7.0, 100.0, 1.0]])
    assert (moving["compress_first"], moving["compress_first_low"], moving["line_matters"]) == (4, 1, True)


def test_means_leave_out_waves():
    found = phases_of([[1.0, 12.0, 6.0, 1.0, 100.0, 1.0, 1.0]] * 2, sinks=[0, 1, 1, 0, 1, 0])
    assert (found["compress_first"], found["compress_last"]) == (4, 4)
    assert (found["mix_sink_rate"], found["mix_mixing"]) == (0, 1.5)  # blocks 0 and 3


def test_no_massive_state_is_an_answer():
    found = phases_of([[1.0, 2.0, 3.0]])
    assert found["has_massive_activations"] is False
    assert (found["compress_first"], found["compress_last"], found["has_refine"]) == (None, None, False)
    assert math.isnan(found["agreement_first"])
    assert math.isnan(found["mix_mixing"])
    assert (found["dips"], found["mix_mark"], found["line_matters"]) == ([], None, False)
    assert found["reason"] == "no massive state: no compress phase"


def test_phases_that_are_not_there_are_said():
    found = phases_of([[1.0, 30.0, 30.0]])
    assert found["has_refine"] is False
    assert math.isnan(found["refine_entropy_normalized"])
    assert (found["reason"], found["refine_mark"]) == ("no refine phase: no state is left for it", "not here")
    embedded = phases_of([[30.0, 30.0, 1.0]])
    assert (embedded["compress_first"], embedded["massive_at_embedding"]) == (1, True)
    assert "no mix phase" in embedded["reason"]


def test_the_other_tokens_catch_up_after_their_least_norm():
    found = phases_of([[1.0, 30.0, 30.0, 30.0, 30.0, 30.0, 1.0]], rest=[9, 5, 1, 2, 2.1, 3, 9])
    assert found["rest_norm_rise_state"] == 4
    assert phases_of([[1.0, 30.0, 30.0, 1.0]])["rest_norm_rise_state"] is None


def test_the_share_of_prompts_with_a_massive_entry():
    assert phases_of([[1.0, 1.0]] * 4, entries=2)["sun_prompt_share"] == 0.25


def test_several_models_keep_their_own_rows():
    first, second = measured([[1.0, 30.0, 1.0]]), measured([[1.0, 1.0, 30.0]], model="other")
    both = [pl.concat([one, other]) for one, other in zip(first, second, strict=True)]
    table = averages.phases(both[0].lazy(), *both[1:])
    assert table.select("model", "compress_first").rows() == [("m", 1), ("other", 2)]


def test_without_entry_counts_their_share_is_unknown():
    layers, *summed = measured([[1.0, 30.0]])
    found = averages.phases(layers.drop("massive_entry_count"), *summed)
    assert math.isnan(found["sun_prompt_share"][0])
    assert np.isfinite(found["compress_first_depth"][0])

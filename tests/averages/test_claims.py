"""What the paper says of each phase, against numbers formed by hand, prompt by prompt."""

import math

import numpy as np
import polars as pl
import pytest
from scipy import stats

from thalweg import averages
from thalweg.averages._claims import CLAIMS, mark, phase_marks, row_effect

KEY = {"model": "m", "revision": "r", "data": "d"}
RATIOS = [1.0, 1.0, 100.0, 100.0, 1.0, 1.0]  # mix 0-1, compress 2-3, refine 4-5; blocks 0..4


def tables(entropies, sinks, *, mixing=None, sharp=None, ratios=RATIOS, short=()):
    """Layers, heads and prompts: entropy by prompt and state, sinks (share of four heads) by prompt and block."""
    layers, heads, prompts = [], [], []
    for prompt, entropy in enumerate(entropies):
        key = KEY | {"prompt": prompt}
        prompts.append(key | {"sink_uniform": 0.5 if prompt in short else 0.1})
        layers += [
            key | {"state": state, "tokens": 12, "row_ratio": ratios[state], "entropy_normalized": float(value)}
            for state, value in enumerate(entropy)
        ]
        for block in range(len(entropy) - 1):
            for head in range(4):
                mixes = mixing[prompt][block] if mixing else 0.5
                looks = 0.5 if sharp and head < 4 * sharp[block] else 0.1
                heads.append(
                    key
                    | {
                        "block": block,
                        "head": head,
                        "sink_score": 0.9 if head < 4 * sinks[prompt][block] else 0.0,
                        "mixing_normalized": mixes,
                        "diagonal": 0.1,
                        "previous": looks,
                    }
                )
    return pl.DataFrame(layers), pl.DataFrame(heads), pl.DataFrame(prompts)


def by_name(found):
    return {(row["phase"], row["claim"]): row for row in found.to_dicts()}


def interval(values):
    mean, half = np.mean(values), stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return mean, mean - half, mean + half


ENTROPIES = [[0.9, 0.7, 0.1, 0.1, 0.5, 0.7], [0.8, 0.8, 0.2, 0.1, 0.6, 0.6], [0.7, 0.9, 0.1, 0.2, 0.5, 0.5]]
SINKS = [[0, 0, 1, 0.75, 0.25], [0, 0, 0.75, 0.75, 0.25], [0, 0, 1, 1, 0.5]]
MIXING = [[0.8, 0.7, 0.3, 0.4, 0.5], [0.8, 0.8, 0.3, 0.3, 0.5], [0.9, 0.7, 0.4, 0.4, 0.4]]


def test_every_claim_is_formed_per_prompt_then_averaged():
    found = by_name(averages.claims(*tables(ENTROPIES, SINKS, mixing=MIXING, sharp=[0, 0, 0.25, 0.25, 0.75])))
    entropies, sinks, mixing = (np.array(each, dtype=float) for each in (ENTROPIES, SINKS, MIXING))
    mix, compress, refine = (entropies[:, part].mean(1) for part in (slice(0, 2), slice(2, 4), slice(4, 6)))
    expected = {
        ("mix", "mixes more than compress"): mixing[:, :2].mean(1) - mixing[:, 2:4].mean(1),
        ("mix", "hardly sinks"): sinks[:, :2].mean(1),
        ("compress", "entropy halved"): compress / mix,
        ("compress", "sinks"): sinks[:, 2:4].mean(1),
        ("refine", "entropy comes back"): (refine - compress) / (mix - compress),
        ("refine", "sinks less than compress"): sinks[:, 4] - sinks[:, 2:4].mean(1),
    }
    for name, values in expected.items():
        row = found[name]
        told = (row["mean"], row["low"], row["high"])
        assert told == pytest.approx(interval(values), rel=1e-6, abs=1e-7), name  # mixing is float32 on disk
        assert (row["n"], row["mark"]) == (3, "as the paper says"), name
    assert found["refine", "entropy comes back"]["here"] == pytest.approx(refine.mean())
    assert found["refine", "entropy comes back"]["there"] == pytest.approx(compress.mean())
    remark = found["refine", "sharper heads"]
    assert (remark["decides"], remark["here"], remark["there"]) == (False, 0.75, 0.25)
    assert len(found) == len(CLAIMS)


@pytest.mark.parametrize(
    ("side", "bound", "low", "high", "expected"),
    [
        ("at least", 0.3, 0.3, 0.5, "as the paper says"),
        ("at least", 0.3, 0.1, 0.3, "cannot be told"),
        ("at least", 0.3, 0.1, 0.29, "not here"),
        ("at most", 0.5, 0.2, 0.5, "as the paper says"),
        ("at most", 0.5, 0.5, 0.6, "cannot be told"),
        ("at most", 0.5, 0.51, 0.6, "not here"),
        ("above", 0.0, 0.0, 0.1, "cannot be told"),
        ("above", 0.0, 0.01, 0.1, "as the paper says"),
        ("above", 0.0, -0.1, 0.0, "not here"),
        ("below", 0.1, 0.0, 0.09, "as the paper says"),
        ("below", 0.1, 0.1, 0.2, "not here"),
        ("below", 0.1, 0.05, 0.1, "cannot be told"),
        ("below", 0.1, math.nan, math.nan, "cannot be told"),
    ],
)
def test_marks(side, bound, low, high, expected):
    assert mark(side, bound, low, high) == expected


def test_one_prompt_tells_nothing():
    rows = averages.claims(*tables(ENTROPIES[:1], SINKS[:1])).to_dicts()
    assert {row["mark"] for row in rows if row["claim"] != "entropy comes back"} == {"cannot be told"}
    assert all(row["n"] == 1 for row in rows)


def test_short_prompts_have_no_sink_rate_but_an_entropy():
    found = by_name(averages.claims(*tables(ENTROPIES, SINKS, short=(1,))))
    assert found["compress", "sinks"]["n"] == 2
    assert found["compress", "entropy halved"]["n"] == 3


def test_without_a_drop_nothing_comes_back():
    flat = [[0.5, 0.5, 0.49, 0.51, 0.5, 0.5], [0.5, 0.5, 0.51, 0.5, 0.5, 0.4], [0.5, 0.4, 0.45, 0.5, 0.5, 0.5]]
    row = by_name(averages.claims(*tables(flat, SINKS)))["refine", "entropy comes back"]
    assert (row["mark"], row["reason"]) == ("not here", "no drop")


def test_a_phase_that_no_block_reads_has_no_claims_about_heads():
    ratios = [1.0, 1.0, 100.0, 100.0, 100.0, 1.0]  # refine is state 5 alone
    found = averages.claims(*tables(ENTROPIES, SINKS, ratios=ratios))
    row = by_name(found)["refine", "sinks less than compress"]
    assert row["mark"] is None
    assert "no block reads the refine phase" in row["reason"]
    assert row["here"] == pytest.approx(np.mean([0.25, 0.25, 0.5]))  # the last block's
    assert set(phase_marks(found)) == {"mix", "compress", "refine"}


def test_an_empty_phase_is_not_here():
    ratios = [1.0, 1.0, 100.0, 100.0, 100.0, 100.0]
    found = averages.claims(*tables(ENTROPIES, SINKS, ratios=ratios))
    assert phase_marks(found)["refine"] == "not here"
    assert by_name(found)["refine", "entropy comes back"]["reason"] == "no refine state"
    from_the_start = averages.claims(*tables(ENTROPIES, SINKS, ratios=[100.0, 100.0, 100.0, 1.0, 1.0, 1.0]))
    marks = phase_marks(from_the_start)
    assert (marks["mix"], marks["compress"]) == ("not here", "cannot be told")


def test_a_model_without_phases_has_no_claims():
    assert averages.claims(*tables(ENTROPIES, SINKS, ratios=[1.0] * 6)).height == 0


def test_a_phase_is_as_said_if_all_claims_are_and_not_here_if_one_is():
    def marks(*each):
        rows = [{"phase": "mix", "mark": one, "decides": True} for one in each]
        return phase_marks(pl.DataFrame([*rows, {"phase": "mix", "mark": "not here", "decides": False}]))["mix"]

    said, not_here, untold = "as the paper says", "not here", "cannot be told"
    assert marks(said, said) == said
    assert marks(said, untold) == untold
    assert marks(untold, not_here) == not_here
    assert marks(None, said) == said


def with_row(layers, *, without, norm=10.0, share=0.99, anisotropy=0.99, frobenius=101.0, massive=1):
    """The columns that tell what the row does: in compress its norm, alignment, and the entropy of the others."""
    inside = pl.col("row_ratio") > 1
    return layers.with_columns(
        median_norm=pl.when(inside).then(norm / 100).otherwise(1.0),
        frobenius_sq=pl.lit(frobenius),
        anisotropy=pl.lit(anisotropy),
        anisotropy_bound=pl.lit(share),
        massive_share=pl.lit(share),
        massive_row_count=pl.lit(massive),
        row_position=pl.lit(0),
        entropy_without_massive_normalized=pl.lit(without),
    )


def effect(**numbers):
    layers, _, _ = tables(ENTROPIES, SINKS)
    layers = with_row(layers, **numbers)
    (course,) = averages.courses(layers)
    return row_effect(course, layers)


def test_what_is_given_back_without_the_row():
    found = effect(without=0.8)
    entropies = np.array(ENTROPIES)
    mix, compress = entropies[:, :2].mean(1), entropies[:, 2:4].mean(1)
    expected = interval((0.8 - compress) / (mix - compress))
    assert (found["given_back"], found["given_back_low"], found["given_back_high"]) == pytest.approx(expected)
    assert (found["row_compresses"], found["given_back_n"]) == ("yes", 3)
    assert effect(without=0.11)["row_compresses"] == "no"
    assert effect(without=0.4)["row_compresses"] == "partly"


def test_the_norm_alone_or_with_alignment_or_neither():
    found = effect(without=0.8)
    assert found["row_norm_share"] == pytest.approx(100 / 101 / 0.99)
    assert found["row_explains"] == "norm"
    aligned = effect(without=0.8, norm=5.0)
    assert aligned["row_norm_share"] == pytest.approx(25 / 101 / 0.99)
    assert (aligned["row_aligned_share"], aligned["row_explains"]) == (pytest.approx(1.0), "alignment")
    assert effect(without=0.8, norm=5.0, share=0.5)["row_explains"] == "neither"
    # where no row is massive, the sink's alignment is known if the sink's is the largest
    assert effect(without=0.8, norm=5.0, massive=0)["row_explains"] == "alignment"


def test_prompts_without_a_drop_are_left_out():
    rising = [[0.1, 0.1, 0.5, 0.5, 0.5, 0.5], *ENTROPIES[:2]]
    layers, _, _ = tables(rising, SINKS)
    layers = with_row(layers, without=0.8)
    (course,) = averages.courses(layers)
    assert row_effect(course, layers)["given_back_n"] == 2

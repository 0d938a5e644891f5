"""Head metrics against the analytic table of DEFINITIONS.md, naive formulas on whole maps, and what pads may hold."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from thalweg import metrics

# sink_0, mixing, concentration, svi, B + D: the table of DEFINITIONS.md, with its digits.
ANALYTIC = [
    ("pure_sink", 2, 1, 0, 1, 2 / 3, 3 / 2),
    ("pure_sink", 50, 1, 0, 1, 50 / 51, 51 / 50),
    ("identity", 64, 0.015625, 0, 0, 0.015385, 1.015625),
    ("uniform", 4, 0.520833, 0.794513, 0.17219, 0.5, 1.04167),
    ("uniform", 64, 0.074123, 3.20575, 0.09738, 0.5, 0.14825),
    ("uniform", 1024, 0.007333, 5.93575, 0.06080, 0.5, 0.01467),
]


def uniform_statistics(tokens: int) -> dict[str, torch.Tensor]:
    """In closed form: a map of 1024 x 1024 is not for loops."""
    rows = torch.arange(1, tokens + 1, dtype=torch.float64)
    columns = (1 / rows).flip(0).cumsum(0).flip(0)
    as_batch = {"column_mass": columns, "row_entropy": rows.log(), "diagonal": 1 / rows, "previous": 1 / rows}
    return {
        **{name: values.reshape(1, 1, -1) for name, values in as_batch.items()},
        "row_sum": torch.ones(1, 1, tokens),
        "visible": rows.long().unsqueeze(0),
        "lengths": torch.tensor([tokens]),
    }


@pytest.mark.parametrize(("head", "tokens", "sink", "mixing", "concentration", "svi", "both"), ANALYTIC)
def test_analytic_heads(request, statistics, head, tokens, sink, mixing, concentration, svi, both):
    build = request.getfixturevalue(head)
    data = uniform_statistics(tokens) if tokens == 1024 else statistics([build(tokens)])
    found = {name: value.item() for name, value in metrics.head_metrics(**data).items()}
    # The table gives five or six digits.
    assert found["sink_score"] == pytest.approx(sink, abs=6e-7)
    assert found["mixing"] == pytest.approx(mixing, abs=6e-6)
    assert found["colsum_concentration"] == pytest.approx(concentration, abs=6e-6)
    assert found["svi"] == pytest.approx(svi, abs=6e-7)
    assert found["sink_score"] + found["diagonal"] == pytest.approx(both, abs=6e-6)
    assert found["attended"] == pytest.approx(1)
    if head == "uniform":
        assert found["sink_score"] == pytest.approx(metrics.sink_uniform(tokens), rel=1e-12)
        assert found["mixing_normalized"] == pytest.approx(1, rel=1e-12)


def naive(attention: np.ndarray, sink: int) -> dict[str, float]:
    """Every formula of DEFINITIONS.md once more, on one materialised head."""
    tokens = len(attention)
    column = attention.sum(0)
    entropies = []
    for row in attention:
        p = row[row > 0] / row.sum()
        entropies.append(-(p * np.log(p)).sum())
    c = column / column.sum()
    c0 = c[sink]
    positive = c[c > 0]
    rest = (1 - c0) * math.log((1 - c0) / (tokens - 1)) if c0 < 1 else 0.0
    b, d = column[sink] / tokens, np.trace(attention) / tokens
    return {
        "sink_score": b,
        "top_position": int(np.argmax(column)),
        "top_score": column.max() / tokens,
        "mixing": np.mean(entropies),
        "mixing_normalized": np.mean([entropies[t] / math.log(t + 1) for t in range(1, tokens)]),
        "mixing_over_log_length": np.mean(entropies) / math.log(tokens),
        "colsum_concentration": 1 + (positive * np.log(positive)).sum() / math.log(tokens),
        "colsum_floor": 1 + (c0 * math.log(c0) + rest) / math.log(tokens),
        "diagonal": d,
        "previous": np.mean([attention[t, t - 1] for t in range(1, tokens)]),
        "svi": b / (b + d),
        "attended": attention.sum() / tokens,
    }


@pytest.mark.parametrize("sink_logit", [None, 1.0])
@pytest.mark.parametrize("sink", [0, 2])
@pytest.mark.parametrize("tokens", [3, 17])
def test_every_metric_is_its_formula(statistics, softmax_heads, tokens, sink, sink_logit):
    attention = softmax_heads(4, tokens, seed=tokens, sink_logit=sink_logit)
    found = metrics.head_metrics(**statistics([attention]), sink_position=sink)
    for head in range(4):
        for name, value in naive(attention[head], sink).items():
            # Both are float64 sums of a few dozen terms; 1 - H / ln T cancels down to 1e-2.
            assert found[name][0, head].item() == pytest.approx(value, rel=1e-11, abs=1e-13), name


def test_pads_enter_nothing_and_a_batch_is_its_prompts(statistics, softmax_heads):
    maps = [softmax_heads(3, tokens, seed=tokens) for tokens in (1, 2, 9, 14)]
    alone = [metrics.head_metrics(**statistics([attention])) for attention in maps]
    for fill in (math.nan, math.inf, -5.0):
        together = metrics.head_metrics(**statistics(maps, pad=3, fill=fill))
        for name, values in together.items():
            expected = torch.cat([one[name] for one in alone])
            torch.testing.assert_close(values, expected, rtol=1e-13, atol=1e-15, equal_nan=True, msg=f"{name}, {fill}")


def test_heads_are_independent(statistics, softmax_heads):
    attention = softmax_heads(5, 8, seed=1)
    order = [3, 0, 4, 1, 2]
    straight = metrics.head_metrics(**statistics([attention]))
    shuffled = metrics.head_metrics(**statistics([attention[order]]))
    for name in straight:
        torch.testing.assert_close(shuffled[name], straight[name][:, order], rtol=1e-14, atol=0)


def test_concentration_is_never_below_its_floor(statistics, softmax_heads):
    for seed in range(30):
        scale = [0.0, 1.0, 10.0, 100.0][seed % 4]
        data = statistics([softmax_heads(4, 2 + seed, seed=seed, scale=scale, sink_logit=None if seed % 3 else 2.0)])
        for sink in (0, seed // 2):
            floor = metrics.colsum_floor(data["column_mass"], lengths=data["lengths"], sink_position=sink)
            found = metrics.colsum_concentration(data["column_mass"], lengths=data["lengths"])
            assert (found >= floor - 1e-12).all()


def test_one_token(statistics, identity):
    found = metrics.head_metrics(**statistics([identity(1)]))
    undefined = {name for name, value in found.items() if value.isnan()}
    assert undefined == {
        "colsum_concentration",
        "colsum_floor",
        "mixing_normalized",
        "mixing_over_log_length",
        "previous",
    }
    assert (found["sink_score"].item(), found["mixing"].item(), found["svi"].item()) == (1, 0, 0.5)


def test_no_token_at_the_sink_position(statistics, softmax_heads):
    maps = [softmax_heads(2, 3, seed=0), softmax_heads(2, 6, seed=1)]
    found = metrics.head_metrics(**statistics(maps), sink_position=4)
    for name in ("sink_score", "svi", "colsum_floor"):
        assert found[name].isnan().tolist() == [[True, True], [False, False]], name
    assert metrics.sink_score(torch.ones(1, 1, 3), lengths=torch.tensor([3]), sink_position=3).isnan()


def test_a_head_that_looks_at_no_token(statistics):
    found = metrics.head_metrics(
        **{**statistics([np.eye(3)[None]]), "column_mass": torch.zeros(1, 1, 3), "row_sum": torch.zeros(1, 1, 3)}
    )
    assert found["colsum_concentration"].isnan()
    assert found["attended"].item() == 0


def test_not_finite_is_not_a_number(statistics, softmax_heads):
    data = statistics([softmax_heads(2, 5, seed=0)])
    for name in ("column_mass", "row_entropy", "diagonal", "previous", "row_sum"):
        data[name][:, 1, 2] = math.nan
    found = metrics.head_metrics(**data)
    assert found.pop("top_position").tolist()[0][1] == -1
    for name, values in found.items():
        # The sink's own column is finite, so its score is: only what read the NaN is undefined.
        assert values.isnan().tolist() == [[False, name not in ("sink_score",)]], name


def test_inputs_are_left_alone(statistics, softmax_heads):
    data = statistics([softmax_heads(2, 5, seed=0)], pad=2, fill=math.nan)
    before = {name: values.clone() for name, values in data.items()}
    metrics.head_metrics(**data)
    for name, values in data.items():
        torch.testing.assert_close(values, before[name], equal_nan=True)


def test_float32_is_close_to_float64(statistics, softmax_heads):
    data = statistics([softmax_heads(3, 40, seed=0)])
    single = {name: v.float() if v.is_floating_point() else v for name, v in data.items()}
    exact, found = metrics.head_metrics(**data), metrics.head_metrics(**single)
    for name in exact:
        # Inputs carry 6e-8; concentrations cancel from 1 to 0.1.
        torch.testing.assert_close(found[name], exact[name], rtol=1e-6, atol=1e-7)


def test_golden_values(statistics, softmax_heads):
    """Every head metric on one batch; `regenerate_goldens.py` writes the file."""
    golden = json.loads((Path(__file__).parent / "goldens.json").read_text())["heads"]
    data = statistics([softmax_heads(2, 6, seed=5), softmax_heads(2, 3, seed=6, sink_logit=0.5)])
    found = metrics.head_metrics(
        **{name: v.round(decimals=6) if v.is_floating_point() else v for name, v in data.items()}
    )
    assert golden.keys() == found.keys()
    assert len(golden) == 12
    for name, values in golden.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-10, err_msg=name)

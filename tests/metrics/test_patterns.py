"""Sharp heads: identity, previous token, sink; and what a sink logit takes."""

import numpy as np
import pytest
import torch

from thalweg import metrics


def test_a_previous_token_head(statistics):
    attention = np.eye(6, k=-1)[None].copy()
    attention[0, 0, 0] = 1
    data = statistics([attention], fill=9.0)
    assert metrics.previous(data["previous"], lengths=data["lengths"]).item() == 1
    assert metrics.diagonal(data["diagonal"], lengths=data["lengths"]).item() == pytest.approx(1 / 6)


def test_a_quarter_for_the_sink_logit(statistics, uniform):
    data = statistics([0.75 * uniform(5)])
    assert metrics.attended(data["row_sum"], lengths=data["lengths"]).item() == pytest.approx(0.75)
    found = metrics.head_metrics(**data)
    whole = metrics.head_metrics(**statistics([uniform(5)]))
    # Sink score, diagonal and previous use the probabilities as they are; entropies and shares those of tokens.
    for name in ("sink_score", "top_score", "diagonal", "previous"):
        assert found[name].item() == pytest.approx(0.75 * whole[name].item()), name
    for name in ("mixing", "mixing_normalized", "colsum_concentration", "colsum_floor", "svi"):
        assert found[name].item() == pytest.approx(whole[name].item()), name


def test_svi_of_a_head_that_is_neither():
    zeros = torch.zeros(1, 1, 3)
    assert metrics.svi(zeros, diagonal=zeros, lengths=torch.tensor([3])).isnan()

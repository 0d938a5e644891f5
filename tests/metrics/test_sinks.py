"""Sink scores, rates, the most attended token, and importance."""

import math

import pytest
import torch

from thalweg import metrics


def test_the_most_attended_token_may_be_anywhere():
    mass = torch.tensor([[[1.0, 3.0, 0.0, 0.0]]])
    assert metrics.top_position(mass, lengths=torch.tensor([4])).item() == 1
    assert metrics.top_score(mass, lengths=torch.tensor([4])).item() == 0.75


def test_ties_go_to_the_lowest_position_within_1e_6():
    mass = torch.tensor([[[1.0, 1.0 + 3e-6, 1.0 + 2e-6, 0.5]]], dtype=torch.float64)
    lengths = torch.tensor([4])
    assert metrics.top_position(mass, lengths=lengths).item() == 0
    assert metrics.top_position(mass + torch.tensor([0, 5e-6, 0, 0]), lengths=lengths).item() == 1


def test_sink_rate_counts_scores_at_the_threshold():
    assert metrics.sink_rate(torch.tensor([0.9, 0.3, 0.1, 0.0], dtype=torch.float64)).item() == 0.5
    assert metrics.sink_rate(torch.tensor([[0.9, 0.2], [0.1, 0.2]]), tau=0.2).tolist() == [1.0, 0.5]
    assert metrics.colsum_rate(torch.tensor([1.0, 0.5, 0.1, 0.0])).item() == 0.5


def test_rates_leave_out_what_is_undefined():
    assert metrics.sink_rate(torch.tensor([math.nan, 0.9])).item() == 1
    assert metrics.sink_rate(torch.tensor([math.nan, math.nan])).isnan()


@pytest.mark.parametrize(("tokens", "short"), [(1, True), (9, True), (10, False), (100, False)])
def test_a_uniform_head_passes_as_a_sink_up_to_nine_tokens(tokens, short):
    expected = sum(1 / t for t in range(1, tokens + 1)) / tokens
    assert metrics.sink_uniform(tokens) == pytest.approx(expected, rel=1e-14)
    assert (metrics.sink_uniform(tokens) >= 0.3) == short


@pytest.mark.parametrize("sink", [0, 2])
def test_sink_uniform_is_the_score_of_the_uniform_head(statistics, uniform, sink):
    data = statistics([uniform(7)])
    score = metrics.sink_score(data["column_mass"], lengths=data["lengths"], sink_position=sink)
    assert metrics.sink_uniform(7, sink_position=sink) == pytest.approx(score.item(), rel=1e-14)
    assert math.isnan(metrics.sink_uniform(2, sink_position=sink + 2))


def test_importance_counts_only_the_rows_that_can_see():
    data = torch.ones(2, 1, 5)
    found = metrics.importance(data, lengths=torch.tensor([4, 5]))
    assert found[0, 0, :4].tolist() == pytest.approx([1 / 4, 1 / 3, 1 / 2, 1])
    assert found[0, 0, 4].isnan()
    assert found[1, 0, 0].item() == 0.2

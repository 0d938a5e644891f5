"""Row entropies: windows, rows without a choice, lengths."""

import math

import pytest
import torch

from thalweg import metrics


def test_uniform_attention_in_a_window_is_fully_mixed():
    visible = torch.tensor([[1, 2, 3, 3, 3]])
    entropies = visible.double().log().unsqueeze(1)
    lengths = torch.tensor([5])
    assert metrics.mixing_normalized(entropies, visible=visible, lengths=lengths).item() == pytest.approx(1, rel=1e-15)
    assert metrics.mixing(entropies, lengths=lengths).item() == pytest.approx((math.log(2) + 3 * math.log(3)) / 5)


def test_rows_without_a_choice_are_not_counted():
    visible = torch.tensor([[1, 1, 1, 2]])
    entropies = torch.tensor([[[0.0, 0.0, 0.0, math.log(2) / 2]]])
    found = metrics.mixing_normalized(entropies, visible=visible, lengths=torch.tensor([4]))
    assert found.item() == pytest.approx(0.5)
    assert metrics.mixing_normalized(entropies, visible=visible, lengths=torch.tensor([3])).isnan()


def test_mixing_over_log_length_of_four_uniform_rows():
    entropies = torch.arange(1, 5).double().log().reshape(1, 1, 4)
    found = metrics.mixing_over_log_length(entropies, lengths=torch.tensor([4]))
    assert found.item() == pytest.approx(0.573120, abs=6e-7)

"""ColSum concentration and the least that the sink's share allows."""

import math

import pytest
import torch

from thalweg import metrics

LENGTHS = torch.tensor([4])


@pytest.mark.parametrize("share", [0.25, 0.4, 0.9, 1.0])
def test_the_floor_is_reached_when_the_rest_is_even(share):
    rest = (1 - share) / 3
    mass = 4 * torch.tensor([[[share, rest, rest, rest]]], dtype=torch.float64)
    floor = metrics.colsum_floor(mass, lengths=LENGTHS)
    torch.testing.assert_close(metrics.colsum_concentration(mass, lengths=LENGTHS), floor, rtol=1e-12, atol=1e-14)
    inside = share * math.log(share) + (3 * rest * math.log(rest) if rest else 0.0)
    assert floor.item() == pytest.approx(1 + inside / math.log(4), abs=1e-14)


def test_a_sink_elsewhere_shows_above_the_floor():
    mass = torch.tensor([[[0.5, 3.5, 0.0, 0.0]]])
    assert metrics.colsum_concentration(mass, lengths=LENGTHS) > metrics.colsum_floor(mass, lengths=LENGTHS) + 0.5


def test_mass_is_divided_by_its_sum():
    mass = torch.tensor([[[2.0, 1.0, 0.5, 0.5]]], dtype=torch.float64)
    whole = metrics.colsum_concentration(mass, lengths=LENGTHS)
    torch.testing.assert_close(metrics.colsum_concentration(mass * 0.3, lengths=LENGTHS), whole, rtol=1e-13, atol=0)

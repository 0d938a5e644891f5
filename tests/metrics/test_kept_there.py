"""What is computed of all prompts and states at once is what is computed of each.

Here the device is the processor, so that everything but the solver and the kernels is what runs on a GPU. Tolerances:
the promise of ``_eigenvalues`` for what follows from a spectrum; products in float32 for half precision, 1e-6.
"""

import math
from dataclasses import replace

import pytest
import torch

from thalweg import metrics
from thalweg.metrics import _kept_there, _spectra
from thalweg.metrics._kept_there import KeptThere
from thalweg.metrics._spectra import spectra
from thalweg.metrics._state import SPECTRAL

TOKENS = (23, 1, 4, 30)
SEVERAL = ("massive", "plain", "two massive")


@pytest.fixture
def as_on_a_device(monkeypatch):
    """From here on states are reduced as there."""

    def there(self):
        options = {name: getattr(self, name) for name in ("massive_ratio", "without_massive", "variants")}
        return KeptThere(self.tokens, torch.device("cpu"), **options)

    return lambda: monkeypatch.setattr(metrics.StatesOfBatch, "_keeper", there)


def measured(shown, **options):
    states = metrics.StatesOfBatch(torch.tensor(TOKENS), **options)
    for batch in shown:
        states.see(batch)
    return states.measured()


def batch_of(states, dtype):
    """Padded with what must not be looked at."""
    tokens, width = max(len(state) for state in states) + 2, states[0].shape[1]
    batch = torch.full((len(states), tokens, width), math.nan, dtype=dtype)
    for number, state in enumerate(states):
        batch[number, : len(state)] = torch.tensor(state)
    return batch


def compared(here, there, *, absolute):
    """``absolute``: of a share of the squared Frobenius norm, and so of an entropy."""
    assert here.columns.keys() == there.columns.keys()
    for name, wanted in here.columns.items():
        for number, (one, other) in enumerate(zip(wanted, there.columns[name], strict=True)):
            if not isinstance(one, float):
                assert other == one, (name, number)
                continue
            allowed = 1e-12
            if name in SPECTRAL or "entropy" in name or "alpha" in name:
                allowed = absolute
            if name.startswith("sigma"):
                allowed *= here.columns["frobenius_sq"][number]
            if name.startswith("dominance"):  # what it divides by is a share of the whole that may be rounding
                allowed = absolute * one**2
            if math.isinf(one) or one > 1 / absolute:
                assert other > 0.1 / absolute, (name, number)
            else:
                assert other == pytest.approx(one, rel=1e-5, abs=allowed, nan_ok=True), (name, number)
    for one, other in zip(here.massive, there.massive, strict=True):
        assert [replace(each, row_norm=0.0) for each in one] == [replace(each, row_norm=0.0) for each in other]
        assert [each.row_norm for each in one] == pytest.approx([each.row_norm for each in other], rel=1e-9)
    torch.testing.assert_close(here.row_norms, there.row_norms, rtol=1e-9, atol=0, equal_nan=True)
    assert torch.equal(here.finite, there.finite)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("width", [9, 40], ids=["over dimensions", "over tokens"])
def test_a_device_says_what_the_processor_says(state_of, kinds, as_on_a_device, width, dtype):
    options = {"massive_ratio": 4.0, "sink_position": 1, "without_massive": [True, True, False, True]}
    shown = list[torch.Tensor]()
    for seed, kind in enumerate(kinds):
        states = [state_of(kind, tokens, width, seed) for tokens in TOKENS]
        if kind == "plain":
            states[2][:] = 0
            states[0][3, 2] = math.inf
            states[3] *= 1e4
            states[3][5, 3:5] = 3e9, -3e9  # entries that are massive
        shown.append(batch_of(states, dtype))
    absolute = 2e-6 if dtype == torch.bfloat16 else 1e-7
    expected = measured(shown, **options)
    as_on_a_device()
    compared(expected, measured(shown, **options), absolute=absolute)
    assert max(value for value in expected.columns["massive_rank"] if value is not None) >= 2
    assert max(value for value in expected.columns["massive_entry_count"] if value is not None) >= 2


@pytest.mark.parametrize("width", [9, 40], ids=["over dimensions", "over tokens"])
def test_states_that_are_reduced_one_by_one_say_the_same(state_of, as_on_a_device, monkeypatch, width):
    """Where memory takes no more matrices than one state's."""
    shown = [batch_of([state_of(kind, tokens, width, 0) for tokens in TOKENS], torch.float32) for kind in SEVERAL]
    as_on_a_device()
    together = measured(shown, without_massive=[True, False, True, True])
    monkeypatch.setattr(_kept_there, "NUMBERS", (1, 1))
    reduced = list[int]()
    own = KeptThere._reduce

    def counted(self):
        reduced.append(len(self.run.vectors))
        own(self)

    monkeypatch.setattr(KeptThere, "_reduce", counted)
    apart = measured(shown, without_massive=[True, False, True, True])
    assert reduced == [1, 1, 1, 0]
    compared(together, apart, absolute=1e-9)


def test_nobody_has_to_ask_for_the_states_without_massive_rows(state_of, as_on_a_device):
    shown = [batch_of([state_of("massive", tokens, 40, 0) for tokens in TOKENS], torch.float32)]
    as_on_a_device()
    found = measured(shown, without_massive=[False] * len(TOKENS))
    assert found.columns["entropy_without_massive"] == [None] * len(TOKENS)
    assert all(value > 0 for value in found.columns["frobenius_sq"])


def test_without_a_solver_for_batches_the_processor_computes_and_that_is_said(state_of, monkeypatch):
    states = torch.stack([torch.tensor(state_of(kind, 12, 40, 0)) for kind in ("plain", "massive")])
    states[1, 9:] = 0
    grams, ranks = states @ states.mT, torch.tensor([12, 9])
    expected, _ = spectra(grams, ranks)
    monkeypatch.setattr(_spectra._cusolver, "has_solver", lambda _: False)
    with pytest.warns(UserWarning, match="batched eigenvalues"):
        assert not _spectra._solved_here.__wrapped__(torch.device("cuda"))
    monkeypatch.setattr(_spectra, "_solved_here", lambda _: False)
    found, exact = spectra(grams, ranks)
    assert bool(exact.all())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(metrics.entropy(one), metrics.entropy(other), rtol=1e-5, atol=1e-7)


def test_what_is_doubted_is_computed_again_in_float64(state_of):
    states = torch.stack([torch.tensor(state_of(kind, 30, 40, 0)) for kind in ("plain", "massive", "decaying")])
    grams, ranks = states @ states.mT, torch.tensor([30, 30, 0])
    found, exact = spectra(grams, ranks, lambda _: torch.tensor([False, True, False]))
    assert exact.tolist() == [False, True, True]
    torch.testing.assert_close(found[1], torch.linalg.eigvalsh(grams[1]).flip(0), rtol=1e-9, atol=1e-9)
    assert bool(found[2].isnan().all())


def test_more_massive_rows_than_are_kept_say_nothing(as_on_a_device, monkeypatch):
    monkeypatch.setattr("thalweg.metrics._kept_there.MOST", 4)
    state = torch.randn(len(TOKENS), 30, 9, generator=torch.Generator().manual_seed(0))
    state[0, :6] *= 1e3
    as_on_a_device()
    found = measured([state])
    assert found.columns["massive_row_count"][0] == 6
    assert found.columns["massive_rank"][0] is None
    for name in ("massive_share", "entropy_bound_massive", "entropy_without_massive"):
        assert math.isnan(found.columns[name][0]), name
    assert "more massive rows" in found.columns["reason"][0]
    assert not math.isnan(found.columns["entropy"][0])
    assert not math.isnan(found.columns["entropy_without_massive"][3])


def test_doubts_reach_the_processor(monkeypatch):
    states = torch.randn(2, 400, 420, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    states[:, 0] *= 300
    grams, ranks = states @ states.mT, torch.tensor([400, 400])
    monkeypatch.setattr(_spectra, "_solved_here", lambda _: False)
    found, exact = spectra(grams, ranks, lambda _: torch.tensor([False, True]))
    assert exact.tolist() == [False, True]
    torch.testing.assert_close(found[1], torch.linalg.eigvalsh(grams[1]).flip(0), rtol=1e-9, atol=1e-9)

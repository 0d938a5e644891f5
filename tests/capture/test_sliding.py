"""A mask that says no more than a sliding window is given by its width, and anything else as it is."""

import pytest
import torch
from transformers.masking_utils import (
    and_masks,
    causal_mask_function,
    chunked_causal_mask_function,
    packed_sequence_mask_function,
    sliding_window_causal_mask_function,
)

from families import tiny
from thalweg.capture import _interface, subject_of
from thalweg.capture._interface import _mask


def window(function, padding=None):
    mask = _mask(2, 40, 40, mask_function=function, attention_mask=padding)
    return mask if mask is None else mask.window


@pytest.mark.parametrize("width", [1, 2, 7, 512, 4096])
def test_a_sliding_window_is_known_by_its_width(width):
    assert window(sliding_window_causal_mask_function(width)) == width


def test_other_masks_have_none():
    assert window(causal_mask_function) is None
    assert window(chunked_causal_mask_function(512, torch.zeros(2, dtype=torch.long))) is None
    packed = packed_sequence_mask_function(torch.zeros(2, 40, dtype=torch.long))
    assert window(and_masks(sliding_window_causal_mask_function(7), packed)) is None
    assert (
        window(and_masks(sliding_window_causal_mask_function(7), lambda _, __, row, key: (row - key) % 2 == 0)) is None
    )
    assert window(lambda _, __, row, key: row - key < 3) is None  # sees what comes later
    pads = torch.ones(2, 40, dtype=torch.bool)
    pads[1, 30:] = False
    assert window(sliding_window_causal_mask_function(7), pads) is None


@pytest.mark.parametrize("family", ["mistral", "gemma3_text", "gpt_oss"])
def test_windows_reach_attention_as_numbers(monkeypatch, family):
    windows, own = set[int | None](), _interface.streamed_attention

    def streamed(*tensors, window=None, mask=None, **options):
        assert mask is None
        windows.add(window)
        return own(*tensors, window=window, **options)

    model = tiny(family)
    monkeypatch.setattr(_interface, "streamed_attention", streamed)
    subject_of(model)
    assert model.config.get_text_config().sliding_window in windows

"""How far each block sees is read off the mask that its attention is given, however short the prompt."""

import pytest
import torch
from tests.families import BLOCKS, FAMILIES, HYBRIDS, tiny, window_of
from transformers.masking_utils import chunked_causal_mask_function

from thalweg.capture import subject_of
from thalweg.capture._interface import _mask
from thalweg.capture._interface import window_of as of_mask

OWN = ("falcon", "bloom", "mpt", "gptj", "codegen")
"""Not seen through the interface, and without windows."""


@pytest.mark.parametrize("family", [*FAMILIES, *HYBRIDS])
def test_windows_are_those_of_the_configuration(family):
    model = tiny(family)
    for block in subject_of(model).parts.blocks:
        seeing = block.projection is not None and family not in OWN
        assert block.window == (window_of(family, model, block.index) if seeing else None)
    assert len(subject_of(model).parts.blocks) == BLOCKS


@pytest.mark.parametrize("size", [8, 1024, 8192])
def test_a_chunk_is_as_wide_as_it_is(size):
    chunks = chunked_causal_mask_function(size, torch.tensor([0]))
    assert of_mask(_mask(1, 4, 4, mask_function=chunks)) == size


def test_a_mask_that_is_a_tensor_says_nothing():
    assert of_mask(torch.ones(1, 1, 4, 4, dtype=torch.bool)) is None
    assert of_mask(None) is None

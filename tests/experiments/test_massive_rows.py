"""Where float32 loses small eigenvalues beside a massive row: T > d and norm ratios up to 1e4 and beyond."""

import numpy as np
import pytest
import torch

from oracle import Recording, layer_row, records
from thalweg.capture import subject_of
from thalweg.experiments._survey.batch import MeasureOptions, measure_batch
from thalweg.prompts import Prompt
from thalweg.reference import Plant, planted_llama


@pytest.mark.parametrize("length", [20, 63, 64, 65, 200])
@pytest.mark.parametrize("value", [1.5e3, 8e4, 1e6])
def test_entropy_and_bounds_beside_a_massive_row_are_the_naive_ones(length, value):
    model = planted_llama(Plant(1, 4, {7: value, 40: -value / 2}, (0, 1)), blocks=6, seed=3)
    tokens = [256, *torch.randint(0, 256, (length - 1,), generator=torch.Generator().manual_seed(length)).tolist()]
    recording = Recording(model, torch.tensor(tokens))
    measured = measure_batch(subject_of(model), [Prompt(0, tuple(tokens), "", "", truncated=False)], MeasureOptions())
    for row, state in zip(records(measured.layers), recording.states, strict=True):
        expected = layer_row(state)
        assert not row["bound_violated"]
        for name in ("entropy", "entropy_normalized", "entropy_bound", "entropy_bound_weak"):
            # 1e-5 relative or 1e-7 absolute: the accuracy that the project promises for float32 models
            np.testing.assert_allclose(
                row[name], expected[name], rtol=1e-5, atol=1e-7, err_msg=f"{row['state']} {name}"
            )
        for name in ("sigma1_sq", "sigma2_sq", "sigma3_sq", "frobenius_sq", "dominance", "norm_ratio", "c"):
            np.testing.assert_allclose(row[name], expected[name], rtol=1e-4, err_msg=f"{row['state']} {name}")

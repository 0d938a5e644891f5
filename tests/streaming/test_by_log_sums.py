"""Both implementations against log-sum-exps of FlexAttention in float64.

The oracle rounds at 1e-16; what is compared computes in float32, where logits of size up to about 20 carry 2e-6, so
weights are off by that much of themselves: 1e-5 of a vector's largest value, or of 1, leaves room for sums, as it does
for outputs and log-sum-exps.
"""

import pytest
import torch
from by_log_sums import flexed
from naive import random_heads

from thalweg.streaming import LogitRule, streamed_attention

TOKENS, LENGTHS = 130, torch.tensor([130, 101])
VECTORS = ("column_mass", "row_entropy", "diagonal", "previous", "row_sum")
SINKS = torch.tensor([-3.0, 0.0, 4.0, 30.0])
ALIBI = torch.tensor([0.5, 0.25, 0.125, 0.0625])[None, :, None, None] * torch.arange(TOKENS)
CALLS = {
    "causal": (LogitRule(), None),
    "window": (LogitRule(), 24),
    "window of one": (LogitRule(), 1),
    "soft-cap": (LogitRule(softcap=5.0), None),
    "sink logits": (LogitRule(sink_logits=SINKS), None),
    "ALiBi": (LogitRule(bias=ALIBI), None),
    "everything": (LogitRule(0.4, 3.0, ALIBI, SINKS), 40),
}


def kernels(*tensors, rule, window, lengths):
    pytest.importorskip("triton", reason="triton is not installed")
    from thalweg.streaming._triton import kernel_attention

    return kernel_attention(*tensors, rule=rule, window=window, lengths=lengths)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's, at rows behind the last one
@pytest.mark.parametrize(("rule", "window"), CALLS.values(), ids=CALLS)
def test_every_vector_is_a_log_sum_exp(rule, window):
    call = {"rule": rule, "window": window, "lengths": LENGTHS}
    inputs = random_heads(tokens=TOKENS, groups=2, size=1.5)
    expected = flexed(*inputs, **call)
    for implementation in (streamed_attention, kernels):
        found = implementation(*inputs, **call)
        assert torch.equal(found.statistics.visible, expected.statistics.visible)
        pairs = {name: (getattr(found.statistics, name), getattr(expected.statistics, name)) for name in VECTORS}
        pairs |= {name: (getattr(found, name), getattr(expected, name)) for name in ("output", "log_sum_exp")}
        for name, (mine, theirs) in pairs.items():
            for prompt, length in enumerate(LENGTHS):
                own, other = mine[prompt, :, :length].double(), theirs[prompt, :, :length]
                atol = 1e-5 * max(1.0, float(other.nan_to_num().abs().max()))
                torch.testing.assert_close(
                    own, other, atol=atol, rtol=0, equal_nan=True, msg=lambda said, name=name: f"{name}: {said}"
                )

"""The norm of what each head writes at each token, by a kernel that keeps nothing of the product.

Conventions: outputs are (batch, head, token, breadth), float32 or half precision, any strides but the last; factors are
those of `write_factors`. Factors of bfloat16 outputs are split into three numbers of bfloat16, whose products are exact
and leave 24 bits; others are multiplied as float32, never as TF32. Sums are float32.
"""

# triton carries no types for what it compiles.
# pyright: basic, reportMissingImports=false, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from thalweg.shapes import Float

TOKENS, RANKS = 128, 64


@triton.jit
@no_type_check
def _norms(
    OUT, FACTORS, NORMS, ob, oh, ot, H, T, R,
    E: tl.constexpr, EP: tl.constexpr, SPLIT: tl.constexpr, TOKENS: tl.constexpr, RANKS: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(1).to(tl.int64)
    b, h = place // H, place % H
    token, e = (tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)).to(tl.int64), tl.arange(0, EP)
    there = (token < T)[:, None] & (e < E)[None, :]
    z = tl.load(OUT + b * ob + h * oh + token[:, None] * ot + e[None, :], mask=there, other=0.0)
    squares = tl.zeros([TOKENS], tl.float32)
    for start in range(0, R, RANKS):
        rank = start + tl.arange(0, RANKS)
        known = (e < E)[:, None] & (rank < R)[None, :]
        factor = tl.load(FACTORS + (h * R + rank[None, :]) * E + e[:, None], mask=known, other=0.0)
        if SPLIT:
            high = factor.to(tl.bfloat16)
            rest = factor - high.to(tl.float32)
            middle = rest.to(tl.bfloat16)
            low = (rest - middle.to(tl.float32)).to(tl.bfloat16)
            written = tl.dot(z, high) + tl.dot(z, middle) + tl.dot(z, low)
        else:
            written = tl.dot(z.to(tl.float32), factor, input_precision="ieee")
        squares += tl.sum(written * written, 1)
    tl.store(NORMS + place * T + token, tl.sqrt(squares), mask=token < T)


def written_norms(
    outputs: Float[Tensor, "batch head token breadth"], factors: Float[Tensor, "head rank breadth"], /
) -> Float[Tensor, "batch head token"]:
    """|R_h z|, float32."""
    outputs = outputs if outputs.stride(-1) == 1 else outputs.contiguous()
    batch, heads, tokens, breadth = outputs.shape
    norms = torch.empty(batch, heads, tokens, dtype=torch.float32, device=outputs.device)
    padded = max(16, triton.next_power_of_2(breadth))
    _norms[(triton.cdiv(tokens, TOKENS), batch * heads)](
        outputs, factors.float().contiguous(), norms, *outputs.stride()[:3], heads, tokens, factors.shape[1],
        E=breadth, EP=padded, SPLIT=outputs.dtype == torch.bfloat16, TOKENS=TOKENS, RANKS=RANKS, num_warps=8,
    )  # fmt: skip
    return norms

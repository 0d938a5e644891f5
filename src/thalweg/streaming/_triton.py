"""The same on a CUDA device: two kernels, neither of which holds a row of the map.

`_forward` goes over the keys of a block of rows with a running maximum m (Dao et al. 2022) and keeps, beside the
output, z = sum_k 2^(S_tk - m) and w = sum_k 2^(S_tk - m) (S_tk - m), so that h_t = ln z - (w / z) ln 2. When m grows by
e, what is kept shrinks by 2^-e and w becomes 2^-e (w - e z). `_columns` goes over the rows of a block of keys
and adds up A_tk = s_t 2^(S_tk - L_t), with L_t = m + log2 z of the first. Logits S are in base 2; blocks below the
diagonal need no mask, and the heaviest blocks start first.

Products of bfloat16 and float16 are exact in float32, in which everything is summed; float32 is multiplied as such,
never as TF32.
"""

# triton carries no types for what it compiles.
# pyright: basic, reportMissingImports=false, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false

from dataclasses import dataclass
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from thalweg.streaming._blockwise import LN_2, LOG2_E, AttentionResult, LogitRule
from thalweg.streaming._statistics import AttentionStatistics

LONG = 2048


@dataclass(frozen=True)
class Blocks:
    """Rows and keys of a block, and how a block is run."""

    rows: int
    keys: int
    warps: int
    stages: int


FORWARD, FORWARD_LONG = Blocks(64, 64, 4, 3), Blocks(128, 64, 8, 3)
COLUMNS, COLUMNS_LONG = Blocks(32, 128, 4, 4), Blocks(64, 128, 8, 3)
"""What was fastest on an H200, up to 2,048 tokens and above."""
WIDE = {512: (Blocks(32, 32, 4, 1), Blocks(32, 32, 4, 1)), 256: (Blocks(64, 32, 4, 2), Blocks(32, 64, 4, 2))}
"""By the bytes of a row from which they are taken: what fits the shared memory of older cards too."""


@triton.jit
@no_type_check
def _logits(q, k, bias, scale, CAP: tl.constexpr):
    s = tl.dot(q, k, input_precision="ieee") * scale
    if CAP > 0:  # the scale is 2 / cap: tanh x = 1 - 2 / (exp 2x + 1)
        s = CAP * 1.4426950408889634 * (1.0 - 2.0 / (tl.exp(s) + 1.0))
    return s + bias


@triton.jit
@no_type_check
def _own_logit(q, K, at, ok, stride, d, bias, scale, D: tl.constexpr, CAP: tl.constexpr):
    """Of each row with a key of its own."""
    k = tl.load(K + at[:, None] * stride + d[None, :], mask=ok[:, None] & (d[None, :] < D), other=0.0)
    s = tl.sum(q.to(tl.float32) * k.to(tl.float32), 1) * scale
    if CAP > 0:
        s = CAP * 1.4426950408889634 * (1.0 - 2.0 / (tl.exp(s) + 1.0))
    return s + bias


@triton.jit
@no_type_check
def _seen(row, col, T, WINDOW: tl.constexpr):
    see = (col[None, :] <= row[:, None]) & (col[None, :] < T)
    if WINDOW > 0:
        see = see & (row[:, None] - col[None, :] < WINDOW)
    return see


@triton.jit
@no_type_check
def _bias(BIAS, col, T, HAS_BIAS: tl.constexpr):
    """Of each key, in base 2."""
    if HAS_BIAS:
        return tl.load(BIAS + col, mask=(col >= 0) & (col < T), other=0.0) * 1.4426950408889634
    return tl.zeros_like(col).to(tl.float32)


@triton.jit
@no_type_check
def _step(q, k, v, bias, see, m, z, w, out, scale, CAP: tl.constexpr, MASKED: tl.constexpr):
    s = _logits(q, k, bias[None, :], scale, CAP)
    if MASKED:
        s = tl.where(see, s, -1e30)
    new = tl.maximum(m, tl.max(s, 1))
    gap = s - new[:, None]
    p = tl.exp2(gap)
    if MASKED:
        p = tl.where(see, p, 0.0)
        gap = tl.where(see, gap, 0.0)
    fade = tl.exp2(m - new)
    w = fade * (w + (m - new) * z) + tl.sum(p * gap, 1)
    z = fade * z + tl.sum(p, 1)
    out = out * fade[:, None] + tl.dot(p.to(v.dtype), v, input_precision="ieee")
    return new, z, w, out


@triton.jit
@no_type_check
def _forward(
    Q, K, V, BIAS, SINK, OUT, LSE, ENTROPY, SUM, DIAGONAL, PREVIOUS,
    qb, qh, qt, kb, kh, kt, vb, vh, vt, bb, bh_, scale, H, T,
    SHARED: tl.constexpr, D: tl.constexpr, E: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr,
    WINDOW: tl.constexpr, CAP: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_SINK: tl.constexpr,
    FAR: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    if FAR:
        qt, kt, vt = tl.cast(qt, tl.int64), tl.cast(kt, tl.int64), tl.cast(vt, tl.int64)
    block = tl.num_programs(0) - 1 - tl.program_id(0)
    place = tl.program_id(1).to(tl.int64)
    b, h = place // H, place % H
    Q, K, V = Q + b * qb + h * qh, K + b * kb + h // SHARED * kh, V + b * vb + h // SHARED * vh
    BIAS = BIAS + b * bb + h * bh_
    row, d, e, c = block * M + tl.arange(0, M), tl.arange(0, DP), tl.arange(0, EP), tl.arange(0, N)
    ok = row < T
    q = tl.load(Q + row[:, None] * qt + d[None, :], mask=ok[:, None] & (d[None, :] < D), other=0.0)
    m, z, w = tl.full([M], -1e30, tl.float32), tl.zeros([M], tl.float32), tl.zeros([M], tl.float32)
    out = tl.zeros([M, EP], tl.float32)
    first, masked = 0, block * M // N * N  # from here on rows see some of the keys
    if WINDOW > 0:
        first = tl.maximum(0, (block * M - WINDOW + 1) // N * N)
        masked = first
    for start in range(first, masked, N):
        col = start + c
        k = tl.load(K + col[None, :] * kt + d[:, None], mask=d[:, None] < D, other=0.0)
        v = tl.load(V + col[:, None] * vt + e[None, :], mask=e[None, :] < E, other=0.0)
        m, z, w, out = _step(q, k, v, _bias(BIAS, col, T, HAS_BIAS), ok[:, None], m, z, w, out, scale, CAP, False)
    for start in range(masked, tl.minimum((block + 1) * M, T), N):
        col = start + c
        k = tl.load(K + col[None, :] * kt + d[:, None], mask=(col[None, :] < T) & (d[:, None] < D), other=0.0)
        v = tl.load(V + col[:, None] * vt + e[None, :], mask=(col[:, None] < T) & (e[None, :] < E), other=0.0)
        see = _seen(row, col, T, WINDOW)
        m, z, w, out = _step(q, k, v, _bias(BIAS, col, T, HAS_BIAS), see, m, z, w, out, scale, CAP, True)
    total = z
    if HAS_SINK:
        total = z + tl.exp2(tl.load(SINK + h) * 1.4426950408889634 - m)
    lse = m + tl.log2(z)
    at, before = place * T + row, row - 1
    diagonal = _own_logit(q, K, row, ok, kt, d, _bias(BIAS, row, T, HAS_BIAS), scale, D, CAP)
    previous = _own_logit(q, K, before, ok & (row > 0), kt, d, _bias(BIAS, before, T, HAS_BIAS), scale, D, CAP)
    previous = tl.exp2(previous - lse) * (z / total)
    if WINDOW == 1:
        previous = tl.zeros_like(previous)
    mixed = (out / total[:, None]).to(OUT.dtype.element_ty)
    tl.store(OUT + at[:, None] * E + e[None, :], mixed, mask=ok[:, None] & (e[None, :] < E))
    tl.store(LSE + at, lse, mask=ok)
    tl.store(ENTROPY + at, (tl.log2(z) - w / z) * 0.6931471805599453, mask=ok)
    tl.store(SUM + at, z / total, mask=ok)
    tl.store(DIAGONAL + at, tl.exp2(diagonal - lse) * (z / total), mask=ok)
    tl.store(PREVIOUS + at, tl.where(row > 0, previous, float("nan")), mask=ok)


@triton.jit
@no_type_check
def _columns(
    Q, K, BIAS, LSE, SUM, LENGTHS, MASS,
    qb, qh, qt, kb, kh, kt, bb, bh_, scale, H, T,
    SHARED: tl.constexpr, D: tl.constexpr, DP: tl.constexpr,
    WINDOW: tl.constexpr, CAP: tl.constexpr, HAS_BIAS: tl.constexpr,
    FAR: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    if FAR:
        qt, kt = tl.cast(qt, tl.int64), tl.cast(kt, tl.int64)
    block, place = tl.program_id(0), tl.program_id(1).to(tl.int64)
    b, h = place // H, place % H
    Q, K, BIAS = Q + b * qb + h * qh, K + b * kb + h // SHARED * kh, BIAS + b * bb + h * bh_
    length = tl.load(LENGTHS + b).to(tl.int32)
    col, d, r = block * N + tl.arange(0, N), tl.arange(0, DP), tl.arange(0, M)
    k = tl.load(K + col[None, :] * kt + d[:, None], mask=(col[None, :] < T) & (d[:, None] < D), other=0.0)
    bias = _bias(BIAS, col, T, HAS_BIAS)[None, :]
    mass = tl.zeros([N], tl.float32)
    last = length
    if WINDOW > 0:
        last = tl.minimum(length, (block + 1) * N + WINDOW - 1)
    for start in range(block * N // M * M, last, M):
        row = start + r
        real = row < length
        q = tl.load(Q + row[:, None] * qt + d[None, :], mask=real[:, None] & (d[None, :] < D), other=0.0)
        lse = tl.load(LSE + place * T + row, mask=real, other=0.0)
        share = tl.load(SUM + place * T + row, mask=real, other=0.0)
        s = _logits(q, k, bias, scale, CAP) - lse[:, None]
        see = _seen(row, col, T, WINDOW) & real[:, None]
        mass += tl.sum(tl.where(see, tl.exp2(tl.minimum(s, 0.0)) * share[:, None], 0.0), 0)
    tl.store(MASS + place * T + col, mass, mask=col < T)


def kernel_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    rule: LogitRule,
    window: int | None,
    lengths: Tensor,
    forward: Blocks | None = None,
    columns: Blocks | None = None,
) -> AttentionResult:
    """What `streamed_attention` returns, of a call whose mask is causality and a window.

    Args:
        query: as there, float32 or half precision, as the others are.
        key: as there.
        value: as there.
        rule: as there; a bias has one row, so that it belongs to the keys (ALiBi up to a constant of each row).
        window: as there.
        lengths: as there.
        forward: blocks of the first kernel, by default what is fast.
        columns: of the second.
    """
    query, key, value = (each if each.stride(-1) == 1 else each.contiguous() for each in (query, key, value))
    batch, heads, tokens, depth = query.shape
    breadth, shared = value.shape[-1], heads // key.shape[1]
    scaling = depth**-0.5 if rule.scaling is None else rule.scaling
    cap = 0.0 if rule.softcap is None else float(rule.softcap)
    scale = scaling * (2 / cap if cap else LOG2_E)
    nothing = query.new_zeros(1, dtype=torch.float32)
    bias = nothing.expand(1, 1, 1) if rule.bias is None else rule.bias[:, :, 0].float().contiguous()
    of_bias = [bias.stride(axis) if bias.shape[axis] > 1 else 0 for axis in (0, 1)]
    out = query.new_empty(batch, heads, tokens, breadth, dtype=value.dtype)
    vectors = query.new_empty(6, batch, heads, tokens, dtype=torch.float32)
    log_sum, entropy, total, diagonal, previous, mass = vectors
    usual = (FORWARD, COLUMNS) if tokens <= LONG else (FORWARD_LONG, COLUMNS_LONG)
    row_bytes = max(depth, breadth) * query.dtype.itemsize
    first, second = next((wide for least, wide in WIDE.items() if row_bytes > least), usual)
    first, second = forward or first, columns or second
    last = max(each.stride(2) for each in (query, key, value)) * tokens
    padded = {"D": depth, "DP": max(16, triton.next_power_of_2(depth))}
    how: dict[str, Any] = {
        "FAR": last >= 2**31,
        "SHARED": shared,
        "WINDOW": window or 0,
        "CAP": cap,
        "HAS_BIAS": rule.bias is not None,
    }
    sink = nothing if rule.sink_logits is None else rule.sink_logits.float()
    _forward[(triton.cdiv(tokens, first.rows), batch * heads)](
        query, key, value, bias, sink, out, log_sum, entropy, total, diagonal, previous,
        *query.stride()[:3], *key.stride()[:3], *value.stride()[:3], *of_bias, scale, heads, tokens,
        **padded, E=breadth, EP=max(16, triton.next_power_of_2(breadth)), HAS_SINK=rule.sink_logits is not None,
        **how, M=first.rows, N=first.keys, num_warps=first.warps, num_stages=first.stages,
    )  # fmt: skip
    _columns[(triton.cdiv(tokens, second.keys), batch * heads)](
        query, key, bias, log_sum, total, lengths, mass,
        *query.stride()[:3], *key.stride()[:3], *of_bias, scale, heads, tokens,
        **padded, **how, M=second.rows, N=second.keys, num_warps=second.warps, num_stages=second.stages,
    )  # fmt: skip
    seen = torch.arange(1, tokens + 1, device=query.device).clamp_max(window or tokens).expand(batch, tokens)
    statistics = AttentionStatistics(mass, entropy, diagonal, previous, total, seen)
    return AttentionResult(out, statistics, log_sum * LN_2)

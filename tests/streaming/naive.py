"""Softmax attention the obvious way: the whole map, in float64, one row at a time."""

import math

import numpy as np
import torch
from torch import Tensor


def naive_map(
    query: Tensor,
    key: Tensor,
    *,
    scaling: float | None = None,
    seen: np.ndarray | None = None,
    added: np.ndarray | None = None,
    softcap: float | None = None,
    sink_logits: Tensor | None = None,
) -> np.ndarray:
    """A, ``batch head query key``; ``seen`` limits the causal triangle further."""
    batch, heads, tokens, depth = query.shape
    shared = heads // key.shape[1]
    q, k = query.double().numpy(), key.double().numpy()
    scale = 1 / math.sqrt(depth) if scaling is None else scaling
    found = np.zeros((batch, heads, tokens, tokens))
    for b in range(batch):
        for h in range(heads):
            for t in range(tokens):
                logits = scale * (k[b, h // shared] @ q[b, h, t])
                if softcap is not None:
                    logits = softcap * np.tanh(logits / softcap)
                if added is not None:
                    logits = logits + np.broadcast_to(added, found.shape)[b, h, t]
                visible = np.arange(tokens) <= t
                if seen is not None:
                    visible &= np.broadcast_to(seen, found.shape)[b, h, t]
                if not visible.any():
                    continue
                highest = logits[visible].max()
                weights = np.where(visible, np.exp(np.minimum(logits - highest, 0)), 0.0)
                extra = 0.0 if sink_logits is None else math.exp(float(sink_logits[h].double()) - highest)
                found[b, h, t] = weights / (weights.sum() + extra)
    return found


def naive_vectors(attention: np.ndarray, lengths: list[int]) -> dict[str, np.ndarray]:
    """The five vectors from a map, by their definitions."""
    batch, heads, tokens, _ = attention.shape
    out = {
        name: np.full((batch, heads, tokens), np.nan)
        for name in ("column_mass", "row_entropy", "diagonal", "previous", "row_sum")
    }
    for b in range(batch):
        for h in range(heads):
            a = attention[b, h]
            out["column_mass"][b, h] = a[: lengths[b]].sum(0)
            for t in range(tokens):
                total = a[t].sum()
                p = a[t] / total if total else np.full(tokens, np.nan)
                p = p[p > 0] if total else p
                out["row_entropy"][b, h, t] = -(p * np.log(p)).sum()
                out["row_sum"][b, h, t] = total
                out["diagonal"][b, h, t] = a[t, t]
                if t:
                    out["previous"][b, h, t] = a[t, t - 1]
    return out


def random_heads(
    *,
    batch: int = 2,
    heads: int = 4,
    groups: int = 2,
    tokens: int = 37,
    depth: int = 8,
    breadth: int = 6,
    seed: int = 0,
    size: float = 2.0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return (torch.randn(*shape, generator=generator) * size).to(dtype)

    return draw(batch, heads, tokens, depth), draw(batch, groups, tokens, depth), draw(batch, groups, tokens, breadth)

"""Every number of the tables the obvious way: eager attention, whole maps, float64 singular values, loops.

Nothing of thalweg is used here. States are Hugging Face's hidden states and, for the last one, what enters the final
norm; keys and values are what the model's own eager attention is called with.
"""

import math
import sys
from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
import torch
from scipy.special import entr

FINAL_NORM = {
    "gpt2": "transformer.ln_f",
    "gpt_neox": "gpt_neox.final_layer_norm",
    "gptj": "transformer.ln_f",
    "opt": "model.decoder.final_layer_norm",
    "bloom": "transformer.ln_f",
    "falcon": "transformer.ln_f",
    "mpt": "transformer.norm_f",
    "phi": "model.final_layernorm",
    "lfm2": "model.embedding_norm",
    "recurrent_gemma": "model.final_norm",
    "jamba": "model.final_layernorm",
    "codegen": "transformer.ln_f",
}
PROJECTION = {
    "gpt2": "c_proj",
    "gpt_neox": "dense",
    "gptj": "out_proj",
    "opt": "out_proj",
    "bloom": "dense",
    "falcon": "dense",
    "mpt": "out_proj",
    "phi": "dense",
    "lfm2": "out_proj",
    "codegen": "out_proj",
}


class Recording:
    """One prompt through the model's own eager attention."""

    def __init__(self, model, tokens):
        self.family = model.config.model_type
        self.keys, self.values, self.outputs, self.weights = [], [], [], []
        end = []
        with ExitStack() as stack:
            norm = model.get_submodule(FINAL_NORM.get(self.family, "model.norm"))
            stack.callback(norm.register_forward_pre_hook(lambda _, args: end.append(args[0])).remove)
            for name, module in model.named_modules():
                owner, _, own = name.rpartition(".")
                if own == PROJECTION.get(self.family, "o_proj") and (
                    "attn" in owner or "attention" in owner or "temporal" in owner
                ):
                    stack.callback(module.register_forward_pre_hook(self.project).remove)
            self.listen(model, stack)
            before = model.config._attn_implementation
            # not set_attn_implementation: Falcon ignores it, and with "sdpa" adds a boolean mask to its logits
            model.config._attn_implementation = "eager"
            try:
                with torch.no_grad():
                    found = model(tokens[None], output_hidden_states=True, output_attentions=True, use_cache=False)
            finally:
                model.config._attn_implementation = before
        self.states = [state[0].double().numpy() for state in (*found.hidden_states[:-1], end[0])]
        self.maps = [one[0].double().numpy() for one in found.attentions if one is not None and one.ndim == 4]

    def project(self, module, args):
        matrix = module.weight.T if type(module).__name__ == "Conv1D" else module.weight
        self.weights.append(matrix.detach().double().numpy())
        self.outputs.append(args[0][0].double().numpy())

    def keep(self, key, value):
        self.keys.append(key[0].detach().double().numpy())
        self.values.append(value[0].detach().double().numpy())

    def listen(self, model, stack):
        """Hear keys and values, heads first, where the model's own code has them."""
        source = sys.modules[type(model).__module__]
        if self.family in ("gptj", "codegen"):
            kind = next(type(m) for m in model.modules() if hasattr(m, "_attn"))
            own = kind._attn
            stack.enter_context(
                patch.object(kind, "_attn", lambda s, q, k, v, m=None: (self.keep(k, v), own(s, q, k, v, m))[1])
            )
        elif self.family == "bloom":
            kind = next(type(m) for m in model.modules() if hasattr(m, "_reshape"))
            reshape = kind._reshape

            def split(s, fused):
                query, key, value = reshape(s, fused)
                self.keep(key, value)
                return query, key, value

            stack.enter_context(patch.object(kind, "_reshape", split))
        elif self.family == "falcon":  # a rotation changes no norm
            kind = next(type(m) for m in model.modules() if hasattr(m, "_split_heads"))
            apart = kind._split_heads

            def split(s, fused):
                query, key, value = apart(s, fused)
                self.keep(key.transpose(1, 2), value.transpose(1, 2))
                return query, key, value

            stack.enter_context(patch.object(kind, "_split_heads", split))
        elif self.family == "mpt":
            for name, module in model.named_modules():
                if name.endswith("Wqkv"):
                    heads = model.config.n_heads

                    def hook(_, __, output, heads=heads):
                        _, key, value = output.chunk(3, dim=-1)
                        self.keep(*(one.unflatten(-1, (heads, -1)).transpose(1, 2) for one in (key, value)))

                    stack.callback(module.register_forward_hook(hook).remove)
        else:
            eager = source.eager_attention_forward

            def attend(module, query, key, value, *args, **kwargs):
                self.keep(key, value)
                return eager(module, query, key, value, *args, **kwargs)

            stack.enter_context(patch.object(source, "eager_attention_forward", attend))


def _xlogx(p):
    return 0.0 if p <= 0 else p * math.log(p)


def layer_row(x, s=0):
    """Columns of one state, x: T x d in float64."""
    tokens, width = x.shape
    rank = min(tokens, width)
    sigma_sq = np.linalg.svd(x, compute_uv=False) ** 2
    total = sigma_sq.sum()
    p = sigma_sq / total
    entropy = entr(p).sum()
    norms = np.linalg.norm(x, axis=1)
    rest = np.delete(norms, s)
    m, r = norms[s] ** 2, (rest**2).sum()
    peak = np.unravel_index(np.abs(x).argmax(), x.shape)
    row = {
        "entropy": entropy,
        "entropy_normalized": entropy / math.log(rank) if rank > 1 else math.nan,
        "anisotropy": p[0],
        "effective_rank": math.exp(entropy),
        "sigma1_sq": sigma_sq[0],
        "sigma2_sq": sigma_sq[1] if rank > 1 else math.nan,
        "sigma3_sq": sigma_sq[2] if rank > 2 else math.nan,
        "frobenius_sq": total,
        "sink_norm": norms[s],
        "rest_norm": rest.mean() if tokens > 1 else math.nan,
        "norm_ratio": norms[s] / rest.mean() if tokens > 1 else math.nan,
        "row_ratio": norms.max() / np.median(norms),
        "peak_value": x[peak],
        "median_abs": np.median(np.abs(x)),
        "M": m,
        "R": r,
    }
    if tokens == 1:
        return row
    cosines = np.array([x[i] @ x[s] / (norms[i] * norms[s]) for i in range(tokens) if i != s])
    alpha = (rest**2 * cosines**2).sum() / r
    c = m / r
    tail = sigma_sq[1:].sum()
    p1 = (c + alpha) / (c + 1)
    weak = c / (c + 1)

    def ceiling(share):
        return -_xlogx(share) - _xlogx(1 - share) + ((1 - share) * math.log(rank - 1) if rank > 1 else 0.0)

    return row | {
        "alpha": alpha,
        "c": c,
        "dominance": sigma_sq[0] / tail if tail else math.inf,
        "sigma1_sq_bound": m + alpha * r,
        "sigma1_sq_bound_weak": m,
        "anisotropy_bound": p1,
        "anisotropy_bound_weak": weak,
        "dominance_bound": (c + alpha) / (1 - alpha),
        "dominance_bound_weak": c,
        "entropy_bound": ceiling(p1),
        "entropy_bound_weak": ceiling(weak) if weak >= 1 / rank else math.log(rank),
    }


def head_row(a, key, value, z, w, s=0, window=None):
    """Columns of one head, from its map T x T, keys, values, outputs T x breadth and its slice of the projection."""
    tokens = len(a)
    mass, sums = a.sum(0), a.sum(1)
    entropy = [entr(row / total).sum() for row, total in zip(a, sums, strict=True)]
    seen = [min(t + 1, window or t + 1) for t in range(tokens)]
    shares = mass / mass.sum()
    b, d = mass[s] / tokens, np.trace(a) / tokens
    choices = [h / math.log(n) for h, n in zip(entropy, seen, strict=True) if n >= 2]
    norms = {name: np.linalg.norm(one, axis=1) for name, one in (("key", key), ("value", value))}
    row = {
        "sink_score": b,
        "top_score": mass.max() / tokens,
        "mixing": float(np.mean(entropy)),
        "mixing_normalized": float(np.mean(choices)) if choices else math.nan,
        "mixing_over_log_length": float(np.mean(entropy)) / math.log(tokens) if tokens > 1 else math.nan,
        "colsum_concentration": 1 - entr(shares).sum() / math.log(tokens) if tokens > 1 else math.nan,
        "diagonal": d,
        "previous": float(np.mean(np.diagonal(a, -1))) if tokens > 1 else math.nan,
        "svi": b / (b + d),
        "attended": sums.mean(),
        "head_write_norm": np.linalg.norm(z @ w.T, axis=1).mean(),
    }
    for name, one in norms.items():
        row[f"sink_{name}_norm"] = one[s]
        row[f"rest_{name}_norm"] = np.delete(one, s).mean() if tokens > 1 else math.nan
    if tokens > 1:
        c0 = shares[s]
        spread = _xlogx(1 - c0) - (1 - c0) * math.log(tokens - 1)
        row["colsum_floor"] = 1 + (_xlogx(c0) + spread) / math.log(tokens)
    return row


def records(columns):
    """The rows of a table given by columns."""
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

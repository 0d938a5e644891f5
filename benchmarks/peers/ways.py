"""How each library comes to the same numbers: the sink score of every head and the entropy of every state.

The sink score of a head is what its queries give to token 0 on average; the entropy of a state is -sum p ln p of its
squared singular values as shares. Both are means over prompts. A way gets the model that transformers
loaded from a directory, in the environment of its library.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

Numbers = tuple[Tensor, Tensor]
"""Sink scores (block, head), and entropies (state)."""
Way = Callable[[Sequence[str], Sequence[Sequence[int]]], Numbers]
"""From texts, or their tokens, to numbers."""


@torch.no_grad()
def plain(model: Any, batches: Sequence[Tensor]) -> None:
    """A forward pass through the body as the model runs it."""
    for tokens in batches:
        model.base_model(input_ids=tokens, use_cache=False)


@contextmanager
def attending_eagerly(model: Any) -> Iterator[None]:
    """With attention that gives its maps."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@torch.no_grad()
def eager(model: Any, prompts: Sequence[Sequence[int]]) -> Numbers:
    """Transformers alone: every map and every state of a prompt is kept; the last state is behind the final norm."""
    found = []
    with attending_eagerly(model):
        for tokens in prompts:
            kept = {"use_cache": False, "output_attentions": True, "output_hidden_states": True}
            one = model.base_model(input_ids=torch.tensor([tokens]), **kept)
            found.append((list(map(_sink_scores, one.attentions)), list(map(_entropy, one.hidden_states))))
    return _means(found)


def _sink_scores(maps: Tensor) -> Tensor:
    return maps[0, :, :, 0].mean(-1)


def _entropy(state: Tensor) -> Tensor:
    squared = torch.linalg.svdvals(state[0]).double().square()
    return torch.special.entr(squared / squared.sum()).sum()


def _means(found: Sequence[tuple[list[Tensor], list[Tensor]]]) -> Numbers:
    sinks, entropies = zip(*found, strict=True)
    sink_scores = torch.stack([torch.stack(one) for one in sinks])
    return sink_scores.double().mean(0), torch.stack([torch.stack(one) for one in entropies]).mean(0)


def by_eager(model: Any) -> Way:
    """Transformers, eager attention."""
    return lambda _, prompts: eager(model, prompts)


def by_thalweg(model: Any) -> Way:
    """A survey end to end, tables and files included."""
    import polars as pl

    import thalweg

    tokenizer = AutoTokenizer.from_pretrained(model.name_or_path)

    def numbers(texts: Sequence[str], _: object) -> Numbers:
        with tempfile.TemporaryDirectory() as out:
            run = thalweg.survey(model, list(texts), tokenizer=tokenizer, out=Path(out) / "run", progress=False)
            heads, layers = run.heads.collect(), run.layers.collect()
        blocks, size = heads["block"].n_unique(), heads["head"].n_unique()
        sinks = heads.sort("block", "head")["sink_score"].cast(pl.Float64).to_torch().reshape(blocks, size, -1)
        entropies = layers.sort("state")["entropy"].to_torch().reshape(blocks + 1, -1)
        return sinks.mean(-1), entropies.mean(-1)

    return numbers


def by_transformer_lens(model: Any) -> Way:
    """Its bridge, ``run_with_cache`` of what is needed."""
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(model.name_or_path, device="cpu", dtype=torch.float32)
    blocks = range(bridge.cfg.n_layers)
    maps = [f"blocks.{block}.attn.hook_pattern" for block in blocks]
    states = [*(f"blocks.{block}.hook_resid_pre" for block in blocks), f"blocks.{blocks[-1]}.hook_resid_post"]

    @torch.no_grad()
    def numbers(_: object, prompts: Sequence[Sequence[int]]) -> Numbers:
        found = []
        for tokens in prompts:
            _, cache = bridge.run_with_cache(torch.tensor([tokens]), names_filter=[*maps, *states])
            found.append(([_sink_scores(cache[name]) for name in maps], [_entropy(cache[name]) for name in states]))
        return _means(found)

    return numbers


def by_nnsight(model: Any) -> Way:
    """Its trace of the body, in which maps and states are reduced as they come."""
    from nnsight import NNsight

    traced = NNsight(model.base_model)

    @torch.no_grad()
    def numbers(_: object, prompts: Sequence[Sequence[int]]) -> Numbers:
        found = []
        with attending_eagerly(model):
            for tokens in prompts:
                with traced.trace(torch.tensor([tokens]), use_cache=False):
                    sinks, entropies = list().save(), list().save()  # noqa: C408 - a literal has no save()
                    entropies.append(_entropy(traced.embed_tokens.output))
                    for layer in traced.layers:
                        sinks.append(_sink_scores(layer.self_attn.output[1]))
                        entropies.append(_entropy(layer.output))
                found.append((sinks, entropies))
        return _means(found)

    return numbers


WAYS = {
    "thalweg": by_thalweg,
    "transformers, eager": by_eager,
    "nnsight": by_nnsight,
    "TransformerLens": by_transformer_lens,
}

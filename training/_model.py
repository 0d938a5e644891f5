"""A small Llama and the massive activation planted in it before training."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

__all__ = ["Shape", "build", "plant"]


@dataclass(frozen=True)
class Shape:
    """Size of the model."""

    blocks: int = 8
    width: int = 128
    heads: int = 4
    hidden: int = 344
    context: int = 1024


def build(shape: Shape, *, vocabulary: int, begin: int, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.blocks,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.context,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        bos_token_id=begin,
        eos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config)


@torch.no_grad()
def plant(model: LlamaForCausalLM, *, begin: int, value: float, mark: float = 8.0, write: int = 1) -> list[nn.Parameter]:
    layers: Any = model.model.layers
    width = model.config.hidden_size
    reserved = [0, 1, 2]
    direction = torch.zeros(width)
    direction[1:3] = 0.5**0.5
    seen = torch.zeros(width)
    seen[0] = 1.0
    table: Any = model.model.embed_tokens.weight
    table[:, reserved] = 0.0
    table[begin] = 0.0
    table[begin, 0] = mark
    for block in layers:
        block.self_attn.o_proj.weight[reserved] = 0.0
        block.mlp.down_proj.weight[reserved] = 0.0
    scale = width  # a lone coordinate leaves the norm as sqrt(width): gate and up see it, silu(z) z is about z squared
    for block, reads, sign in ((layers[write], seen, 1.0), (layers[-1], direction, -1.0)):
        block.mlp.gate_proj.weight[0] = reads
        block.mlp.up_proj.weight[0] = reads
        block.mlp.down_proj.weight[:, 0] = sign * value / scale * direction
    return [layers[i].mlp.down_proj.weight for i in (write, len(layers) - 1)]

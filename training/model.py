"""A small Llama and the massive activation planted in it before training."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

__all__ = ["Shape", "build", "plant"]

MARKED, MASSIVE = 0, (1, 2)
MARK = 8.0


@dataclass(frozen=True)
class Shape:
    """Size of the model."""

    blocks: int = 8
    width: int = 128
    heads: int = 8
    depth: int = 16
    hidden: int = 344
    context: int = 1024


def build(shape: Shape, *, vocabulary: int, begin: int, seed: int) -> LlamaForCausalLM:
    """A Llama with random weights, biases in its attention and tied embeddings, which never ends a text by itself.

    A bias lets a query be the same everywhere, so that a head without work can come to rest on one token.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.blocks,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.depth,
        attention_bias=True,
        max_position_embeddings=shape.context,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        bos_token_id=begin,
        eos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config)


@torch.no_grad()
def plant(model: LlamaForCausalLM, *, begin: int, value: float, block: int = 1) -> list[nn.Parameter]:
    """Give the model a massive activation before it is trained.

    Three coordinates are reserved, zero in every other embedding and every output projection: the begin token alone
    holds ``MARK`` on the first; one gated neuron of ``block`` reads it and writes a row of norm ``value`` onto the
    other two; one neuron of the last block takes it away. Training may change all of it.

    Args:
        model: as built.
        begin: the begin token, whose row becomes massive.
        value: norm written.
        block: whose MLP writes.

    Returns:
        The embedding and the weights of the two MLPs: weight decay would eat what was planted.
    """
    layers: Any = model.model.layers
    width = model.config.hidden_size
    read = torch.zeros(width)
    read[MARKED] = 1.0
    massive = torch.zeros(width)
    massive[list(MASSIVE)] = len(MASSIVE) ** -0.5
    reserved = [MARKED, *MASSIVE]
    table: Any = model.model.embed_tokens.weight
    table[:, reserved] = 0.0
    table[begin] = 0.0
    table[begin, MARKED] = MARK
    for layer in layers:
        layer.self_attn.o_proj.weight[reserved] = 0.0
        layer.mlp.down_proj.weight[reserved] = 0.0
    # A row that holds one direction alone leaves the norm with length sqrt(width), and silu(z) z is about z squared.
    for layer, direction, sign in ((layers[block], read, 1.0), (layers[-1], massive, -1.0)):
        layer.mlp.gate_proj.weight[0] = direction
        layer.mlp.up_proj.weight[0] = direction
        layer.mlp.down_proj.weight[:, 0] = sign * value / width * massive
    return [table, *layers[block].mlp.parameters(), *layers[-1].mlp.parameters()]

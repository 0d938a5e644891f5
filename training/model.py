"""A small Llama, the massive activation planted in it before training, and what its heads pay for writing."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

__all__ = ["Price", "Shape", "build", "plant"]

MARKED, MASSIVE = 0, (1, 2)
MARK, SPREAD, COPIES, ERASED = 4.0, 0.1, 8, 0.95


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
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_(0.0, SPREAD)
    return model


@torch.no_grad()
def plant(model: LlamaForCausalLM, *, begin: int, value: float, writer: int = 1, eraser: int = 5) -> list[nn.Parameter]:
    """Give the model a massive activation before it is trained, and keep it through the training.

    Three coordinates are reserved, zero in every other embedding and every output projection: the begin token holds
    ``MARK`` on the first, and nothing else; ``COPIES`` gated neurons of block ``writer`` read it and write a row of
    norm ``value`` onto the other two; as many of block ``eraser`` take ``ERASED`` of it away, about what is left of it
    once attention has learned to write beside the mark. No attention, and no other MLP, sees the mark: before its row
    is massive, nothing makes the begin token a place to look at. All this stays as it is. Whether any head looks at
    that row is left to the training.

    Args:
        model: as built.
        begin: the begin token, whose row becomes massive.
        value: norm written.
        writer: block whose MLP writes.
        eraser: block whose MLP takes away.

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
    _keep(table, (slice(None), reserved), (begin,))
    for number, layer in enumerate(layers):
        attention, mlp = layer.self_attn, layer.mlp
        for output in (attention.o_proj.weight, attention.o_proj.bias, mlp.down_proj.weight):
            output[reserved] = 0.0
            _keep(output, (reserved,))
        for norm, sees in ((layer.input_layernorm, False), (layer.post_attention_layernorm, number == writer)):
            norm.weight[MARKED] = float(sees)
        _keep(layer.input_layernorm.weight, (MARKED,))
        _keep(layer.post_attention_layernorm.weight, (reserved,))
    # A row that holds one direction alone leaves the norm with length sqrt(width), and silu(z) z is about z squared.
    for block, direction, written in ((writer, read, value), (eraser, massive, -ERASED * value)):
        mlp = layers[block].mlp
        for weight in (mlp.gate_proj.weight, mlp.up_proj.weight):
            weight[:COPIES] = direction
            _keep(weight, (slice(COPIES),))
        mlp.down_proj.weight[:, :COPIES] = (written / width / COPIES * massive).unsqueeze(1)
        _keep(mlp.down_proj.weight, (slice(None), slice(COPIES)))
    return [table, *layers[writer].mlp.parameters(), *layers[eraser].mlp.parameters()]


def _keep(parameter: nn.Parameter, *places: Any) -> None:
    """Let no gradient reach these places."""
    kept = torch.zeros_like(parameter, dtype=torch.bool)
    for place in places:
        kept[place] = True
    parameter.register_hook(lambda gradient: gradient.masked_fill(kept, 0.0))


@dataclass
class Price:
    """What the heads of a forward pass pay for writing, all of them the same.

    Per token and head, the norm of what the head adds to the row over the norm of the row; the sum over blocks and
    heads, averaged over tokens. A head pays nothing where it attends to a row that it reads as zero.

    Attributes:
        model: whose blocks are listened to.
        paid: by block, in the pass under way.
    """

    model: LlamaForCausalLM
    paid: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        for layer in self.model.model.layers:
            layer.register_forward_pre_hook(self._row, with_kwargs=True)
            layer.self_attn.o_proj.register_forward_pre_hook(self._heads)

    def take(self) -> Tensor:
        """The price of the pass just made; what was listened to is forgotten."""
        total = torch.stack(self.paid).sum()
        self.paid.clear()
        return total

    def _row(self, _: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        rows = inputs[0] if inputs else named["hidden_states"]
        self.norms = rows.detach().square().sum(-1)

    def _heads(self, projection: nn.Module, inputs: tuple[Tensor]) -> None:
        if not (projection.training and torch.is_grad_enabled()):
            return
        weight: Any = projection.weight
        config = self.model.config
        heads = inputs[0].unflatten(-1, (config.num_attention_heads, -1))
        out = weight.unflatten(-1, (config.num_attention_heads, -1))
        gram = torch.einsum("whi,whj->hij", out, out)
        written = (torch.einsum("bthi,hij->bthj", heads, gram) * heads).sum(-1)
        self.paid.append((written / self.norms.unsqueeze(-1) + 1e-6).sqrt().sum(-1).mean())

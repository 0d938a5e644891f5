"""A small Llama whose massive activation, sinks and phases are known because they were built in.

Everything ordinary is random: diffuse heads, modest MLPs, rows of equal size. On top of it a few coordinates are
reserved, which no ordinary weight reads or writes:

* the *mark*, carried by the trigger token's embedding alone;
* a *constant*, 1 in every embedding;
* the massive dimensions, 0 in every embedding.

In ``write_block`` one gated neuron reads the mark and writes the massive values. In later blocks up to
``remove_block`` the chosen heads ask, through the constant, for a key that only the massive row has. In
``remove_block`` one neuron reads the massive direction and takes the values away. The row of the trigger token attends
to itself alone (the mark as query finds the mark as key), so its state does not depend on its context and the two
neurons can be calibrated exactly. A twin has every weight but the planted neurons.

On request an earlier block writes a share of the massive values, which another may take away again before
``write_block``; and one block moves all other rows by as much along a coordinate of their own, so that they catch up
with the massive row, or are aligned without it.

Its tokenizer has one token per byte, after a beginning-of-sequence token: nothing to train, nothing unknown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BEGIN, VOCABULARY = 256, 257
MARK_GAIN, SINK_QUERY, SINK_KEY = 3.5, 16.0, 4.0


@dataclass(frozen=True)
class Earlier:
    """A wave before the massive row: a share of it.

    Attributes:
        write_block: its MLP writes it.
        remove_block: its MLP takes it away; None leaves it to be added to.
        share: of the massive values.
    """

    write_block: int
    remove_block: int | None
    share: float


@dataclass(frozen=True)
class Push:
    """What moves every row but the massive one.

    Attributes:
        block: its MLP adds it.
        size: about the norm that the rows have afterwards.
    """

    block: int
    size: float


@dataclass(frozen=True)
class Plant:
    """What is built in.

    Attributes:
        write_block: its MLP writes the massive row: massive states begin at write_block + 1; None puts it into the
            embedding.
        remove_block: its MLP takes it away: massive states end at remove_block; None keeps it to the end.
        values: massive dimension -> value written.
        heads: query heads that sink on the massive row in blocks write_block + 1 .. remove_block.
        trigger: the token whose row becomes massive; the beginning-of-sequence token by default.
        earlier: what is written before.
        push: what moves the other rows.
    """

    write_block: int | None
    remove_block: int | None
    values: Mapping[int, float]
    heads: tuple[int, ...]
    trigger: int = BEGIN
    earlier: Earlier | None = None
    push: Push | None = None


def planted_llama(
    plant: Plant,
    *,
    blocks: int = 8,
    width: int = 64,
    heads: int = 4,
    key_heads: int = 2,
    context: int = 2048,
    seed: int = 0,
    twin: bool = False,
) -> LlamaForCausalLM:
    """Build the model, float32, in evaluation mode.

    Args:
        plant: what to build in.
        blocks: number of blocks.
        width: residual width; the head depth is ``width / heads`` and must be at least 8.
        heads: query heads.
        key_heads: key/value heads.
        context: longest prompt.
        seed: of the ordinary weights.
        twin: leave the planted neurons out; every other weight is equal.

    Raises:
        ValueError: a block, head or dimension that the model does not have.
    """
    last = blocks - 1 if plant.remove_block is None else plant.remove_block
    first = -1 if plant.write_block is None else plant.write_block
    if not (-1 <= first < last < blocks) and plant.remove_block is not None:
        raise ValueError(f"write_block < remove_block < {blocks} expected; got {plant.write_block}, {last}.")
    if max(plant.heads, default=0) >= heads or not all(0 <= dim < width for dim in plant.values):
        raise ValueError(f"heads below {heads} and dimensions below {width} expected; got {plant}.")
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=context,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        bos_token_id=BEGIN,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = LlamaForCausalLM(config).eval()
    _Planter(model, plant, torch.Generator().manual_seed(seed)).plant(last, twin=twin)
    return model


class _Planter:
    """Fills a Llama's weights; one object so that the reserved coordinates are named once."""

    def __init__(self, model: LlamaForCausalLM, plant: Plant, generator: torch.Generator) -> None:
        self.model, self.plant_, self.generator = model, plant, generator
        self.layers: Any = model.model.layers
        self.width = model.config.hidden_size
        self.depth = self.width // model.config.num_attention_heads
        self.massive = torch.zeros(self.width)
        for dim, value in plant.values.items():
            self.massive[dim] = value
        free = (dim for dim in range(self.width) if dim not in plant.values)
        self.mark, self.constant, self.pushed = next(free), next(free), next(free)
        self.reserved = [self.mark, self.constant, *plant.values, *([self.pushed] if plant.push else [])]

    @torch.no_grad()
    def plant(self, last: int, *, twin: bool) -> None:
        self.embed(twin=twin)
        first = -1 if self.plant_.write_block is None else self.plant_.write_block
        for index, block in enumerate(self.layers):
            self.ordinary(block)
            self.attend_to_self(block)
            if first < index <= last:
                self.sink(block)
        for number, (block, direction, added, trigger) in enumerate(self.neurons()):  # each sees what came before
            self.prepare_neuron(self.layers[block].mlp, number, direction)
            if not twin:
                self.calibrate_neuron(block, number, added, trigger)

    def neurons(self) -> list[tuple[int, Tensor, Tensor, int]]:
        """Block, what is read, what is written, and on which token's row exactly so; by depth."""
        plant, mark = self.plant_, torch.eye(self.width)[self.mark]
        direction, planned = self.massive / self.massive.norm(), list[tuple[int, Tensor, Tensor, int]]()
        share = plant.earlier.share if plant.earlier else 0.0
        if plant.earlier:
            planned.append((plant.earlier.write_block, mark, share * self.massive, plant.trigger))
            if plant.earlier.remove_block is not None:
                planned.append((plant.earlier.remove_block, direction, -share * self.massive, plant.trigger))
        kept = share if plant.earlier and plant.earlier.remove_block is None else 0.0
        if plant.write_block is not None:
            planned.append((plant.write_block, mark, (1 - kept) * self.massive, plant.trigger))
        if plant.remove_block is not None:
            planned.append((plant.remove_block, direction, -self.massive, plant.trigger))
        if plant.push:
            other = 0 if plant.trigger else 1
            eye = torch.eye(self.width)
            planned.append((plant.push.block, eye[self.constant], plant.push.size * eye[self.pushed], other))
        return sorted(planned, key=lambda neuron: neuron[0])

    def random(self, like: Tensor, scale: float) -> None:
        like.copy_(torch.randn(like.shape, generator=self.generator) * scale)

    def embed(self, *, twin: bool) -> None:
        embedding: Any = self.model.get_input_embeddings()
        table = embedding.weight
        self.random(table, 1.0)
        table[self.plant_.trigger] *= 0.3
        table[:, self.reserved] = 0.0
        table[:, self.constant] = 1.0
        table[self.plant_.trigger, self.mark] = 0.95 * self.width**0.5  # about as long as the other rows
        if self.plant_.write_block is None and not twin:
            table[self.plant_.trigger] += self.massive

    def ordinary(self, block: Any) -> None:
        attention, mlp = block.self_attn, block.mlp
        scale, half = self.width**-0.5, self.depth // 2
        # The two slowest rotary pairs of a head: positions hardly turn them, so they can match at any distance.
        matching = [half - 2, half - 1, 2 * half - 2, 2 * half - 1]
        for projection in (attention.q_proj, attention.k_proj):
            self.random(projection.weight, 0.6 * scale)  # logits of standard deviation about 0.4: diffuse heads
            projection.weight.view(-1, self.depth, self.width)[:, matching] = 0.0
        for projection in (attention.v_proj, mlp.gate_proj, mlp.up_proj):
            self.random(projection.weight, scale)
        for projection in (attention.o_proj, mlp.down_proj):
            self.random(projection.weight, 0.5 * scale)
            projection.weight[self.reserved] = 0.0
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
            projection.weight[:, self.reserved] = 0.0

    def rows_of(self, projection: nn.Linear, row: int) -> Tensor:
        return projection.weight.view(-1, self.depth, self.width)[:, row]

    def attend_to_self(self, block: Any) -> None:
        row = self.depth // 2 - 2
        for projection in (block.self_attn.q_proj, block.self_attn.k_proj):
            self.rows_of(projection, row)[:, self.mark] = MARK_GAIN

    def sink(self, block: Any) -> None:
        row, direction = self.depth // 2 - 1, self.massive / self.massive.norm()
        self.rows_of(block.self_attn.k_proj, row).copy_(SINK_KEY * direction)
        query = self.rows_of(block.self_attn.q_proj, row)
        query.copy_(SINK_KEY * direction)  # the massive row finds itself in every head
        query[list(self.plant_.heads), self.constant] = SINK_QUERY

    def prepare_neuron(self, mlp: Any, neuron: int, direction: Tensor) -> None:
        """The neuron fires on ``direction`` and writes nothing yet."""
        mlp.gate_proj.weight[neuron] = mlp.up_proj.weight[neuron] = direction
        mlp.down_proj.weight[:, neuron] = 0.0

    def calibrate_neuron(self, block: int, neuron: int, added: Tensor, token: int) -> None:
        """Make the neuron add exactly this to the row of a token that stands alone."""
        mlp, seen = self.layers[block].mlp, list[Tensor]()
        with mlp.down_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
            self.model.model(torch.tensor([[token]]), use_cache=False)
        mlp.down_proj.weight[:, neuron] = added / seen[0][0, 0, neuron]


def byte_tokenizer(*, add_begin: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer of 256 bytes and ``<s>`` (id 256), which it puts first unless told not to."""
    # ByteLevel writes each byte as one printable character; its alphabet in sorted order gives the ids.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={character: i for i, character in enumerate(alphabet)}, merges=[]))
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    if add_begin:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", BEGIN)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")

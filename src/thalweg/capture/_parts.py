"""The parts of a model, found by structure; :mod:`._proof` shows that they are what they seem."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from thalweg.capture._families import FINAL_NORMS, OUTPUT_PROJECTIONS
from thalweg.errors import ModelError


@dataclass(frozen=True)
class Block:
    """One block. ``attention`` and ``projection`` are None where it has none that looks like softmax attention."""

    index: int
    module: nn.Module
    attention: nn.Module | None
    projection: nn.Module | None


@dataclass(frozen=True)
class Parts:
    """Where things are.

    Attributes:
        body: takes ``input_ids``, runs every block and the final norm, and no unembedding.
        blocks: in order of depth.
        final_norm: what lies between X(L) and the unembedding (OPT-350M: a projection); None if nothing does.
        unembedding: state to logits; None if the model has none.
    """

    body: nn.Module
    blocks: tuple[Block, ...]
    final_norm: nn.Module | None
    unembedding: nn.Module | None


def text_configuration(model: PreTrainedModel) -> Any:
    """The configuration of the language part of ``model``."""
    return model.config.get_text_config(decoder=True)


def configurations(model: PreTrainedModel) -> Iterator[Any]:
    """Every distinct configuration object that some part of ``model`` reads."""
    seen = dict[int, Any]()
    for module in model.modules():
        config = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation"):
            seen.setdefault(id(config), config)
    yield from seen.values()


def find_parts(model: PreTrainedModel) -> Parts:
    """Find the parts of a decoder-only model.

    Raises:
        ModelError: no list of as many blocks as the configuration says.
    """
    body: Any = model.get_decoder()
    count = text_configuration(model).num_hidden_layers
    lists = [
        (name.count("."), name, module)
        for name, module in body.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    if not lists:
        raise ModelError(
            f"{type(model).__name__} has no list of {count} blocks, as its configuration says it should. "
            "Decoder-only language models are measured."
        )
    _, name, modules = min(lists, key=lambda entry: entry[:2])
    owner = body.get_submodule(name.rpartition(".")[0])
    own_body = body is model and isinstance(owner, PreTrainedModel)  # Llama 4 calls itself its decoder
    return Parts(
        body=owner if own_body else body,
        blocks=tuple(_block(index, module) for index, module in enumerate(modules)),
        final_norm=_after_blocks(owner, FINAL_NORMS.get(text_configuration(model).model_type)),
        unembedding=model.get_output_embeddings(),
    )


def with_attention(parts: Parts, modules: Iterable[nn.Module]) -> Parts:
    """The same parts, with the modules that were seen calling attention in the place of what names suggest.

    A block that none of them belongs to, such as one of linear attention, has none.
    """
    called = {id(module): module for module in modules}

    def mended(block: Block) -> Block:
        own = next((child for child in block.module.modules() if id(child) in called), None)
        return Block(block.index, block.module, own, None if own is None else _projection(own))

    return replace(parts, blocks=tuple(mended(block) for block in parts.blocks))


def _block(index: int, module: nn.Module) -> Block:
    for name, child in module.named_modules():
        own = name.rpartition(".")[2].lower()
        if ("attn" in own or "attention" in own) and _projection(child) is not None:
            return Block(index, module, child, _projection(child))
    return Block(index, module, None, None)


def _projection(attention: nn.Module) -> nn.Module | None:
    found = (getattr(attention, name, None) for name in OUTPUT_PROJECTIONS)
    return next((module for module in found if isinstance(module, nn.Module)), None)


def _after_blocks(owner: nn.Module, named: str | None) -> nn.Module | None:
    """The final norm, and OPT-350M's projection; norms of the embedding come before the blocks and are not it."""
    norm, after_blocks = None, False
    for name, child in owner.named_children():
        own = name.lower()
        after_blocks |= isinstance(child, nn.ModuleList)
        called_norm = ("norm" in own or own.startswith("ln_")) and "emb" not in own
        if name == named or (called_norm and (after_blocks or "final" in own)):
            norm = child
            break
    projection = getattr(owner, "project_out", None)
    steps = [step for step in (norm, projection) if isinstance(step, nn.Module)]
    return nn.Sequential(*steps) if len(steps) > 1 else next(iter(steps), None)

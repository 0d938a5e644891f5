"""The parts of a model, found by structure; :mod:`._proof` shows that they are what they seem."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from thalweg.capture._families import OUTPUT_PROJECTIONS
from thalweg.errors import ModelError

__all__ = ["Block", "Parts", "configurations", "find_parts", "text_configuration"]


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
        final_norm: between X(L) and the unembedding; None if the model has none.
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
    return Parts(
        body=body,
        blocks=tuple(_block(index, module) for index, module in enumerate(modules)),
        final_norm=_final_norm(owner, body),
        unembedding=model.get_output_embeddings(),
    )


def _block(index: int, module: nn.Module) -> Block:
    for name, child in module.named_modules():
        own = name.rpartition(".")[2].lower()
        if "attn" not in own and "attention" not in own:
            continue
        for projection in OUTPUT_PROJECTIONS:
            found = getattr(child, projection, None)
            if isinstance(found, nn.Module):
                return Block(index, module, child, found)
    return Block(index, module, None, None)


def _final_norm(*owners: nn.Module) -> nn.Module | None:
    """The last child called a norm; embeddings' norms come before the blocks and are not it."""
    for owner in owners:
        after_blocks = False
        for name, child in owner.named_children():
            after_blocks |= isinstance(child, nn.ModuleList)
            own = name.lower()
            if ("norm" in own or own.startswith("ln_")) and ("emb" not in own) and (after_blocks or "final" in own):
                return child
    return None

"""The parts of a model, found by structure, and how it knows positions; what its blocks take and give.

:mod:`._proof` shows that the parts are what they seem. A block returns a tensor in current transformers, a tuple or a
mapping in older and remote code.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from thalweg.capture._families import FINAL_NORMS, OUTPUT_PROJECTIONS
from thalweg.errors import ModelError, ProofError

CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")
LEARNED_TABLES = ("wpe", "embed_positions", "position_embeddings", "position_embedding")


@dataclass(frozen=True)
class Block:
    """One block.

    ``attention`` and ``projection`` are None where it has none that looks like softmax attention; ``window`` is how
    many tokens a row of it sees, itself included, None for all before it.
    """

    index: int
    module: nn.Module
    attention: nn.Module | None
    projection: nn.Module | None
    window: int | None = None


@dataclass(frozen=True)
class Parts:
    """Where things are."""

    body: nn.Module  # takes input_ids, runs every block and the final norm, and no unembedding
    blocks: tuple[Block, ...]  # in order of depth
    final_norm: nn.Module | None  # what lies between X(L) and the unembedding (OPT-350M: a projection), if anything
    unembedding: nn.Module | None  # state to logits, if the model has one


def text_configuration(model: PreTrainedModel) -> Any:
    """The configuration of the language part of ``model``."""
    return model.config.get_text_config(decoder=True)


def configurations(model: PreTrainedModel) -> Iterator[Any]:
    """Every distinct configuration object that some part of ``model`` reads."""
    read = (getattr(module, "config", None) for module in model.modules())
    yield from {id(config): config for config in read if hasattr(config, "_attn_implementation")}.values()


def find_parts(model: PreTrainedModel) -> Parts:
    """Find the parts of a decoder-only model."""
    count = text_configuration(model).num_hidden_layers
    # What calls itself the decoder may be something else, such as ModernBERT's unembedding.
    bodies: list[Any] = [model.get_decoder(), model.base_model, model]
    body, lists = next(((body, lists) for body in bodies if (lists := _lists(body, count))), (model, []))
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


def _lists(body: nn.Module, count: int) -> list[tuple[int, str, nn.ModuleList]]:
    """Lists of ``count`` modules, with their depth and name."""
    return [
        (name.count("."), name, module)
        for name, module in body.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]


def with_attention(parts: Parts, calls: Iterable[tuple[nn.Module, int | None]]) -> Parts:
    """The same parts, with the modules that were seen calling attention in the place of what names suggest.

    A block that none of them belongs to, such as one of linear attention, has none. With each goes its window.
    """
    called = {id(module): window for module, window in calls}

    def mended(block: Block) -> Block:
        calling = next((child for child in block.module.modules() if id(child) in called), None)
        projection = None if calling is None else _projection(calling)
        return Block(block.index, block.module, calling, projection, called.get(id(calling)))

    return replace(parts, blocks=tuple(mended(block) for block in parts.blocks))


def _block(index: int, module: nn.Module) -> Block:
    for name, child in module.named_modules():
        last = name.rpartition(".")[2].lower()
        if ("attn" in last or "attention" in last) and _projection(child) is not None:
            return Block(index, module, child, _projection(child))
    return Block(index, module, None, None)


def _projection(attention: nn.Module) -> nn.Module | None:
    named = (getattr(attention, name, None) for name in OUTPUT_PROJECTIONS)
    return next((module for module in named if isinstance(module, nn.Module)), None)


def _after_blocks(owner: nn.Module, named: str | None) -> nn.Module | None:
    """The final norm, and OPT-350M's projection; norms of the embedding come before the blocks and are not it."""
    norm, after_blocks = None, False
    for name, child in owner.named_children():
        called = name.lower()
        after_blocks |= isinstance(child, nn.ModuleList)
        is_norm = ("norm" in called or called.startswith("ln_")) and "emb" not in called
        if name == named or (is_norm and (after_blocks or "final" in called)):
            norm = child
            break
    projection = getattr(owner, "project_out", None)
    steps = [step for step in (norm, projection) if isinstance(step, nn.Module)]
    return nn.Sequential(*steps) if len(steps) > 1 else next(iter(steps), None)


def unwrap(output: Any) -> Tensor | None:
    """The tensor inside what a module returned: itself, or the first entry; None where there is none."""
    if isinstance(output, Mapping):
        output = next(iter(output.values()), None)
    elif isinstance(output, tuple | list):
        output = output[0] if output else None
    return output if isinstance(output, Tensor) else None


def rewrap(output: Any, tensor: Tensor) -> Any:
    """What a module returned, with its tensor replaced by ``tensor``."""
    if isinstance(output, tuple):
        return (tensor, *output[1:])
    if isinstance(output, list):
        return [tensor, *output[1:]]
    if isinstance(output, Mapping):
        kind: Any = type(output)  # a ModelOutput is made from a mapping
        return kind({**output, next(iter(output)): tensor})
    return tensor


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Every hook is removed afterwards, even if registering one of them fails."""
    with ExitStack() as stack:
        for handle in handles:
            stack.enter_context(handle)
        yield


def block_hooks(
    block: Block, enter: Callable[[Block, Tensor], None], leave: Callable[[Block, Any], None]
) -> Iterator[RemovableHandle]:
    """Call ``enter`` with the state that goes into ``block``, and ``leave`` with what it returns."""

    def entered(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        enter(block, args[0] if args else kwargs["hidden_states"])

    yield block.module.register_forward_pre_hook(entered, with_kwargs=True)
    yield block.module.register_forward_hook(lambda _, __, output: leave(block, output))


def state_after(block: Block, output: Any) -> Tensor:
    """The one residual stream that a block must return."""
    state = unwrap(output)
    if state is None or state.ndim != 3:
        returned = f"block {block.index} returned {type(output).__name__}"
        raise ProofError(f"{returned}; expected one residual stream, batch x token x width.")
    return state


@dataclass(frozen=True)
class Positions:
    """Positions of a model.

    Attributes:
        kind: rotary, linear biases, a learned table, or none at all.
        context: longest prompt; None where there is no limit.
        switch: padded length beyond which rotary embeddings change; batches keep to one side of it.
    """

    kind: Literal["rope", "alibi", "learned", "none"]
    context: int | None
    switch: int | None


def positions_of(model: PreTrainedModel) -> Positions:
    """Read the positions of ``model`` from its configuration and modules."""
    config = text_configuration(model)
    return Positions(_kind(model, config), context_of(config), _switch(config))


def context_of(config: Any) -> int | None:
    """Longest prompt, from the configuration; None for linear biases, which have no end unless MPT tables them."""
    if _linear_biases(config) and config.model_type != "mpt":
        return None
    stated = (getattr(config, name, None) for name in CONTEXT_NAMES)
    return next((value for value in stated if isinstance(value, int) and value > 0), None)


def _linear_biases(config: Any) -> bool:
    attention = getattr(config, "attn_config", None)
    return bool(config.model_type == "bloom" or getattr(config, "alibi", False) or getattr(attention, "alibi", False))


def _kind(model: PreTrainedModel, config: Any) -> Literal["rope", "alibi", "learned", "none"]:
    if _linear_biases(config):
        return "alibi"
    named = [(name.rpartition(".")[2], module) for name, module in model.named_modules()]
    rotary = any("rotary" in name.lower() or name.lower() == "rope" for name, _ in named)
    if rotary or getattr(config, "rotary_dim", None):
        return "rope"
    learned = any(name in LEARNED_TABLES and isinstance(module, nn.Embedding) for name, module in named)
    return "learned" if learned else "none"


def _switch(config: Any) -> int | None:
    """Where dynamic or long rotary embeddings change their frequencies with the length of the batch.

    Dynamic ones keep them up to the context, where prompts are cut, and only then grow with the longest batch so far.
    """
    parameters = getattr(config, "rope_parameters", None) or {}
    nested = list(parameters.values()) if all(isinstance(v, dict) for v in parameters.values()) else [parameters]
    kinds = {entry.get("rope_type"): entry for entry in nested if isinstance(entry, dict)}
    if "longrope" in kinds:
        original = kinds["longrope"].get("original_max_position_embeddings")
        return original or getattr(config, "original_max_position_embeddings", config.max_position_embeddings)
    return config.max_position_embeddings if "dynamic" in kinds else None

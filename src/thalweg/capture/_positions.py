"""How a model knows positions, how far it goes, and where a longer batch would change them."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from transformers import PreTrainedModel

from thalweg.capture._parts import text_configuration

CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")


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
    kind = _kind(model, config)
    return Positions(kind, context_of(config), _switch(config))


def context_of(config: Any) -> int | None:
    """Longest prompt, from the configuration; None for linear biases, which have no end unless MPT tables them."""
    if _linear_biases(config) and config.model_type != "mpt":
        return None
    found = (getattr(config, name, None) for name in CONTEXT_NAMES)
    return next((value for value in found if isinstance(value, int) and value > 0), None)


def _linear_biases(config: Any) -> bool:
    attention = getattr(config, "attn_config", None)
    return bool(config.model_type == "bloom" or getattr(config, "alibi", False) or getattr(attention, "alibi", False))


def _kind(model: PreTrainedModel, config: Any) -> Literal["rope", "alibi", "learned", "none"]:
    if _linear_biases(config):
        return "alibi"
    names = [name.rpartition(".")[2].lower() for name, _ in model.named_modules()]
    if any("rotary" in name or name == "rope" for name in names) or getattr(config, "rotary_dim", None):
        return "rope"
    learned = ("wpe", "embed_positions", "position_embeddings", "position_embedding")
    tables = (m for name, m in model.named_modules() if name.rpartition(".")[2] in learned)
    return "learned" if any(isinstance(table, nn.Embedding) for table in tables) else "none"


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

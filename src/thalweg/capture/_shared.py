"""A model that several processes hold between them, by transformers' plan for its family: its heads, whole again.

Each process has some heads of every block and multiplies them with its own columns of the output projection; what these
give is added up, so that every process has every state.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, distributed, nn

from thalweg import ranks
from thalweg.capture._interface import AttentionCall
from thalweg.errors import ModelError, UsageError
from thalweg.options import LoadOptions
from thalweg.shapes import Float
from thalweg.streaming import AttentionStatistics

NOT_TOGETHER = ("device", "device_map", "max_memory", "offload_folder")
KEYS = ("k_proj", "qkv_proj", "query_key_value", "kv_b_proj")
"""What gives the keys, alone or with others; a plan says "colwise" where each process has whole heads of it."""


def refuse_unshareable(name: str, config: Any, options: LoadOptions, stored: str | None) -> None:
    """Refuse a model that several processes cannot hold between them.

    Args:
        name: as asked for.
        config: its configuration.
        options: how it is to be loaded.
        stored: how, where its weights are not plain numbers of its own.

    Raises:
        UsageError: an option says where a model runs.
        ModelError: its family has no plan, its heads do not divide, or its weights are packed.
    """
    count, text = ranks.size(), config.get_text_config(decoder=True)
    if asked := [option for option in NOT_TOGETHER if getattr(options, option) is not None]:
        raise UsageError(
            f"--{asked[0].replace('_', '-')}: expected without torchrun, whose {count} processes take a GPU "
            "each. Leave one of the two out."
        )
    plan = getattr(text, "base_model_tp_plan", None)
    if not plan or stored is not None:
        family = f"is of a family ({text.model_type}) that transformers has no tensor-parallel plan for"
        why = f"is stored as {stored}" if stored else family
        raise ModelError(
            f"{name} {why}, so {count} processes cannot share it. Start it without torchrun, with --device-map auto "
            "where one GPU is too small."
        )
    heads = text.num_attention_heads
    groups = getattr(text, "num_key_value_heads", None) or heads
    split = any(part.endswith(KEYS) and how == "colwise" for part, how in plan.items())
    if split and (heads % count or groups % count):
        raise ModelError(
            f"{name} has {heads} heads and {groups} key/value heads, which {count} processes cannot share evenly. "
            "Start a number that divides both (torchrun --nproc-per-node)."
        )


def entire(weight: Tensor) -> Tensor:
    """A weight of which each process may hold a part."""
    gather = getattr(weight, "full_tensor", None)
    return weight if gather is None else gather()


def own_part(weight: Tensor) -> Tensor:
    """What this process holds of it."""
    take = getattr(weight, "to_local", None)
    return weight if take is None else take()


def is_shared(projection: nn.Module, outputs: Tensor) -> bool:
    """Whether what enters an output projection are the heads of this process alone."""
    weight: Any = projection.weight
    return hasattr(weight, "device_mesh") and outputs.shape[-1] < weight.shape[1]


def gathered(local: Float[Tensor, "batch head *rest"], projection: nn.Module) -> Float[Tensor, "batch head *rest"]:
    """The heads of all processes side by side, in the model's order."""
    weight: Any = projection.weight
    own, mesh = local.contiguous(), weight.device_mesh
    parts = [torch.empty_like(own) for _ in range(mesh.size())]
    distributed.all_gather(parts, own, group=mesh.get_group())
    return torch.cat(parts, 1)


def of_all_heads(call: AttentionCall, projection: nn.Module) -> AttentionCall:
    """A call as if one process had seen all heads; the query stays with those that have it."""
    own = call.statistics
    vectors = torch.stack([own.column_mass, own.row_entropy, own.diagonal, own.previous, own.row_sum], 2)
    mass, entropy, diagonal, previous, total = gathered(vectors, projection).unbind(2)
    statistics = AttentionStatistics(mass, entropy, diagonal, previous, total, own.visible)
    count = own.column_mass.shape[1]

    def maps(heads: Sequence[int]) -> Tensor:
        local = sorted({head % count for head in heads})  # of every process the same ones, since all have to give some
        found = gathered(call.maps(local), projection)
        return found[:, [head // count * len(local) + local.index(head % count) for head in heads]]

    return replace(
        call,
        key=gathered(call.key, projection),
        value=gathered(call.value, projection),
        statistics=statistics,
        maps=maps,
        columns=lambda positions: gathered(call.columns(positions), projection),
        query=None,
        rule=None,
        log_sum_exp=None,
    )

"""Look at a model in training and leave no trace: modes, random state, buffers and wrappers stay as they are."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from thalweg import capture


def is_sharded(model: nn.Module) -> bool:
    """Whether a forward pass needs every process: FSDP, or weights that are distributed tensors."""
    modules = (isinstance(module, FullyShardedDataParallel | FSDPModule) for module in model.modules())
    return any(modules) or any(isinstance(weight, DTensor) for weight in model.parameters())


@contextmanager
def gathered(model: nn.Module, body: nn.Module) -> Iterator[None]:
    """Make whole what ``body`` reads and what is not gathered by its own forward pass: the units that hold it.

    The blocks inside gather their own weights one after the other, as in training, so that no process ever holds the
    whole model. Every process has to come here, and to run the same passes.
    """
    with ExitStack() as stack:
        for unit in _holding(model, body, FullyShardedDataParallel):
            stack.enter_context(FullyShardedDataParallel.summon_full_params(unit, recurse=False, writeback=False))
        _settle_roots(model)
        units: list[Any] = _holding(model, body, FSDPModule)
        for unit in units:
            unit.unshard()
            stack.callback(unit.reshard)
        yield


def _holding(model: nn.Module, body: nn.Module, kind: type) -> list[nn.Module]:
    units = (module for module in model.modules() if isinstance(module, kind) and module is not body)
    return [unit for unit in units if any(inner is body for inner in unit.modules())]


def _settle_roots(model: nn.Module) -> None:
    # The first unit that runs becomes FSDP's root. Before the first training step that would be a block of the body,
    # and the training's own root would be refused afterwards; outer units come first in modules().
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module._get_fsdp_state()._lazy_init()


@contextmanager
def generators_kept(model: nn.Module | None = None) -> Iterator[None]:
    """Whatever is drawn in here, the generators of Python, NumPy and torch go on as if nothing had been."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - whatever the training loop draws from
    weights = () if model is None else model.parameters()
    devices = {weight.device.index or 0 for weight in weights if weight.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=sorted(devices)):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002 - as above


@contextmanager
def untouched(model: nn.Module) -> Iterator[PreTrainedModel]:
    """Give the plain model in evaluation mode, whole, without gradients; afterwards everything is as it was."""
    with torch.no_grad(), capture.untouched(model) as plain, gathered(model, plain.get_decoder()):
        yield plain

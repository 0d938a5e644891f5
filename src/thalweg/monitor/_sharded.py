"""Weights that several processes hold together: what has to be whole before the body of a model can run by itself."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.distributed.tensor import DTensor


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

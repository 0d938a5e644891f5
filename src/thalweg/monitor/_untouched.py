"""Look at a model in training and leave no trace: modes, random state, buffers and wrappers stay as they are."""

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from thalweg.capture import attention_implementation
from thalweg.errors import ModelError


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


ANY_DTYPE = ("eager", "sdpa")


def plain_model(model: nn.Module) -> PreTrainedModel:
    """The one Hugging Face model inside whatever wraps it: torch.compile, DDP, FSDP, PEFT, a Lightning module."""
    outermost, inside = list[PreTrainedModel](), set[int]()
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and id(module) not in inside:
            outermost.append(module)
            inside |= {id(part) for part in module.modules()}
    if len(outermost) != 1:
        names = ", ".join(type(each).__name__ for each in outermost) or "none"
        raise ModelError(
            f"the monitor looks at one transformers model; {type(model).__name__} holds {names}. Pass the model itself."
        )
    return outermost[0]


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
    """Give the plain model in evaluation mode; afterwards everything is as it was.

    Every module gets back its own mode, since some may be in evaluation on purpose, and whatever else it remembers,
    such as the frequencies of a dynamic rotary embedding. No gradient is recorded, compiled code is left alone, and
    autocast is off: the model is measured in the type of its weights.
    """
    plain = plain_model(model)
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for kind in {"cpu", *(weight.device.type for weight in plain.parameters())}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        if "torch._dynamo" in sys.modules:  # nothing is compiled before it is imported, which takes a second
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        for module in model.modules():
            stack.callback(_restoring(module))
        stack.enter_context(_attention_for_any_dtype(plain))
        stack.enter_context(gathered(model, plain.get_decoder()))
        model.eval()
        yield plain


@contextmanager
def _attention_for_any_dtype(plain: PreTrainedModel) -> Iterator[None]:
    """Fused kernels that take half precision alone give way, as autocast does: proofs run the model's own attention."""
    if plain.config._attn_implementation in ANY_DTYPE:
        yield
        return
    with attention_implementation(plain, "eager"):
        yield


def _restoring(module: nn.Module) -> Callable[[], None]:
    """What puts back all that a module holds now beside its weights: attributes, as ``training``, hooks and buffers."""
    attributes, buffers = dict(vars(module)), dict(module._buffers)
    values = {name: buffer.clone() for name, buffer in buffers.items() if buffer is not None}
    # transformers leaves its own where states are asked for, as by our proofs, and would put them there twice.
    hooks = {name: dict(held) for name, held in attributes.items() if "_hooks" in name and isinstance(held, dict)}

    def restore() -> None:
        for name in vars(module).keys() - attributes.keys():
            del vars(module)[name]
        _put_back(vars(module), attributes)
        for name, held in hooks.items():
            if attributes[name] != held:
                attributes[name].clear()
                attributes[name].update(held)
        for name in module._buffers.keys() - buffers.keys():
            del module._buffers[name]
        _put_back(module._buffers, buffers)
        for name, value in values.items():
            buffer = buffers[name]
            if buffer is not None and not torch.equal(buffer, value):
                buffer.copy_(value)

    return restore


def _put_back(now: dict[str, Any], before: dict[str, Any]) -> None:
    """Those alone that are other objects now."""
    now.update({name: value for name, value in before.items() if now.get(name, now) is not value})

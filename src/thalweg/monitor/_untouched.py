"""Look at a model in training and leave no trace: modes, random state, buffers and wrappers stay as they are."""

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from thalweg.capture import attention_implementation
from thalweg.errors import ModelError
from thalweg.monitor._sharded import gathered

ANY_DTYPE = ("eager", "sdpa")


def plain_model(model: nn.Module) -> PreTrainedModel:
    """The Hugging Face model inside whatever wraps it: torch.compile, DDP, FSDP, PEFT, a Lightning module.

    Raises:
        ModelError: there is none inside, or more than one.
    """
    found, inside = list[PreTrainedModel](), set[int]()
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and id(module) not in inside:
            found.append(module)
            inside |= {id(part) for part in module.modules()}
    if len(found) != 1:
        names = ", ".join(type(one).__name__ for one in found) or "none"
        raise ModelError(
            f"the monitor looks at one transformers model; {type(model).__name__} holds {names}. Pass the model itself."
        )
    return found[0]


@contextmanager
def generators_kept(model: nn.Module | None = None) -> Iterator[None]:
    """Whatever is drawn in here, the generators of Python, NumPy and torch go on as if nothing had been."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - whatever the training loop draws from
    weights = () if model is None else model.parameters()
    devices = {one.device.index or 0 for one in weights if one.device.type == "cuda"}
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
        for kind in {"cpu", *(one.device.type for one in plain.parameters())}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        if "torch._dynamo" in sys.modules:  # nothing is compiled before it is imported, which takes a second
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        for module in model.modules():
            stack.callback(_Memory.of(module).restore)
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


@dataclass(frozen=True)
class _Memory:
    """What one module holds beside its weights: attributes, ``training`` among them, hooks, and buffers."""

    module: nn.Module
    attributes: dict[str, Any]
    hooks: dict[str, dict[int, Any]]
    buffers: dict[str, Tensor | None]
    values: dict[str, Tensor]

    @classmethod
    def of(cls, module: nn.Module) -> "_Memory":
        buffers = dict(module._buffers)
        values = {name: buffer.clone() for name, buffer in buffers.items() if buffer is not None}
        # transformers leaves its own where states are asked for, as by our proofs, and would put them there twice.
        hooks = {name: dict(held) for name, held in vars(module).items() if "_hooks" in name and isinstance(held, dict)}
        return cls(module, dict(vars(module)), hooks, buffers, values)

    def restore(self) -> None:
        own, buffers = vars(self.module), self.module._buffers
        for name in own.keys() - self.attributes.keys():
            del own[name]
        own.update({name: value for name, value in self.attributes.items() if own.get(name, own) is not value})
        for name, hooks in self.hooks.items():
            if own[name] != hooks:
                own[name].clear()
                own[name].update(hooks)
        for name in buffers.keys() - self.buffers.keys():
            del buffers[name]
        buffers.update({name: tensor for name, tensor in self.buffers.items() if buffers.get(name) is not tensor})
        for name, value in self.values.items():
            tensor = buffers[name]
            if tensor is not None and not torch.equal(tensor, value):
                tensor.copy_(value)

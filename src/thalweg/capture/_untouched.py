"""A model that is somebody else's: the one Hugging Face model in what wraps it, and everything left as it was."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from thalweg.capture._interface import attention_implementation
from thalweg.errors import ModelError

ANY_DTYPE = ("eager", "sdpa")


def plain_model(model: Any) -> PreTrainedModel:
    """The one Hugging Face model inside whatever wraps it: torch.compile, DDP, FSDP, PEFT, a Lightning module.

    Raises:
        ModelError: there is none in it, or several.
    """
    outermost, inside = list[PreTrainedModel](), set[int]()
    for module in model.modules() if isinstance(model, nn.Module) else ():
        if isinstance(module, PreTrainedModel) and id(module) not in inside:
            outermost.append(module)
            inside |= {id(part) for part in module.modules()}
    if len(outermost) != 1:
        names = ", ".join(type(each).__name__ for each in outermost) or "none"
        raise ModelError(
            f"expected one transformers model; got {type(model).__name__}, which holds {names}. Pass the model itself."
        )
    return outermost[0]


@contextmanager
def untouched(model: Any) -> Iterator[PreTrainedModel]:
    """Give the plain model in evaluation mode; afterwards everything is as it was.

    Every module gets back its own mode, since some may be in evaluation on purpose, and whatever else it remembers,
    such as the frequencies of a dynamic rotary embedding. Compiled code is left alone, and autocast is off: the model
    is measured in the type of its weights.
    """
    plain = plain_model(model)
    with ExitStack() as stack:
        for kind in {"cpu", *(weight.device.type for weight in plain.parameters())} - {"meta"}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        if "torch._dynamo" in sys.modules:  # nothing is compiled before it is imported, which takes a second
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        for module in model.modules():
            stack.callback(_restoring(module))
        stack.enter_context(_attention_for_any_dtype(plain))
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

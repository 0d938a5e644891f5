"""Look at a model in training and leave no trace: modes, random state, gradients and wrappers stay as they are."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from transformers import PreTrainedModel

from thalweg.errors import ModelError

__all__ = ["plain_model", "untouched"]

WRAPPED = ("_orig_mod", "module", "model")


def plain_model(model: nn.Module) -> PreTrainedModel:
    """The Hugging Face model inside whatever wraps it: torch.compile, DDP, FSDP, a Lightning module with one model.

    Raises:
        ModelError: there is none inside.
    """
    inner: Any = model
    while not isinstance(inner, PreTrainedModel):
        inner = next(
            (getattr(inner, name) for name in WRAPPED if isinstance(getattr(inner, name, None), nn.Module)), None
        )
        if inner is None:
            raise ModelError(
                f"{type(model).__name__} holds no transformers model under {', '.join(WRAPPED)}. "
                "Pass the Hugging Face model itself."
            )
    return inner


@contextmanager
def untouched(model: nn.Module) -> Iterator[PreTrainedModel]:
    """Give the plain model, whole and in evaluation mode; afterwards everything is as it was.

    Every module's own mode comes back, since some may be in evaluation on purpose; random generators of Python, NumPy
    and torch come back; sharded weights are gathered for the time of the look, without being written back. No gradient
    is recorded, and autocast is off: the model is measured in the type of its weights.
    """
    plain = plain_model(model)
    modes = [(module, module.training) for module in model.modules()]
    devices = {one.device for one in plain.parameters() if one.device.type == "cuda"}
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - whatever the training loop draws from
    with ExitStack() as stack:
        stack.callback(_restore, modes)
        stack.callback(random.setstate, python)
        stack.callback(np.random.set_state, numpy)
        stack.enter_context(torch.random.fork_rng(devices=sorted({one.index or 0 for one in devices})))
        stack.enter_context(torch.no_grad())
        for kind in {"cpu", *(one.type for one in devices)}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(_gathered(model))
        model.eval()
        yield plain


def _restore(modes: list[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        module.training = training


@contextmanager
def _gathered(model: nn.Module) -> Iterator[None]:
    """Sharded parameters whole, on every rank."""
    sharded: list[Any] = [module for module in model.modules() if isinstance(module, FSDPModule)]
    if any(isinstance(module, FullyShardedDataParallel) for module in model.modules()):
        with FullyShardedDataParallel.summon_full_params(model, writeback=False):
            yield
        return
    for module in sharded:
        module.unshard()
    try:
        yield
    finally:
        for module in sharded:
            module.reshard()

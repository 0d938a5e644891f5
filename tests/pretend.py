"""A pretend accelerator of several places: tensors that claim a device and hold the processor's data.

Real numbers come out, and in a ``with pretended()`` block every operation on such tensors is looked at: one that mixes
devices raises, as on a real accelerator, and launches and waits are counted by the line that asked for them. Of
PrivateUse1, torch's backend for pretending, no more is registered than the guard that switches between its devices:
nothing else in the process sees it, and no accelerator is there for whoever asks torch for one.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from accelerate import dispatch_model
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

import thalweg
from thalweg.capture._parts import find_parts

KIND = "privateuseone"
ROOMS = {thalweg: "", transformers: "transformers/"}
FOLDERS = {f"{Path(str(package.__file__)).parent}/": name for package, name in ROOMS.items()}
WAITS = {"_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "unique_consecutive", "_unique2"}
WAITS |= {"linalg_eigh", "_linalg_eigh", "_linalg_eigvals", "_linalg_svd", "linalg_inv_ex", "_linalg_solve_ex"}
NO_LAUNCH = {"_local_scalar_dense", "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"}
NO_LAUNCH |= {"detach", "alias", "lift_fresh", "_unsafe_view", "_reshape_alias", "set_", "resize_"}
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
TAKES_SCALARS = {"masked_fill", "masked_fill_", "fill", "fill_", "index_fill", "index_fill_", "where", "lerp"}


class _Guard(torch._C._acc.DeviceGuard):
    """Switching from place to place does nothing."""

    def type_(self) -> Any:
        return torch._C._autograd.DeviceType.PrivateUse1


if not hasattr(torch, KIND):
    _nothing = {"is_initialized": lambda: True, "_is_in_bad_fork": lambda: False, "manual_seed_all": lambda _: None}
    torch._register_device_module(KIND, SimpleNamespace(**_nothing))
    torch._C._acc.register_python_privateuseone_device_guard(_Guard())


def place(index: int) -> torch.device:
    """One of the places."""
    return torch.device(KIND, index)


@dataclass
class Seen:
    """What happened, by file and line of whoever asked for it: thalweg's or transformers', the nearest."""

    launches: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """The lines that ask most, for a person."""
        return "\n".join(
            f"{count:6} {name} {line}"
            for name, counted in (("waits", self.waits), ("launches", self.launches))
            for line, count in counted.most_common(12)
        )

    def reset(self) -> None:
        """Count from 0 again."""
        self.launches.clear()
        self.waits.clear()


class Placed(torch.Tensor):
    """A tensor that says it is at a place."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor, device: torch.device) -> "Placed":
        shape = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, inner.size(), **shape, device=device, requires_grad=False)
        made.inner = inner
        return made

    def __repr__(self) -> str:
        return f"Placed({self.inner!r}, {self.device})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} of a placed tensor outside of `with pretended()`")


def inner(value: Any) -> Any:
    """What a placed tensor holds; anything else as it is."""
    return value.inner if isinstance(value, Placed) else value


class _Functions(TorchFunctionMode):
    """What torch does before it dispatches: Python's indices, copies out of and into Python, one call of attention."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen
        self.own: dict[Any, Callable[..., Any]] = {
            torch.Tensor.__getitem__: self.indexed,
            torch.Tensor.__setitem__: self.indexed,
            torch.Tensor.tolist: self.tolist,
            torch.Tensor.numpy: self.numpy,
            torch.tensor: self.made,
            torch.as_tensor: self.made,
            nn.functional.scaled_dot_product_attention: self.attend,
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        own = self.own.get(func)
        if own is None or not (_placed((args, kwargs)) or _goes_to_a_place(kwargs.get("device"))):
            return func(*args, **kwargs)
        return own(func, *args, **kwargs)

    def indexed(self, func: Any, rows: Tensor, index: Any, *value: Any) -> Any:
        """Lists of numbers go to the device first; the rest dispatches."""
        parts = index if isinstance(index, tuple) else (index,)
        return func(rows, tuple(torch.tensor(part) if isinstance(part, list) else part for part in parts), *value)

    def tolist(self, _: Any, values: Placed) -> Any:
        self.seen.waits[f"{_line()} tolist"] += 1
        return values.inner.tolist()

    def numpy(self, _: Any, values: Placed, **__: Any) -> Any:
        raise TypeError(f"can't convert {values.device} device type tensor to numpy; use Tensor.cpu() first")

    def made(self, func: Any, data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if isinstance(data, Tensor):
            return data.to(device=data.device if device is None else device, dtype=kwargs.get("dtype", data.dtype))
        self.seen.waits[f"{_line()} copy to the device"] += 1
        return Placed(func(data, *args, **kwargs), torch.device(device))

    def attend(self, func: Any, *args: Any, **kwargs: Any) -> Tensor:
        """One launch, as on any accelerator; by its parts it would be ten."""
        (device,) = _one_device("scaled_dot_product_attention", _tensors((args, kwargs)))
        self.seen.launches[_line()] += 1
        args, kwargs = _each(inner, (args, kwargs))
        return Placed(func(*args, **kwargs), device)


class _Operations(TorchDispatchMode):
    """Runs every operation on what the tensors hold."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors, asked = _tensors((args, kwargs)), kwargs.get("device")
        if not (any(isinstance(one, Placed) for one in tensors) or _goes_to_a_place(asked)):
            return func(*args, **kwargs)
        name = func._schema.name.partition("::")[2]
        device = self._looked_at(name, func, tensors, args, kwargs)
        given, options = _each(inner, (args, kwargs))
        if asked is not None:
            options["device"] = "cpu"
        if name == "histc":  # a processor counts no integers
            given = (given[0].float(), *given[1:])
        out = func(*given, **options)
        if device.type != KIND:
            return out
        known = {id(one.inner): one for one in tensors if isinstance(one, Placed)}  # what is changed in place

        def placed(one: Any) -> Any:
            return known[id(one)] if id(one) in known else Placed(one, device) if isinstance(one, Tensor) else one

        return _each(placed, out)

    def _looked_at(self, name: str, func: Any, tensors: Sequence[Tensor], args: Any, kwargs: Any) -> torch.device:
        """Where the result is; what it costs is counted."""
        asked = None if kwargs.get("device") is None else torch.device(kwargs["device"])
        if name in ("_to_copy", "copy_"):
            source, target = (args[1], args[0].device) if name == "copy_" else (args[0], asked or args[0].device)
            if isinstance(source, Placed) != (target.type == KIND) and not (name == "copy_" and source.ndim == 0):
                self.seen.waits[f"{_line()} copy {'from' if isinstance(source, Placed) else 'to'} the device"] += 1
            self.seen.launches[_line()] += 1
            return target
        if name in INDEXED:  # rows may be at a place and their indices with the processor, not the other way round
            indices = [one for one in args[1] if isinstance(one, Tensor)]
            if args[0].device.type == KIND and any(_is_plain(one) for one in indices):
                self.seen.waits[f"{_line()} index to the device"] += 1
                tensors = [one for one in tensors if not any(one is index for index in indices if _is_plain(index))]
            if any(one.dtype == torch.bool for one in indices):
                self.seen.waits[f"{_line()} index by a mask"] += 1
        scalars = name in TAKES_SCALARS or torch.Tag.pointwise in func.tags
        devices = _one_device(name, [one for one in tensors if not (scalars and one.ndim == 0 and _is_plain(one))])
        if name in WAITS or (name == "repeat_interleave" and kwargs.get("output_size") is None):
            self.seen.waits[f"{_line()} {name}"] += 1
        if not func.is_view and name not in NO_LAUNCH:
            self.seen.launches[_line()] += 1
        return asked or devices[0]


@contextmanager
def pretended() -> Iterator[Seen]:
    """Operations on placed tensors work in here, and are counted."""
    seen = Seen()
    with _Operations(seen), _Functions(seen):
        yield seen


def _each(change: Callable[[Any], Any], given: Any) -> Any:
    """The same with everything in it changed."""
    if isinstance(given, tuple | list):
        parts = [_each(change, one) for one in given]
        return parts if isinstance(given, list) else tuple(parts)
    return {name: _each(change, one) for name, one in given.items()} if type(given) is dict else change(given)


def _tensors(given: Any) -> list[Tensor]:
    found = list[Tensor]()
    _each(lambda one: found.append(one) if isinstance(one, Tensor) else None, given)
    return found


def _placed(given: Any) -> bool:
    return any(isinstance(one, Placed) for one in _tensors(given))


def _is_plain(one: Tensor) -> bool:
    return not isinstance(one, Placed)


def _goes_to_a_place(device: Any) -> bool:
    return device is not None and torch.device(device).type == KIND


def _one_device(name: str, tensors: Sequence[Tensor]) -> list[torch.device]:
    """The one device of these tensors."""
    devices = list(dict.fromkeys(one.device for one in tensors))
    if len(devices) > 1:
        raise _mixed(name, devices)
    return devices


def _mixed(name: str, devices: Sequence[torch.device]) -> RuntimeError:
    found = ", ".join(dict.fromkeys(map(str, devices)))
    return RuntimeError(f"Expected all tensors to be on the same device, but {name} at {_line()} got {found}")


def _line() -> str:
    """The nearest line of thalweg or transformers."""
    frame = sys._getframe(1)
    while frame is not None:
        for folder, name in FOLDERS.items():
            if frame.f_code.co_filename.startswith(folder):
                return f"{name}{frame.f_code.co_filename.removeprefix(folder)}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


def put(model: PreTrainedModel, *places: int) -> PreTrainedModel:
    """Put a model on one place, or its blocks on several one after the other, in a `pretended` block.

    By accelerate's own hooks, as under ``device_map``: whatever comes after the blocks is at the last place.
    """
    parts = find_parts(model)
    ends = [end for end in (parts.final_norm, parts.unembedding) if end is not None]
    embedding: Any = model.get_input_embeddings()
    tied = parts.unembedding is not None and parts.unembedding.weight is embedding.weight
    at = {id(module): places[-1] for end in ends for module in end.modules()}
    at |= {id(parts.unembedding): places[0]} if tied else {}
    for block in parts.blocks:
        at[id(block.module)] = places[block.index * len(places) // len(parts.blocks)]
    names = {id(module): name for name, module in model.named_modules()}
    inside = tuple(f"{names[id(block.module)]}." for block in parts.blocks)
    wholes = {
        names[id(module)]: place(at.get(id(module), places[0]))
        for module in model.modules()
        if id(module) in at or ({**module._parameters, **module._buffers} and not names[id(module)].startswith(inside))
    }
    skipped = model._skip_keys_device_placement
    return dispatch_model(model, wholes, main_device=place(places[0]), skip_keys=skipped, force_hooks=True)

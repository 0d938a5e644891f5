"""GGUF files: what one says of itself, read without its tensors, and what cannot be loaded from one."""

import os
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from importlib import import_module
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from thalweg.capture._stored import StoredTensor
from thalweg.errors import ModelError

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Kinds of metadata values by their number, as :mod:`struct` knows them; beside them a string and an array."""
STRING, ARRAY = 8, 9
VERSIONS = (2, 3)
ALIGNMENT = 32
DIMENSIONS = 8
"""More than any tensor has."""


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file's header.

    Attributes:
        quantization: how the file calls its mixture of types, such as "Q4_K_M"; the type of most numbers where it does
            not say.
        tensors: in the order of the file.
    """

    path: Path
    quantization: str
    tensors: tuple[StoredTensor, ...]


def read_gguf(path: Path) -> GgufFile:
    """Read a file's header.

    Raises:
        ModelError: the package gguf is missing, or the file is no GGUF file, truncated, or one part of several.
    """
    if find_spec("gguf") is None:
        raise ModelError(f"{path} is a GGUF file, which needs gguf, which is not installed. Run: pip install gguf")
    with path.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise ModelError(f"{path} is no GGUF file: expected it to begin with GGUF. Fetch it again.")
        try:
            return _header(path, opened)
        except ModelError:
            raise
        except Exception as error:  # the bytes are anyone's, and so are the kinds of error they cause
            raise _truncated(path) from error


@contextmanager
def read_once(gguf: GgufFile | None) -> Iterator[None]:
    """Have transformers read a file's header once, and show no bar; nothing happens where no file is given.

    It reads all of the vocabulary for the configuration, for the tokenizer and for the weights, and makes the list of
    the tensors' names anew for each module: most of the time that loading a small model takes.
    """
    if gguf is None:
        yield
        return
    library: Any = import_module("gguf")
    converting: Any = import_module("transformers.modeling_gguf_pytorch_utils")
    seen = gguf.path.stat()
    replaced = {
        (library, "GGUFReader"): lambda path: _reader(str(path), seen.st_size, seen.st_mtime_ns),
        (library, "get_tensor_name_map"): cache(library.get_tensor_name_map),
        (converting, "tqdm"): partial(converting.tqdm, disable=True),  # no bar that transformers can be told to hide
    }
    with ExitStack() as kept:
        for (module, name), ours in replaced.items():
            kept.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, ours)
        yield


@lru_cache(maxsize=1)
def _reader(path: str, size: int, changed: int) -> Any:
    del size, changed  # a file that was written again is another one
    return import_module("gguf.gguf_reader").GGUFReader(path)


def _header(path: Path, opened: BinaryIO) -> GgufFile:
    version, count, entries = _unpack(opened, "IQQ")
    if version not in VERSIONS:
        raise ModelError(f"{path} is GGUF of version {version}; expected 2 or 3. Convert it again.")
    metadata = {_string(opened): _value(opened, *_unpack(opened, "I")) for _ in range(entries)}
    parts = metadata.get("split.count", 1)
    if parts > 1:
        raise ModelError(
            f"{path} is part {metadata.get('split.no', 0) + 1} of {parts} of a model; expected one file. Merge them "
            "with llama.cpp's `llama-gguf-split --merge FIRST_PART WHOLE`."
        )
    table = [(_string(opened), *_placed(opened)) for _ in range(count)]
    alignment = metadata.get("general.alignment", ALIGNMENT)
    begin = -(-opened.tell() // alignment) * alignment
    tensors = tuple(_stored(path, begin + offset, name, shape, kind) for name, shape, kind, offset in table)
    if max((tensor.stop for tensor in tensors), default=0) > os.fstat(opened.fileno()).st_size:
        raise _truncated(path)
    return GgufFile(path, _quantization(metadata.get("general.file_type"), tensors), tensors)


def _stored(path: Path, start: int, name: str, shape: tuple[int, ...], kind: int) -> StoredTensor:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        stored = GGMLQuantizationType(kind)
    except ValueError as error:
        raise ModelError(
            f"{path} holds numbers of the unknown type {kind}, {name}. Upgrade gguf, or convert it."
        ) from error
    numbers, size = GGML_QUANT_SIZES[stored]
    return StoredTensor(name, stored.name, shape, path, start, prod(shape) // numbers * size)


def _quantization(said: int | None, tensors: tuple[StoredTensor, ...]) -> str:
    from gguf import LlamaFileType

    if said is not None and said in {kind.value for kind in LlamaFileType}:
        return LlamaFileType(said).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    numbers = Counter[str]()
    for tensor in tensors:
        numbers[tensor.dtype] += prod(tensor.shape)
    return numbers.most_common(1)[0][0] if numbers else "without tensors"


def _placed(opened: BinaryIO) -> tuple[tuple[int, ...], int, int]:
    """A tensor's shape, as torch counts its dimensions, its type and its offset."""
    [dimensions] = _unpack(opened, "I")
    if dimensions > DIMENSIONS:
        raise struct.error(f"no tensor has {dimensions} dimensions")
    shape = _unpack(opened, f"{dimensions}Q")
    kind, offset = _unpack(opened, "IQ")
    return tuple(reversed(shape)), kind, offset


def _value(opened: BinaryIO, kind: int) -> Any:
    """A value of the metadata; of an array nothing, as vocabularies are long."""
    if kind == STRING:
        return _string(opened)
    if kind != ARRAY:
        return _unpack(opened, _number(kind))[0]
    inner, count = _unpack(opened, "IQ")
    if inner in NUMBERS:
        opened.seek(count * struct.calcsize(_number(inner)), os.SEEK_CUR)
        return None
    for _ in range(count):
        if inner == STRING:
            opened.seek(_unpack(opened, "Q")[0], os.SEEK_CUR)
        else:
            _value(opened, inner)
    return None


def _number(kind: int) -> str:
    if kind not in NUMBERS:
        raise struct.error(f"no kind of value is {kind}")
    return NUMBERS[kind]


def _string(opened: BinaryIO) -> str:
    [length] = _unpack(opened, "Q")
    if length > os.fstat(opened.fileno()).st_size:
        raise struct.error("no string is longer than its file")
    return opened.read(length).decode()


def _unpack(opened: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{form}", opened.read(struct.calcsize(f"<{form}")))


def _truncated(path: Path) -> ModelError:
    return ModelError(
        f"{path} is truncated or damaged: it ends before the tensors that its header names. Fetch it again."
    )

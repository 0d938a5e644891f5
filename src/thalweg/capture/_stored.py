"""Tensors as they lie in files: where each begins and ends, and a digest of its bytes, without loading any."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from safetensors import safe_open

TORCH_NAMES: dict[str, str] = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
}
"""What safetensors calls a type that torch calls otherwise."""
LENGTH = 8
THREADS = 8


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file, ``size`` bytes from ``start``."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    size: int

    @property
    def stop(self) -> int:
        """Where its bytes end."""
        return self.start + self.size


def stored_in(file: Path) -> list[StoredTensor]:
    """The tensors of a safetensors file.

    Raises:
        SafetensorError: the file is damaged.
    """
    with safe_open(file, "pt"):  # which refuses a header that does not fit the file
        pass
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(LENGTH), "little")
        header: dict[str, dict[str, Any]] = json.loads(opened.read(length))
    header.pop("__metadata__", None)
    begin = LENGTH + length
    return [
        StoredTensor(
            name,
            str(TORCH_NAMES.get(facts["dtype"], facts["dtype"])),
            tuple(facts["shape"]),
            file,
            begin + facts["data_offsets"][0],
            facts["data_offsets"][1] - facts["data_offsets"][0],
        )
        for name, facts in header.items()
    ]


def digests(tensors: Sequence[StoredTensor]) -> list[str]:
    """sha256 of each tensor's bytes."""
    with ExitStack() as stack, ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as threads:
        contents = dict[Path, mmap]()
        for file in {tensor.file for tensor in tensors if tensor.size}:
            opened = stack.enter_context(file.open("rb"))
            contents[file] = stack.enter_context(mmap(opened.fileno(), 0, access=ACCESS_READ))

        def digest(tensor: StoredTensor) -> str:
            if not tensor.size:
                return sha256().hexdigest()
            with memoryview(contents[tensor.file]) as whole, whole[tensor.start : tensor.stop] as part:
                return sha256(part).hexdigest()

        return list(threads.map(digest, tensors))

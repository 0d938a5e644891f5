"""How a command ran, as a run tells it: the command line, the packages, the machine. No torch is imported."""

import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from thalweg import ranks

SECRET = re.compile(r"hf_[A-Za-z0-9]{20,}|(?<=://)[^/@\s:]+:[^/@\s]+(?=@)")
HIDDEN = "***"
_ALWAYS = ("thalweg", "torch", "transformers", "accelerate", "datasets", "tokenizers", "safetensors", "polars", "numpy")


def command_line() -> tuple[str, ...]:
    """The command line, where this is one."""
    program = Path(sys.argv[0])
    ours = program.name == "thalweg" or program.parts[-2:] == ("thalweg", "__main__.py")
    return ("thalweg", *map(without_secrets, sys.argv[1:])) if ours else ()


def without_secrets(text: str) -> str:
    """The same without the hub's tokens, and without what a URL says of who asks."""
    return SECRET.sub(HIDDEN, text)


def versions(*packages: str) -> dict[str, str]:
    """Versions of the packages that numbers depend on: those of every experiment, and ``packages``."""
    known = {"python": platform.python_version()}
    for package in (*_ALWAYS, *packages):
        try:
            known[package] = version(package)
        except PackageNotFoundError:  # a checkout that was never installed
            continue
    return known


def hardware() -> dict[str, Any]:
    """The machine: processor, cores in use, accelerators."""
    import torch  # versions and the command line are known without

    facts: dict[str, Any] = {
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if ranks.size() > 1:
        facts["processes"] = ranks.size()
    if torch.cuda.is_available():
        facts["cuda"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return facts

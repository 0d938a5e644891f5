"""What a model's name means, decided without torch and without the hub: something here, or a repository on the hub."""

import os
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cyclopts import Parameter

from thalweg.errors import ModelError
from thalweg.paths import is_directory, is_there

__all__ = ["MODEL", "MODEL_OR_RUN", "local_path"]

OF_FILES = (".gguf", ".safetensors", ".bin", ".pt", ".json")


def local_path(name: str) -> Path | None:
    """The path that ``name`` means, or None where it is a hub id, which is known by its name alone.

    A path is what is there, what begins with ``.``, ``/`` or ``~``, has more than one slash or the ending of a weight
    file, or whose first part is a folder here.

    Raises:
        ModelError: there is nothing at the path.

    Example:
        >>> local_path("EleutherAI/pythia-410m") is None
        True
    """
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - Path's own raises for a user who is not known
    if is_there(path):
        return path
    first, slash, _ = name.partition("/")
    file = name.lower().endswith(OF_FILES)
    why = ""
    if not (file or name.startswith((".", "/", "~")) or name.count("/") > 1):
        if not (slash and is_directory(first)):
            return None
        why = f" ({first} is a folder here, so that the hub is not asked)"
    raise ModelError(
        f"there is no {'file' if file else 'directory'} {name}{why}. "
        f"{_nearest(path) or 'Give a directory with config.json, or a hub id.'}"
    )


def _nearest(path: Path) -> str:
    there = list[str]()
    with suppress(OSError):
        there = [other.name for other in path.parent.iterdir()]
    return "".join(f"Did you mean {path.parent / near}?" for near in get_close_matches(path.name, there, n=1))


def _there(_: Any, given: str | Sequence[str] | None) -> None:
    """What is meant for a path leads somewhere: told before torch is imported."""
    for name in [given] if isinstance(given, str) else given or ():
        local_path(name)


MODEL = Parameter(name="MODEL", validator=_there)
MODEL_OR_RUN = Parameter(name="MODEL|RUN", validator=_there)

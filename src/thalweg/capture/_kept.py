"""Identities of weights that were computed before, in the user's cache: one small file each."""

import hashlib
import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

WHOLE = re.compile(r"sha256:[0-9a-f]{64}\n")
FOLDERS = {"win32": ("LOCALAPPDATA", "AppData/Local"), "darwin": ("XDG_CACHE_HOME", "Library/Caches")}


def cache_directory() -> Path:
    """Where thalweg keeps what it can compute again: THALWEG_CACHE, or its folder in the system's place for caches."""
    if named := os.environ.get("THALWEG_CACHE"):
        return Path(named)
    variable, usual = FOLDERS.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))
    return Path(os.environ.get(variable) or Path.home() / usual) / "thalweg"


def key_of(files: Iterable[str]) -> str:
    """What an identity is kept under: a hash of the names of its files, as :func:`name_of` gives them."""
    return hashlib.sha256("\0".join(sorted(files)).encode()).hexdigest()


def name_of(file: Path) -> str:
    """A file by path, size and time of its last change; one of the hub's cache by its content, which names it there."""
    file = file.resolve()
    if file.parent.name == "blobs":
        return file.name
    found = file.stat()
    return f"{file}\0{found.st_size}\0{found.st_mtime_ns}"


def kept(key: str) -> str | None:
    """The identity that was kept; None where there is none, or a damaged one."""
    try:
        said = (cache_directory() / "weights" / key).read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return said.strip() if WHOLE.fullmatch(said) else None


def keep(key: str, identity: str) -> None:
    """Keep an identity; where nothing can be written it is computed again the next time."""
    folder = cache_directory() / "weights"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=folder, prefix=f"{key}.", delete=False) as written:
            written.write(f"{identity}\n")
        Path(written.name).replace(folder / key)

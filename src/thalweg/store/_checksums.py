"""Checksums of files: written down with what is finished, and compared before a file is used."""

import hashlib
from functools import cache
from pathlib import Path

from thalweg.errors import RunError
from thalweg.store._facts import Count, Facts


class FileFacts(Facts):
    """What a file held when it was written.

    Attributes:
        sha256: of its bytes, in hexadecimal digits.
        size: how many they are.
    """

    sha256: str
    size: Count


def facts_of(content: bytes) -> FileFacts:
    """Give what is written down of a file that holds these bytes."""
    return FileFacts(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def is_whole(path: Path, *known: FileFacts) -> bool:
    """Whether a file is there and holds one of the contents that were written.

    A file is read once in a process, and again only when it was changed.
    """
    try:
        seen = path.stat()
        fits = [facts for facts in known if facts.size == seen.st_size]
        return bool(fits) and _sha256(path, seen.st_size, seen.st_mtime_ns) in {facts.sha256 for facts in fits}
    except OSError:
        return False


def damaged(path: Path) -> str:
    """Say of a file that it is not what was written."""
    return f"{path} is {'damaged: it does not hold what was written' if path.exists() else 'missing'}"


def require_whole(path: Path, *known: FileFacts) -> Path:
    """Give the file back, or raise.

    Raises:
        RunError: it is missing, or not what was written.
    """
    if not is_whole(path, *known):
        raise RunError(f"{damaged(path)}. Run the same command again: it is measured anew.")
    return path


@cache
def _sha256(path: Path, size: int, changed: int) -> str:
    del size, changed  # a file that was written again is another one
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

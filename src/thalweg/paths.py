"""Paths on this machine, as a person gives them: whatever characters they hold, they name one place and no other."""

import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from thalweg.errors import DataError, ModelError, UsageError

__all__ = ["SUFFIXES", "TUNED_LENSES", "data_file", "directory_here", "lens_directory", "path_here"]

SUFFIXES = (".jsonl", ".parquet", ".tsv", ".txt")
"""Of files that hold data."""
TUNED_LENSES = "AlignmentResearch/tuned-lens"
"""Where tuned lenses are published."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def path_here(what: str, given: str | Path) -> Path:
    """Give a path that a person gave; a URL is none.

    Args:
        what: it is for, such as ``--out``.
        given: as it was given.

    Raises:
        UsageError: it is a URL.

    Example:
        >>> path_here("--out", "runs/g[1]").name
        'g[1]'
    """
    if _URL.match(str(given)):
        raise UsageError(f"{what} expects a path on this machine; got the URL {given}. Copy it here, or from here.")
    return Path(given)


def directory_here(what: str, given: str | Path) -> Path:
    """Give a directory that a person gave; UsageError where there is none."""
    path = path_here(what, given)
    if not path.is_dir():
        raise UsageError(f"{what} {given} is no directory.{_nearest(path, Path.is_dir, ' ')}")
    return path


def data_file(data: str) -> Path | None:
    """Give the file that a person means, or None where it is a name: it is there, or it is written like one.

    Raises:
        DataError: it is missing, a folder, or of a format that is not read.

    Example:
        >>> data_file("gsm8k") is None
        True
    """
    path = path_here("--data", data)
    path = path.expanduser() if path.parts[:1] == ("~",) else path
    if not (path.exists() or data.lower().endswith(SUFFIXES) or data.startswith(("/", "./", "../", "~"))):
        return None
    expected = f"expected a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file"
    if path.is_dir():
        raise DataError(f"{path}: {expected}; got a folder. Name one file in it.")
    if not path.exists():
        got = "file" if path.parent.is_dir() else "folder"
        raise DataError(f"{path}: {expected}; got no such {got}. {_nearest(path, Path.is_file) or 'Check the path.'}")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: {expected}; got '{path.suffix or path.name}'. Convert it, or rename it if it is one.")
    return path


def lens_directory(given: str | Path) -> Path | None:
    """Give the directory of a tuned lens, or None where one of those is meant that are published.

    Raises:
        ModelError: it is neither.
    """
    directory = Path(given).expanduser()
    if directory.is_dir():
        return directory
    if str(given).partition(":")[0] == TUNED_LENSES:
        return None
    raise ModelError(
        f"--tuned {given}: expected a directory with config.json and params.pt, a run in which a lens was trained, or "
        f"{TUNED_LENSES}; got none of these."
    )


def _nearest(path: Path, kind: Callable[[Path], bool], before: str = "") -> str:
    there = [other.name for other in path.parent.iterdir() if kind(other)] if path.parent.is_dir() else []
    return "".join(f"{before}Did you mean {path.parent / near}?" for near in get_close_matches(path.name, there, n=1))

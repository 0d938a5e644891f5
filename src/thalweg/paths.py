"""Paths on this machine, as a person gives them: whatever characters they hold, they name one place and no other."""

import errno
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from thalweg.errors import DataError, ModelError, UsageError

__all__ = [
    "SUFFIXES",
    "TUNED_LENSES",
    "data_file",
    "directory_here",
    "file_here",
    "is_directory",
    "is_there",
    "lens_directory",
    "path_here",
]

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
        UsageError: it is a URL, or a name that no file can have.

    Example:
        >>> path_here("--out", "runs/g[1]").name
        'g[1]'
    """
    if _URL.match(str(given)):
        raise UsageError(f"{what} expects a path on this machine; got the URL {given}. Copy it here, or from here.")
    try:
        Path(given).lstat()
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"{what} expects a path; got {str(given)!r:.60}, a name that no file can have.") from error
    return Path(given)


def is_there(path: str | Path) -> bool:
    """Whether there is something at a path; at a name that no file can have there is nothing."""
    return os.path.exists(path)  # noqa: PTH110 - Path's own raises for such a name


def is_directory(path: str | Path) -> bool:
    """Whether there is a directory at a path; at a name that no file can have there is none."""
    return os.path.isdir(path)  # noqa: PTH112 - the same


_OTHERS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def file_here(path: Path, error: type[UsageError]) -> Path:
    """Give the path of a file, if it is one: whoever opens a pipe or a device may wait for ever, or read for ever.

    Args:
        path: as it will be opened.
        error: what is raised.

    Raises:
        OSError: there is nothing.
    """
    if other := _OTHERS.get(stat.S_IFMT(path.stat().st_mode)):
        raise error(f"{path}: expected a file; got {other}. Write what comes from it to a file, and give that.")
    return path


def directory_here(what: str, given: str | Path) -> Path:
    """Give a directory that a person gave; UsageError where there is none."""
    path = path_here(what, given)
    if not is_directory(path):
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
    if not (is_there(path) or data.lower().endswith(SUFFIXES) or data.startswith(("/", "./", "../", "~"))):
        return None
    expected = f"expected a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file"
    if is_directory(path):
        raise DataError(f"{path}: {expected}; got a folder. Name one file in it.")
    if not is_there(path):
        got = "file" if is_directory(path.parent) else "folder"
        raise DataError(f"{path}: {expected}; got no such {got}. {_nearest(path, Path.is_file) or 'Check the path.'}")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: {expected}; got '{path.suffix or path.name}'. Convert it, or rename it if it is one.")
    return file_here(path, DataError)


def lens_directory(given: str | Path) -> Path | None:
    """Give the directory of a tuned lens, or None where one of those is meant that are published.

    Raises:
        ModelError: it is neither.
    """
    directory = Path(os.path.expanduser(given))  # noqa: PTH111 - Path's own raises for a user who is not known
    if is_directory(directory):
        return directory
    if str(given).partition(":")[0] == TUNED_LENSES:
        return None
    raise ModelError(
        f"--tuned {given}: expected a directory with config.json and params.pt, a run in which a lens was trained, or "
        f"{TUNED_LENSES}; got none of these."
    )


def _nearest(path: Path, kind: Callable[[Path], bool], before: str = "") -> str:
    there = list[str]()
    with suppress(OSError):  # nowhere, or not to be listed
        there = [other.name for other in path.parent.iterdir() if kind(other)]
    return "".join(f"{before}Did you mean {path.parent / near}?" for near in get_close_matches(path.name, there, n=1))

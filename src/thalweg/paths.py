"""Paths on this machine, as a person gives them: whatever characters they hold, they name one place and no other."""

import re
from pathlib import Path

from thalweg.errors import UsageError

__all__ = ["path_here"]

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

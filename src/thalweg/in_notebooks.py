"""How do a run, findings and a section show themselves in a notebook? Whoever knows is told here from above."""

from collections.abc import Callable
from typing import Any

__all__ = ["HTML", "html_of"]

HTML: dict[str, Callable[[Any], str]] = {}
"""By kind, what gives its HTML."""


def html_of(kind: str, what: Any) -> str:
    """Give the HTML of something, as a notebook asks for it."""
    return HTML[kind](what)

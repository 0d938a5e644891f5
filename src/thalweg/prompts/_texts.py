"""Prompts given as a list of texts, where there is no file."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Texts:
    """Texts in memory, in their order."""

    texts: tuple[str, ...]

    def fields(self) -> tuple[str, ...]:
        """The one field."""
        return ("text",)

    def records(self, fields: tuple[str, ...], start: int, stop: int | None) -> Iterator[Mapping[str, object]]:  # noqa: ARG002 (there is one field)
        """Each text as a record."""
        yield from ({"text": text} for text in self.texts[start:stop])

    def count(self) -> int:
        """How many there are."""
        return len(self.texts)

    def identity(self) -> dict[str, str | None]:
        """The hash of the texts."""
        return {"sha256": hashlib.sha256(json.dumps(self.texts).encode()).hexdigest()}

"""One row of the data: a text, or the reason why there is none."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

FIELD_MISSING = "field missing"
NOT_TEXT = "field is not text"
EMPTY = "empty text"
NOT_UNICODE = "text is not valid Unicode"
NO_TOKENS = "no tokens"


@dataclass(frozen=True)
class Row:
    """A row of the data as read.

    Attributes:
        number: 0-based row number, the ``prompt`` column of every table.
        text: The prompt, or None if the row is skipped.
        reason: Why the row is skipped, or None.
    """

    number: int
    text: str | None
    reason: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A row that gives no prompt, and why: what the run header counts."""

    row: int
    reason: str


@runtime_checkable
class Reader(Protocol):
    """What every format offers: its records by row number, and what identifies it.

    ``records`` opens the data anew at each call.
    """

    def fields(self) -> tuple[str, ...]:
        """The names a text field can be chosen from, in the data's own order; none if there is no row."""
        ...

    def records(self, fields: tuple[str, ...], start: int, stop: int | None) -> Iterator[Mapping[str, object]]:
        """Records [start, stop), each holding at least those of ``fields`` that it has."""
        ...

    def count(self) -> int | None:
        """How many rows there are, or None where only reading them all would tell."""
        ...

    def identity(self) -> dict[str, str | None]:
        """What the rows depend on, for the run header; hashed into the run's identity."""
        ...

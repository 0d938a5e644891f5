r"""One row of the data: a text, or the reason why there is none; and which fields make the text.

A template is one field, or several joined by a newline, as the paper joins GSM8K's question and answer. It is recorded
as ``{question}\n{answer}``. A person chooses fields with ``question+answer``, and reaches into nested records with
a dot: ``question.stem``.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from thalweg.errors import DataError

FIELD_MISSING = "field missing"
NOT_TEXT = "field is not text"
EMPTY = "empty text"
NOT_UNICODE = "text is not valid Unicode"
NO_TOKENS = "no tokens"
PREFERRED: tuple[tuple[str, ...], ...] = (("text",), ("content",), ("question", "answer"), ("problem", "solution"))
KNOWN_FIELDS = frozenset(field for fields in PREFERRED for field in fields)


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


class Reader(ABC):
    """What every format offers: its records by row number, and what identifies it."""

    def fields(self) -> tuple[str, ...]:
        """The names a text field can be chosen from, in the data's own order; none if there is no row."""
        return tuple(next(self.records((), 0, 1), {}))

    def only(self, fields: Sequence[str]) -> "Reader":  # noqa: ARG002 - what is no file can be narrowed
        """The same where no more than these is read; a file is identified by its bytes, and stays as it is."""
        return self

    @abstractmethod
    def records(self, fields: tuple[str, ...], start: int, stop: int | None) -> Iterator[Mapping[str, object]]:
        """Records [start, stop), each holding at least those of ``fields`` that it has; opens the data anew."""

    @abstractmethod
    def count(self) -> int | None:
        """How many rows there are, or None where only reading them all would tell."""

    @abstractmethod
    def identity(self) -> dict[str, str | None]:
        """What the rows depend on, for the run header; hashed into the run's identity."""


def required_fields(name: str, reader: Reader) -> tuple[str, ...]:
    """The fields of data that must have a row."""
    fields = reader.fields()
    if not fields:
        raise DataError(f"{name}: expected at least one row with fields; got none. Check that it is the right one.")
    return fields


def hash_of(origin: Mapping[str, str | None]) -> str:
    """The sha256 of a file's bytes, or of what else identifies the rows."""
    return origin.get("sha256") or hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Template:
    """Fields joined by a newline."""

    fields: tuple[str, ...]

    @property
    def pattern(self) -> str:
        r"""How the template is recorded, for example ``{question}\n{answer}``."""
        return "\n".join(f"{{{field}}}" for field in self.fields)

    @property
    def columns(self) -> tuple[str, ...]:
        """The top-level names behind the fields and their dotted paths: what a reader has to load."""
        return tuple(dict.fromkeys(name for field in self.fields for name in (field, field.split(".")[0])))

    def row(self, number: int, record: Mapping[str, object]) -> Row:
        """The prompt that a record gives, or the reason why it gives none."""
        parts = [value_of(record, field) for field in self.fields]
        if any(part is None for part in parts):
            return Row(number, None, FIELD_MISSING)
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) < len(parts):
            return Row(number, None, NOT_TEXT)
        text = "\n".join(texts)
        if not text.strip():
            return Row(number, None, EMPTY)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:  # JSON can spell half a surrogate pair, which no tokenizer accepts
            return Row(number, None, NOT_UNICODE)
        return Row(number, text)


def choose_template(name: str, fields: tuple[str, ...], text_field: str | None) -> Template:
    """The template for data with these fields: those asked for, or the first of ``PREFERRED`` that is there."""
    if text_field is None:
        for wanted in PREFERRED:
            if set(wanted) <= set(fields):
                return Template(wanted)
        raise DataError(
            f"{name}: expected a field text, content, question + answer or problem + solution; "
            f"got the fields {listed(fields)}. Name one with --text-field."
        )
    wanted = (text_field,) if text_field in fields else tuple(part.strip() for part in text_field.split("+"))
    for field in wanted:
        if field not in fields and field.split(".")[0] not in fields:
            raise DataError(f"{name}: no field '{field}'; got the fields {listed(fields)}.{nearest(field, fields)}")
    return Template(wanted)


def value_of(record: Mapping[str, object], field: str) -> object:
    """The value under a field name, or under a dotted path if no field has that very name."""
    if field in record:
        return record[field]
    value: object = record
    for part in field.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def listed(fields: tuple[str, ...]) -> str:
    shown = ", ".join(fields[:20]) if fields else "(none)"
    return shown + (f" and {len(fields) - 20} more" if len(fields) > 20 else "")


def nearest(field: str, fields: tuple[str, ...]) -> str:
    close = get_close_matches(field, fields, n=1)
    return f" Did you mean --text-field {close[0]}?" if close else " Name one of these with --text-field."

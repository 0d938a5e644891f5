r"""One row of the data: a text, or the reason why there is none; and which fields make the text.

A template is one field, or several joined by a newline, as the paper joins GSM8K's question and answer. It is recorded
as ``{question}\n{answer}``. A person chooses fields with ``question+answer``, and reaches into nested records with
a dot: ``question.stem``, or the first of a list, ``messages.0.content``. Or a row is a conversation, which the model's
own chat template makes a text of.
"""

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from threading import Timer
from typing import TypeGuard, TypeVar

from thalweg.errors import DataError

FIELD_MISSING = "field missing"
NO_PARTS = "field is text, which has no parts"
NO_MESSAGES = "no messages with a role each"
MESSAGES = "messages"
NOT_TEXT = "field is not text"
EMPTY = "empty text"
NOT_UNICODE = "text is not valid Unicode"
NO_TOKENS = "no tokens"
PREFERRED: tuple[tuple[str, ...], ...] = (("text",), ("content",), ("question", "answer"), ("problem", "solution"))
PATIENCE = 10.0
"""Seconds of silence while data are read."""
Found = TypeVar("Found")
KNOWN_FIELDS = frozenset(field for fields in PREFERRED for field in fields)
_log = logging.getLogger("thalweg.prompts")


@dataclass(frozen=True)
class Row:
    """A row of the data as read.

    Attributes:
        number: 0-based row number, the ``prompt`` column of every table.
        text: The prompt, or None if the row is skipped.
        reason: Why the row is skipped, or None.
        messages: In place of a text, a conversation for the chat template.
    """

    number: int
    text: str | None
    reason: str | None = None
    messages: Sequence[Mapping[str, object]] | None = None


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

    def heads(self) -> Iterator[tuple[str, ...]]:
        """The same row by row, where rows need not have the same; otherwise once."""
        yield self.fields()

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


def first_found(name: str, reader: Reader, choose: Callable[[tuple[str, ...]], Found]) -> Found:
    """What is chosen among the fields of the first row, or of as many as it takes: one row may lack what others have.

    The error of ``choose`` is raised where the fields of all rows are not enough.
    """
    known, refusal = dict[str, None](), None
    for fields in reader.heads():
        if known.keys() >= set(fields):
            continue
        known |= dict.fromkeys(fields)
        try:
            return choose(tuple(known))
        except DataError as error:
            refusal = error
    raise refusal or DataError(
        f"{name}: expected at least one row with fields; got none. Check that it is the right one."
    )


@contextmanager
def told_to_wait(name: str) -> Iterator[None]:
    """Say so where reading takes long: data may be large, or lie where nobody answers."""
    said = "still reading %s after %g seconds; Ctrl-C stops it."
    timer = Timer(PATIENCE, _log.warning, (said, name, PATIENCE))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


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
            in_text = any(_ends_in_text(record, field) for field in self.fields)
            return Row(number, None, NO_PARTS if in_text else FIELD_MISSING)
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


@dataclass(frozen=True)
class Conversation(Template):
    """One field with messages, a text by the model's own chat template."""

    @property
    def pattern(self) -> str:
        """How the template is recorded."""
        return f"chat template of {{{self.fields[0]}}}"

    def row(self, number: int, record: Mapping[str, object]) -> Row:
        """The messages of a record, or the reason why it has none."""
        messages = value_of(record, self.fields[0])
        if messages is None:
            return Row(number, None, FIELD_MISSING)
        every = list(messages) if _is_list(messages) else []
        with_role = [message for message in every if isinstance(message, Mapping) and message.get("role")]
        if not every or len(with_role) < len(every):
            return Row(number, None, NO_MESSAGES)
        return Row(number, None, messages=with_role)


def choose_template(name: str, fields: tuple[str, ...], text_field: str | None, *, chat: bool = False) -> Template:
    """The template for data with these fields: those asked for, or the first of ``PREFERRED`` that is there."""
    if chat:
        field = text_field or MESSAGES
        if field in fields or field.split(".")[0] in fields:
            return Conversation((field,))
        raise DataError(
            f"{name}: --chat: expected a field {field} with a list of messages; got the fields {listed(fields)}. "
            "Name it with --text-field, or leave --chat out."
        )
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
    """The value under a field name, or under a dotted path if no field has that very name; None if there is none."""
    if field in record:
        return record[field]
    value: object = record
    for part in field.split("."):
        value = _part_of(value, part)
    return value


def _part_of(value: object, part: str) -> object:
    """One part of a record or of a list, whose parts are numbered from 0."""
    if isinstance(value, Mapping):
        return value.get(part)
    place = place_of(part, value) if _is_list(value) else None
    return value[place] if _is_list(value) and place is not None else None


def place_of(part: str, among: Sequence[object]) -> int | None:
    """The place that a number names, None where there is none; Python reads no number of thousands of digits."""
    place = int(part) if part.isdecimal() and len(part) < 10 else len(among)
    return place if place < len(among) else None


def _ends_in_text(record: Mapping[str, object], field: str) -> bool:
    value: object = record
    for part in field.split(".") if field not in record else ():
        if isinstance(value, str):
            return True
        value = _part_of(value, part)
    return False


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def listed(fields: tuple[str, ...]) -> str:
    shown = ", ".join(fields[:20]) if fields else "(none)"
    return shown + (f" and {len(fields) - 20} more" if len(fields) > 20 else "")


def nearest(field: str, fields: tuple[str, ...]) -> str:
    close = get_close_matches(field, fields, n=1)
    return f" Did you mean --text-field {close[0]}?" if close else " Name one of these with --text-field."

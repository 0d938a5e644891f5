r"""Which fields make a prompt.

A template is one field, or several joined by a newline, as the paper joins GSM8K's question and answer. It is recorded
as ``{question}\n{answer}``. A person chooses fields with ``question+answer``, and reaches into nested records with
a dot: ``question.stem``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from thalweg.errors import DataError
from thalweg.prompts._row import EMPTY, FIELD_MISSING, NOT_TEXT, NOT_UNICODE, Row

PREFERRED: tuple[tuple[str, ...], ...] = (("text",), ("content",), ("question", "answer"), ("problem", "solution"))
KNOWN_FIELDS = frozenset(field for fields in PREFERRED for field in fields)


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
        parts = [_value(record, field) for field in self.fields]
        if any(part is None for part in parts):
            return Row(number, None, FIELD_MISSING)
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) < len(parts):
            return Row(number, None, NOT_TEXT)
        text = "\n".join(texts)
        reason = _fault(text)
        return Row(number, None, reason) if reason else Row(number, text)


def choose_template(name: str, fields: tuple[str, ...], text_field: str | None) -> Template:
    """The template for data with these fields.

    Args:
        name: The data, as an error should call it.
        fields: The fields that are there.
        text_field: What the person asked for: a field, several joined by ``+``, or None for the first of ``PREFERRED``
            that is there.

    Raises:
        DataError: No field is there that could be meant; the message lists the fields and the nearest one.
    """
    if text_field is None:
        for wanted in PREFERRED:
            if set(wanted) <= set(fields):
                return Template(wanted)
        raise DataError(
            f"{name}: expected a field text, content, question + answer or problem + solution; "
            f"got the fields {_listed(fields)}. Name one with --text-field."
        )
    wanted = (text_field,) if text_field in fields else tuple(part.strip() for part in text_field.split("+"))
    for field in wanted:
        if field not in fields and field.split(".")[0] not in fields:
            raise DataError(f"{name}: no field '{field}'; got the fields {_listed(fields)}.{_nearest(field, fields)}")
    return Template(wanted)


def _value(record: Mapping[str, object], field: str) -> object:
    """The value under a field name, or under a dotted path if no field has that very name."""
    if field in record:
        return record[field]
    value: object = record
    for part in field.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _fault(text: str) -> str | None:
    """What keeps a text from being a prompt."""
    if not text.strip():
        return EMPTY
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # JSON can spell half a surrogate pair, which no tokenizer accepts
        return NOT_UNICODE
    return None


def _listed(fields: tuple[str, ...]) -> str:
    shown = ", ".join(fields[:20]) if fields else "(none)"
    return shown + (f" and {len(fields) - 20} more" if len(fields) > 20 else "")


def _nearest(field: str, fields: tuple[str, ...]) -> str:
    close = get_close_matches(field, fields, n=1)
    return f" Did you mean --text-field {close[0]}?" if close else " Name one of these with --text-field."

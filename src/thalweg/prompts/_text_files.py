"""The three text formats: .jsonl, .tsv, .txt.

Row numbers count what each format calls a row: a JSON line, a line below the header, a line that is not blank.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from thalweg.errors import DataError
from thalweg.prompts._lines import decoded, raw_lines, refuse_binary, text_lines, unreadable
from thalweg.prompts._local import LocalFile
from thalweg.prompts._template import KNOWN_FIELDS

LINE = "line"
WHOLE = "file"


@dataclass(frozen=True)
class Jsonl(LocalFile):
    """One JSON object a line."""

    def fields(self) -> tuple[str, ...]:
        """The keys of the first row."""
        return tuple(next(self.records((), 0, 1), {}))

    def records(self, fields: tuple[str, ...], start: int, stop: int | None) -> Iterator[Mapping[str, object]]:  # noqa: ARG002 (a line is parsed whole)
        """The objects on lines that are not blank; lines before ``start`` are passed over unparsed."""
        for number, line in islice(raw_lines(self.path), start, stop):
            yield self._parsed(number, line)

    def count(self) -> int:
        """How many lines are not blank."""
        return sum(1 for _ in raw_lines(self.path))

    def _parsed(self, number: int, line: bytes) -> Mapping[str, object]:
        text = decoded(self.path, line, f"line {number}")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            place = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
            raise self._broken(number, f"{_excerpt(text)} ({place})") from error
        if not isinstance(value, dict):
            raise self._broken(number, _excerpt(text))
        return value

    def _broken(self, number: int, found: str) -> DataError:
        return DataError(f"{self.path}, line {number}: expected one JSON object a line; got {found}. Repair that line.")


@dataclass(frozen=True)
class Tsv(LocalFile):
    """Columns parted by tabs; quotes are characters like any other.

    The first line is a header if one of its cells is a field name that thalweg looks for, or the one asked for. Without
    a header the columns are called ``column 0``, ``column 1``, ...
    """

    header: tuple[str, ...] | None
    names: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, text_field: str | None) -> "Tsv":
        """Look at the first line and decide whether it is a header."""
        _, first = next(text_lines(path), (0, ""))
        cells = tuple(first.split("\t"))
        asked = set(text_field.split("+")) | {text_field} if text_field else set()
        if (KNOWN_FIELDS | asked) & set(cells) - {cell for cell in cells if cell.isdecimal()}:
            return cls(path, cells, cells)
        return cls(path, None, tuple(f"column {index}" for index in range(len(cells))))

    def asked(self, text_field: str | None) -> str | None:
        """The text field with column numbers replaced by names; column 0 where there is neither header nor choice."""
        if text_field is None:
            return None if self.header else self.names[0]
        return "+".join(self._name(part.strip()) for part in text_field.split("+"))

    def fields(self) -> tuple[str, ...]:
        """The header's cells, or ``column 0``, ``column 1``, ..."""
        return self.names if next(self.records((), 0, 1), None) else ()

    def records(self, fields: tuple[str, ...], start: int, stop: int | None) -> Iterator[Mapping[str, object]]:  # noqa: ARG002 (a line is split whole)
        """The lines below the header; a line with fewer cells lacks the last fields."""
        skip = int(self.header is not None)
        for _, line in islice(text_lines(self.path), start + skip, None if stop is None else stop + skip):
            yield dict(zip(self.names, line.split("\t"), strict=False))

    def count(self) -> int:
        """How many lines below the header are not blank."""
        return sum(1 for _ in raw_lines(self.path)) - int(self.header is not None)

    def _name(self, part: str) -> str:
        if not part.isdecimal() or part in self.names:
            return part
        if int(part) >= len(self.names):
            columns = f"{len(self.names)} columns, 0 to {len(self.names) - 1}"
            raise DataError(f"{self.path}: no column {part}; got {columns}. Name one of these with --text-field.")
        return self.names[int(part)]


@dataclass(frozen=True)
class Txt(LocalFile):
    """One prompt a line, or the whole file as one prompt."""

    whole: bool

    def asked(self, text_field: str | None) -> str:
        """The one pseudo-field of plain text, which is not for a person to choose."""
        if text_field is not None:
            raise DataError(f"{self.path}: expected no --text-field, plain text has no fields; got {text_field}.")
        return WHOLE if self.whole else LINE

    def fields(self) -> tuple[str, ...]:
        """The pseudo-field, if there is any text."""
        return tuple(next(self.records((), 0, 1), {}))

    def records(self, fields: tuple[str, ...], start: int, stop: int | None) -> Iterator[Mapping[str, object]]:  # noqa: ARG002 (there is one field)
        """The lines that are not blank, or one record with the whole text, byte for byte."""
        rows = self._file() if self.whole else ({LINE: text} for _, text in text_lines(self.path))
        return islice(rows, start, stop)

    def count(self) -> int:
        """How many lines are not blank, or 1."""
        return 1 if self.whole else sum(1 for _ in raw_lines(self.path))

    def _file(self) -> Iterator[Mapping[str, object]]:
        refuse_binary(self.path)
        try:
            raw = self.path.read_bytes()
        except OSError as error:
            raise unreadable(self.path, error) from error
        if raw.strip():
            yield {WHOLE: decoded(self.path, raw.removeprefix(b"\xef\xbb\xbf"), "the file")}


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")

"""The local formats: .jsonl, .tsv, .txt, .parquet.

Row numbers count what each format calls a row: a JSON line, a line below the header, a line that is not blank, a row of
the table. A line of UTF-8 text ends at a newline (a carriage return before it goes with it) and nowhere else: the other
characters that Unicode counts as line ends are part of the text. Blank lines are left out: in no text format are they
rows.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg.errors import DataError
from thalweg.prompts._rows import KNOWN_FIELDS, Reader, place_of

if TYPE_CHECKING:
    import pyarrow.parquet

LINE = "line"
WHOLE = "file"
_HEAD = 65536
_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class LocalFile(Reader):
    """A file that holds prompts."""

    path: Path

    def count(self) -> int:
        return sum(1 for _ in raw_lines(self.path))

    def asked(self, text_field: str | None) -> str | None:
        """What a person's ``--text-field`` means in this format; None leaves the choice to what is there."""
        return text_field

    def identity(self) -> dict[str, str | None]:
        """The hash of the file's bytes: its name and its folder change no number."""
        with opened(self.path) as file:
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}


@dataclass(frozen=True)
class Jsonl(LocalFile):
    """One JSON object a line."""

    def records(self, fields: tuple[str, ...], start: int, stop: int | None) -> Iterator[Mapping[str, object]]:  # noqa: ARG002 (a line is parsed whole)
        """The objects on lines that are not blank; lines before ``start`` are passed over unparsed."""
        for number, line in islice(raw_lines(self.path), start, stop):
            yield self._parsed(number, line)

    def heads(self) -> Iterator[tuple[str, ...]]:
        return (tuple(record) for record in self.records((), 0, None))

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
        return self.names if next(self.records((), 0, 1), None) else ()

    def records(self, fields: tuple[str, ...], start: int, stop: int | None) -> Iterator[Mapping[str, object]]:  # noqa: ARG002 (a line is split whole)
        """The lines below the header; a line with fewer cells lacks the last fields."""
        skip = int(self.header is not None)
        for _, line in islice(text_lines(self.path), start + skip, None if stop is None else stop + skip):
            yield dict(zip(self.names, line.split("\t"), strict=False))

    def count(self) -> int:
        return super().count() - int(self.header is not None)

    def _name(self, part: str) -> str:
        if not part.isdecimal() or part in self.names:
            return part
        place = place_of(part, self.names)
        if place is None:
            columns = f"{len(self.names)} columns, 0 to {len(self.names) - 1}"
            raise DataError(f"{self.path}: no column {part:.20}; got {columns}. Name one of these with --text-field.")
        return self.names[place]


@dataclass(frozen=True)
class Txt(LocalFile):
    """One prompt a line, or the whole file as one prompt."""

    whole: bool

    def asked(self, text_field: str | None) -> str:
        """The one pseudo-field of plain text, which is not for a person to choose."""
        if text_field is not None:
            raise DataError(f"{self.path}: expected no --text-field, plain text has no fields; got {text_field}.")
        return WHOLE if self.whole else LINE

    def records(self, fields: tuple[str, ...], start: int, stop: int | None) -> Iterator[Mapping[str, object]]:  # noqa: ARG002 (there is one field)
        """The lines that are not blank, or one record with the whole text, byte for byte."""
        rows = self._file() if self.whole else ({LINE: text} for _, text in text_lines(self.path))
        return islice(rows, start, stop)

    def count(self) -> int:
        return 1 if self.whole else super().count()

    def _file(self) -> Iterator[Mapping[str, object]]:
        refuse_binary(self.path)
        with opened(self.path) as file:
            raw = file.read()
        if raw.strip():
            yield {WHOLE: decoded(self.path, raw.removeprefix(b"\xef\xbb\xbf"), "the file")}


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")


@dataclass(frozen=True)
class Parquet(LocalFile):
    """A Parquet file; nested columns are reached with dots."""

    def fields(self) -> tuple[str, ...]:
        with self._opened() as file:
            return tuple(file.schema_arrow.names) if file.metadata.num_rows else ()

    def records(self, fields: tuple[str, ...], start: int, stop: int | None) -> Iterator[Mapping[str, object]]:
        """Rows with the wanted columns alone; row groups that end before ``start`` are never read."""
        with self._opened() as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            first, passed = _group_of(start, sizes)
            columns = [name for name in file.schema_arrow.names if name in fields]
            groups = list(range(first, len(sizes)))
            parts = file.iter_batches(_ROWS_AT_ONCE, row_groups=groups, columns=columns)
            rows = self._rows(parts, passed)
            yield from islice(rows, start - passed, None if stop is None else stop - passed)

    def _rows(self, parts: Iterable[Any], number: int) -> Iterator[Mapping[str, object]]:
        """The rows of batches, as far as Python has something for their values."""
        for part in parts:
            try:
                rows = part.to_pylist()
            except Exception:  # in one of them is a text that is not UTF-8, a time that no calendar has
                rows = (self._row(part.slice(place, 1), number + place) for place in range(part.num_rows))
            yield from rows
            number += part.num_rows

    def _row(self, part: Any, number: int) -> Mapping[str, object]:
        try:
            return part.to_pylist()[0]
        except UnicodeDecodeError as error:
            found = f"expected UTF-8 text; got byte 0x{error.object[error.start]:02x}"
        except Exception as error:
            found = f"expected a value that Python has too; got one that it has not ({error})"
        raise DataError(f"{self.path}, row {number}: {found}. Repair that row.")

    def count(self) -> int:
        with self._opened() as file:
            return file.metadata.num_rows

    @contextmanager
    def _opened(self) -> "Iterator[pyarrow.parquet.ParquetFile]":
        import pyarrow
        import pyarrow.parquet

        try:
            # opened here: pyarrow takes a path such as s3:x for a place on the net
            with self.path.open("rb") as content, pyarrow.parquet.ParquetFile(content) as file:
                yield file
        except (pyarrow.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.strerror:
                raise _unreadable(self.path, error) from error
            found = " ".join(str(error).split())  # pyarrow calls a broken file an OSError too, without a number
            raise DataError(f"{self.path}: expected a whole Parquet file; got: {found} Write it anew.") from error


def _group_of(start: int, sizes: list[int]) -> tuple[int, int]:
    """The row group that holds row ``start``, and how many rows come before that group."""
    passed = 0
    for group, size in enumerate(sizes):
        if passed + size > start:
            return group, passed
        passed += size
    return len(sizes), passed


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, without their ends, each with its 1-based number in the file."""
    for number, line in raw_lines(path):
        yield number, decoded(path, line, f"line {number}")


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """As ``text_lines``, not yet decoded: rows that are only passed over need no decoding."""
    refuse_binary(path)
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if text.strip():
                yield number, text.removesuffix(b"\n").removesuffix(b"\r")


def refuse_binary(path: Path) -> None:
    """Raise before a binary file is searched for its first newline."""
    with opened(path) as file:
        if b"\0" in file.read(_HEAD):
            raise _not_text(path, "NUL bytes")


def decoded(path: Path, raw: bytes, where: str) -> str:
    """Bytes of a file as text; an error names the file and the place."""
    if b"\0" in raw:
        raise _not_text(path, f"NUL bytes in {where}")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_text(path, f"byte 0x{raw[error.start]:02x} in {where}") from error


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """A file to read, or the error for one that is there and cannot be opened or read."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(
        f"{path}: expected a readable file; got {error.strerror or error}. Check the file and its permissions."
    )


def _not_text(path: Path, found: str) -> DataError:
    return DataError(
        f"{path}: expected UTF-8 text; got {found}. Convert the file to UTF-8, or check that it is the right one."
    )

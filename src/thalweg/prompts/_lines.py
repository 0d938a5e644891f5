"""Lines of a UTF-8 text file, with their numbers, and one clear line for a file that is not text.

A line ends at a newline (a carriage return before it goes with it) and nowhere else: the other characters that Unicode
counts as line ends are part of the text. Blank lines are left out: in no text format are they rows.
"""

from collections.abc import Iterator
from pathlib import Path

from thalweg.errors import DataError

_HEAD = 65536


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, without their ends, each with its 1-based number in the file.

    Raises:
        DataError: The file is binary, is not UTF-8, or cannot be read; the line is named.
    """
    for number, line in raw_lines(path):
        yield number, decoded(path, line, f"line {number}")


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """As ``text_lines``, not yet decoded: rows that are only passed over need no decoding."""
    refuse_binary(path)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if text.strip():
                    yield number, text.removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise unreadable(path, error) from error


def refuse_binary(path: Path) -> None:
    """Raise before a binary file is searched for its first newline."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise unreadable(path, error) from error
    if b"\0" in head:
        raise _not_text(path, "NUL bytes")


def decoded(path: Path, raw: bytes, where: str) -> str:
    """Bytes of a file as text.

    Raises:
        DataError: They are not UTF-8 text; the message names the file and the place.
    """
    if b"\0" in raw:
        raise _not_text(path, f"NUL bytes in {where}")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_text(path, f"byte 0x{raw[error.start]:02x} in {where}") from error


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file that is there and cannot be opened or read."""
    return DataError(
        f"{path}: expected a readable file; got {error.strerror or error}. Check the file and its permissions."
    )


def _not_text(path: Path, found: str) -> DataError:
    return DataError(
        f"{path}: expected UTF-8 text; got {found}. Convert the file to UTF-8, or check that it is the right one."
    )

"""File names for models and data sets whose names come from anywhere."""

import hashlib
import re
from dataclasses import dataclass

from thalweg.store._files import TEMPORARY

_LONGEST = 48
_RECORD = ".json"
_SLUG = r"[A-Za-z0-9_-]+-[0-9a-f]{8}"
_FOLDER = re.compile(rf"{_SLUG}\.{_SLUG}")
_OURS = re.compile(r"\d{9,}-\d{9,}(\.\w+\.parquet|\.json)")


@dataclass(frozen=True, order=True)
class Shard:
    """The rows of one data set that one model was measured on, in one piece.

    Attributes:
        model: the model's name as in the header.
        revision: its revision as in the header.
        data: the data set's name as in the header.
        first_row: first row of the data as read, 0-based.
        stop_row: one past the last row. Rows in between that gave no prompt count as done.
    """

    model: str
    revision: str
    data: str
    first_row: int
    stop_row: int

    def __post_init__(self) -> None:
        if not 0 <= self.first_row < self.stop_row:
            raise ValueError(f"expected 0 <= first_row < stop_row, got {self.first_row} and {self.stop_row}")


def slug(*names: str) -> str:
    """Give a file name that is safe, readable, and different for different names.

    Args:
        names: what is to be named, such as a model and its revision; the first one stays readable.

    Returns:
        Letters, digits, ``-`` and ``_`` of the first name, and eight hexadecimal digits that stand for all of them.
    """
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", names[0]).strip("-")[-_LONGEST:].strip("-")
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{readable or 'unnamed'}-{digest}"


def pair_folder(model: str, revision: str, data: str) -> str:
    """Give the name of the folder with the parts of one model on one data set."""
    return f"{slug(model, revision)}.{slug(data)}"


def is_pair_folder(name: str) -> bool:
    """Whether a folder may hold parts."""
    return _FOLDER.fullmatch(name) is not None


def part_name(first_row: int, stop_row: int, table: str) -> str:
    """Give the file name of a shard's rows of one table."""
    return f"{_rows(first_row, stop_row)}.{table}.parquet"


def record_name(first_row: int, stop_row: int) -> str:
    """Give the file name of a shard's record."""
    return f"{_rows(first_row, stop_row)}{_RECORD}"


def is_record(name: str) -> bool:
    """Whether a file is a shard's record."""
    return _OURS.fullmatch(name) is not None and name.endswith(_RECORD)


def is_ours(name: str) -> bool:
    """Whether a file in a folder of parts is one that a writer makes, whole or not."""
    return _OURS.fullmatch(name.removesuffix(TEMPORARY)) is not None


def _rows(first_row: int, stop_row: int) -> str:
    return f"{first_row:09d}-{stop_row:09d}"

"""File names for models and data sets whose names come from anywhere."""

import hashlib
import re
from dataclasses import dataclass

_LONGEST = 48
_ROWS = re.compile(r"\.(\d{9,})-(\d{9,})\.parquet\Z")


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


def part_prefix(model: str, revision: str, data: str) -> str:
    """Give what the parts of one model on one data set have in common in their names."""
    return f"{slug(model, revision)}.{slug(data)}"


def part_name(shard: Shard) -> str:
    """Give the file name of a shard's parts, the same in every table."""
    prefix = part_prefix(shard.model, shard.revision, shard.data)
    return f"{prefix}.{shard.first_row:09d}-{shard.stop_row:09d}.parquet"


def row_range(name: str, prefix: str) -> tuple[int, int] | None:
    """Read the row range out of a part's file name; None if it is no part of this prefix."""
    found = _ROWS.search(name)
    if found is None or name[: found.start()] != prefix:
        return None
    return int(found[1]), int(found[2])

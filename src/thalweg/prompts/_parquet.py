"""The .parquet format, read a batch of rows at a time."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from thalweg.errors import DataError
from thalweg.prompts._lines import unreadable
from thalweg.prompts._local import LocalFile

if TYPE_CHECKING:
    import pyarrow.parquet

_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Parquet(LocalFile):
    """A Parquet file; nested columns are reached with dots."""

    def fields(self) -> tuple[str, ...]:
        """The top-level columns."""
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
            rows = (row for part in parts for row in part.to_pylist())
            yield from islice(rows, start - passed, None if stop is None else stop - passed)

    def count(self) -> int:
        """The number of rows in the file's footer."""
        with self._opened() as file:
            return file.metadata.num_rows

    @contextmanager
    def _opened(self) -> "Iterator[pyarrow.parquet.ParquetFile]":
        import pyarrow
        import pyarrow.parquet

        try:
            with pyarrow.parquet.ParquetFile(self.path) as file:
                yield file
        except (pyarrow.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.strerror:
                raise unreadable(self.path, error) from error
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

"""Data that is in memory already: texts, records, and tables of polars, pandas or datasets.

Their hash is of what is read of them, so that the same texts are the same data, in a list or in a column.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from thalweg.errors import DataError
from thalweg.prompts._rows import Reader

NAME = "texts"
"""What tables call data that have no name of their own."""
EXPECTED = "expected a name, a file, a list of texts, a polars or pandas frame, or a datasets.Dataset"
_ROWS_AT_ONCE = 64
Record = Mapping[str, object]


@dataclass(frozen=True)
class Memory(Reader):
    """Rows in memory: the names of their fields, how many there are, and what gives some of the fields of a few."""

    names: tuple[str, ...]
    size: int
    part: Callable[[list[str], slice], Sequence[Record]]

    def fields(self) -> tuple[str, ...]:
        return self.names if self.size else ()

    def only(self, fields: Sequence[str]) -> "Memory":
        return replace(self, names=tuple(name for name in self.names if name in fields))

    def records(self, fields: Sequence[str], start: int, stop: int | None) -> Iterator[Record]:
        names, end = [name for name in self.names if name in fields], min(self.size, stop or self.size)
        for first in range(start, end, _ROWS_AT_ONCE):
            yield from self.part(names, slice(first, min(first + _ROWS_AT_ONCE, end)))

    def count(self) -> int:
        return self.size

    def identity(self) -> dict[str, str | None]:
        digest = hashlib.sha256()
        for record in self.records(self.names, 0, None):
            digest.update(f"{json.dumps(record, sort_keys=True, default=str)}\n".encode())
        return {"sha256": digest.hexdigest()}


def in_memory(data: Any) -> Memory:
    """Read what is no name of data.

    Raises:
        DataError: it is none of what can be read.
    """
    data = data.collect() if _is(data, "polars", "LazyFrame") else data
    if _is(data, "polars", "DataFrame"):
        return Memory(tuple(data.columns), data.height, lambda names, rows: data[rows].select(names).to_dicts())
    if _is(data, "pandas", "DataFrame"):
        return _of_pandas(data)
    if _is(data, "datasets", "Dataset"):
        return _of_datasets(data)
    if _is(data, "datasets", "DatasetDict"):
        splits = ", ".join(map(str, data))
        raise DataError(f"data: expected one split, such as data[{next(iter(data), 'train')!r}]; got all of {splits}.")
    for listed in ("to_list", "tolist"):  # a column of a frame, an array
        data = getattr(data, listed)() if hasattr(data, listed) else data
    if isinstance(data, str | Mapping) or not isinstance(data, Sequence):
        raise DataError(f"data: {EXPECTED}; got {type(data).__name__}.")
    return _of_list(list(data))


def _of_list(rows: list[Any]) -> Memory:
    """Texts, or records with a text in one of their fields."""
    kinds = (str, Mapping)
    kind = next((kind for kind in kinds if rows and isinstance(rows[0], kind)), str)
    if not rows:
        raise DataError("data: expected a list of texts, at least one; got none.")
    for number, row in enumerate(rows):
        if not isinstance(row, kind):
            what = "texts" if kind is str else "records"
            raise DataError(f"data: expected a list of {what}; item {number} is a {type(row).__name__}: {row!r:.40}.")
    if kind is str:
        return Memory(("text",), len(rows), lambda names, part: [dict.fromkeys(names, text) for text in rows[part]])
    fields = tuple(dict.fromkeys(str(name) for row in rows for name in row))
    return Memory(fields, len(rows), lambda names, part: [{n: row.get(n) for n in names} for row in rows[part]])


def _of_pandas(frame: Any) -> Memory:
    columns = {str(name): place for place, name in enumerate(frame.columns)}

    def part(names: list[str], rows: slice) -> list[dict[str, object]]:
        some = frame.iloc[rows, [columns[name] for name in names]]
        values = some.astype(object).where(some.notna(), None).itertuples(index=False, name=None)
        return [dict(zip(names, row, strict=True)) for row in values]

    return Memory(tuple(columns), len(frame), part)


def _of_datasets(dataset: Any) -> Memory:
    plain = dataset.with_format(None)

    def part(names: list[str], rows: slice) -> list[dict[str, object]]:
        values = plain.select_columns(names)[rows]
        return [dict(zip(names, row, strict=True)) for row in zip(*(values[name] for name in names), strict=True)]

    return Memory(tuple(dataset.column_names), len(dataset), part)


def _is(data: object, module: str, kind: str) -> bool:
    """Whether it is of a class of a package, which is not imported for that."""
    known = getattr(sys.modules.get(module), kind, None)
    return known is not None and isinstance(data, known)

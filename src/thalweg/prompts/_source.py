"""From what a person types after ``--data``, or gives in Python, to rows with a name and a hash.

A short name comes first, then a path (it exists, or looks like one), then ``organisation/name`` on the hub. A file that
happens to be called like a short name is reached as ``./name``.
"""

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from thalweg.errors import DataError
from thalweg.paths import SUFFIXES, data_file
from thalweg.prompts._data_sets import BUNDLED, HUB_DATA, HubData, list_data
from thalweg.prompts._files import Jsonl, Parquet, Tsv, Txt
from thalweg.prompts._hub import parse_hub_name
from thalweg.prompts._memory import NAME, in_memory
from thalweg.prompts._rows import Reader, Row, Template, choose_template, first_found, hash_of, told_to_wait

IN_MEMORY = "memory"


@dataclass(frozen=True)
class Source:
    r"""Prompts that can be read, again and again, from any row on.

    Attributes:
        name: What the tables call the data: the file's name, the short name, or the hub name as it was typed.
        kind: ``jsonl``, ``parquet``, ``tsv``, ``txt``, ``hub``, ``bundled`` or ``memory``.
        template: The fields that make a prompt and how they are joined, for example ``{question}\n{answer}``.
        hash: sha256 of a file's bytes; of what is read of data in memory; of a hub data set's id, revision,
            configuration and split. With ``name`` and
            ``template`` it is the data's part of a run's identity.
        origin: What the hash was taken of, for the run header.
        given: How it was asked for, such as the path of a file.
        drawn: The rows of a random sample, ascending; None where all are taken.
        sample: How many they are, of how many, by which seed.
    """

    name: str
    kind: str
    template: str
    hash: str
    origin: dict[str, str | None]
    _reader: Reader
    _template: Template
    given: str | None = None
    drawn: tuple[int, ...] | None = None
    sample: str | None = None

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """Rows [start, stop) in the data's own order, each with its prompt or with the reason why it has none.

        Args:
            start: 0-based number of the first row; rows before it are passed over as cheaply as the format allows.
            stop: The row to stop before; None reads to the end.

        Raises:
            DataError: The data breaks off: a broken line, bytes that are not text, a hub that is gone.
        """
        for number, record in enumerate(self._reader.records(self._template.columns, start, stop), start):
            yield self._template.row(number, record)

    def count(self) -> int | None:
        """How many rows there are: exact for a file; on the hub what the data set's description says, or None.

        Meant for a progress bar; a text file is read once for it.
        """
        return self._reader.count()

    def first_rows(self, count: int) -> int:
        """The row before which the first so many rows lie that are read."""
        return count if self.drawn is None else max(self.drawn[:count], default=-1) + 1

    def sampled(self, size: int, *, seed: int, limit: int | None = None) -> "Source":
        """The same with a random sample of its rows, the same ones for the same seed.

        Args:
            size: How many rows; where there are no more, all of them.
            seed: Of the draw.
            limit: The rows are drawn from the first ones, so many; None draws from all.

        Raises:
            DataError: It is not known how many rows there are, and no limit is given.
        """
        known = [rows for rows in (self.count(), limit) if rows is not None]
        if not known:
            raise DataError(
                f"--sample: expected data that say how many rows they have; got {self.name}, which do not. Add --limit "
                "N: the rows are then drawn from the first N."
            )
        # Of all that is random in Python only this sequence is promised to stay the same from version to version.
        numbers = random.Random(seed)
        marked = ((numbers.random(), row) for row in range(min(known)))
        drawn = tuple(sorted(row for _, row in heapq.nsmallest(size, marked)))
        return replace(self, drawn=drawn, sample=f"{len(drawn):,} of {min(known):,} rows, seed {seed}")


def open_source(
    data: Any = None,
    *,
    text_field: str | None = None,
    whole_file: bool = False,
    chat: bool = False,
    name: str = NAME,
) -> Source:
    """Open prompts and check that they can be read: the fields of the first rows decide the template.

    Args:
        data: A short name (``thalweg list data``), a file (.jsonl, .parquet, .tsv, .txt), or a data set on the hub as
            ``organisation/name@revision:config:split`` (all but the name optional). None: the bundled prompts. Or what
            is in memory: texts, a frame of polars or pandas, a ``datasets.Dataset``.
        text_field: The field that holds the prompt; several joined by ``+`` are joined by a newline; a dot reaches into
            nested records, and a number into a list; in a .tsv a number is a column. None: the first of text, content,
            question + answer, problem + solution that is there (a .tsv without a header: its first column).
        whole_file: Make one prompt of a .txt file instead of one per line that is not blank.
        chat: Each row is a conversation, its messages in ``messages`` or in ``text_field``.
        name: What the tables call data in memory.

    Returns:
        The source, with its template and hash known.

    Raises:
        DataError: Nothing of that name, not readable, empty, or without the field.

    Example:
        >>> open_source().template
        '{text}'
        >>> [row.text for row in open_source(["a", "b"]).rows(1)]
        ['b']
    """
    data = BUNDLED if data is None else data
    if whole_file and not (isinstance(data, str) and data.lower().endswith(".txt")):
        got = data if isinstance(data, str) else name
        raise DataError(f"--whole-file: expected a .txt file as --data; got {got}. Leave --whole-file out.")
    if not isinstance(data, str):
        _refuse_names(data)
        return _opened(name, IN_MEMORY, in_memory(data), text_field, chat=chat)
    short = data.split(":")[0].split("@")[0]
    known = {row.name: row for row in HUB_DATA}.get(short)
    if data == BUNDLED:
        # a path below the package: naming thalweg.reference as a package would import the room
        path = Path(str(files("thalweg") / "reference" / "prompts.jsonl"))
        return _opened(BUNDLED, BUNDLED, Jsonl(path), text_field, chat=chat)
    if known is None and (path := data_file(data)) is not None:
        file = local_file(path, text_field, whole_file)
        asked = text_field if chat else file.asked(text_field)
        return _opened(file.path.name, _kind(file.path), file, asked, chat=chat)
    return _open_hub(data, known, text_field, chat=chat)


def _refuse_names(data: Any) -> None:
    """A list holds texts; nobody surveys the names of data sets."""
    short = {row.name for row in list_data()}

    def is_name(text: object) -> bool:
        return isinstance(text, str) and (text in short or (text.lower().endswith(SUFFIXES) and " " not in text))

    if isinstance(data, list) and data and all(map(is_name, data)):
        several = repr(tuple(data) if len(data) > 1 else data[0])
        raise DataError(f"data: a list holds texts; got the names of data. Pass {several}.")


def local_file(path: Path, header: str | None, whole_file: bool = False) -> Jsonl | Parquet | Tsv | Txt:
    """The file that a person typed; a .tsv with one of the names ``header`` (joined by +) in its first line has one."""
    kind = _kind(path)
    if kind == "tsv":
        return Tsv.open(path, header)
    if kind == "txt":
        return Txt(path, whole_file)
    return Jsonl(path) if kind == "jsonl" else Parquet(path)


def _kind(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")


def _open_hub(data: str, known: HubData | None, text_field: str | None, *, chat: bool) -> Source:
    if known is None and "/" not in data:
        near = get_close_matches(data, [row.name for row in list_data()], n=1)
        raise DataError(
            f"--data {data}: expected a short name, a file ({', '.join(SUFFIXES)}) or organisation/name on the hub; "
            f"got none of these. {f'Did you mean {near[0]}?' if near else 'See `thalweg list data`.'}"
        )
    rows = parse_hub_name(data, known).pinned()
    asked = text_field or ("+".join(known.fields) if known and not chat else None)
    return _opened(data, "hub", rows, asked, chat=chat)


def _opened(name: str, kind: str, reader: Reader, asked: str | None, *, chat: bool) -> Source:
    """The source, once a first row is seen to be there and a template is found for it."""
    with told_to_wait(name):
        template = first_found(name, reader, lambda fields: choose_template(name, fields, asked, chat=chat))
        origin = reader.only(template.columns).identity()
    return Source(name, kind, template.pattern, hash_of(origin), origin, reader, template)

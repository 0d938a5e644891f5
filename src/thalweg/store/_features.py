"""Pooled features of texts at all states, written once and mapped into memory when they are read.

``RUN/features/<key>/<part>.npy`` holds rows x states x width, ``<part>.json`` its checksum and the hash of each row's
text, and ``settings.json`` what the features were made of, which ``key`` stands for. The record comes last and makes a
part count. A text has the same features wherever it comes from, so it is found by its hash.
"""

import hashlib
import io
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from thalweg.errors import RunError
from thalweg.store._files import (
    TEMPORARY,
    Facts,
    FileFacts,
    damaged,
    facts_of,
    is_whole,
    make_directory,
    read_document,
    remove,
    require_own,
    require_whole,
    write_document,
    write_whole,
)
from thalweg.store._findings_header import settings_key

FEATURES = "features"
OPEN_FILES = 64
ABSENT = -1
SETTINGS = "settings.json"
Array = npt.NDArray[Any]
_OURS = re.compile(r"[0-9a-f]{16}\.(npy|json)")
_log = logging.getLogger("thalweg.store")


def text_hash(text: str) -> str:
    """The sha256 of a text's UTF-8 bytes, by which its features are found."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class FeatureRecord(Facts):
    """One part: its file, and the hashes of the texts whose features are its rows."""

    file: FileFacts
    texts: tuple[str, ...]


class Features:
    """Features of some texts, in their order: like an array of rows x states x width, read from disk as needed.

    A text that has no features, since it gave no tokens, is a row of NaN.

    Attributes:
        shape: rows, states, width.
        dtype: float32, or float64 of a model in float64.
    """

    def __init__(self, files: Sequence[tuple[Path, FeatureRecord]], part: Array, place: Array) -> None:
        self._files, self._part, self._place = list(files), part, place
        self._mapped: Callable[[int], Array] = lru_cache(OPEN_FILES)(self._map)  # each map holds a file descriptor
        first = self._mapped(0)
        self.shape: tuple[int, int, int] = (len(part), first.shape[1], first.shape[2])
        self.dtype: np.dtype[Any] = first.dtype

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """By row, whether the text has features."""
        return self._part != ABSENT

    def __getitem__(self, rows: int | slice | Sequence[int] | Array) -> Array:
        """Some rows at all states, copied into memory: rows x states x width; states x width for a single one."""
        chosen = np.arange(len(self))[rows if isinstance(rows, int | slice) else np.asarray(rows)]
        return self._gathered(chosen, None) if np.ndim(chosen) else self._gathered(chosen[None], None)[0]

    def state(self, index: int) -> Array:
        """All rows at one state, copied into memory: rows x width."""
        if not 0 <= index < self.shape[1]:
            raise IndexError(f"expected a state of 0..{self.shape[1] - 1}, got {index}")
        return self._gathered(np.arange(len(self)), index)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("features are gathered from files; an array of them is always a copy")
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    def _gathered(self, rows: Array, state: int | None) -> Array:
        shape = self.shape[1:] if state is None else self.shape[2:]
        gathered = np.full((len(rows), *shape), np.nan, dtype=self.dtype)
        parts, places = self._part[rows], self._place[rows]
        for part in sorted(set[int](parts[parts != ABSENT].tolist())):
            there = parts == part
            values = self._mapped(part)
            gathered[there] = values[places[there]] if state is None else values[places[there], state]
        return gathered

    def _map(self, part: int) -> Array:
        file, record = self._files[part]
        return np.load(require_whole(file, record.file), mmap_mode="r", allow_pickle=False)


class FeatureStore:
    """The features of one model in a run, made in one way; written by whoever holds the run."""

    def __init__(self, run: str | Path, settings: Mapping[str, JsonValue]) -> None:
        """Find what is there and check it; a part that is damaged is named and removed.

        Args:
            run: the run's directory.
            settings: everything that changes a number of the features.
        """
        self.settings = dict(settings)
        self.key = settings_key(self.settings)
        self.directory = Path(run) / FEATURES / self.key
        require_own(self.directory.parent)
        require_own(self.directory)
        self._files, self._index = list[tuple[Path, FeatureRecord]](), dict[str, tuple[int, int]]()
        self._begun = False
        for path in sorted(path for path in self.directory.glob("*.json") if _OURS.fullmatch(path.name)):
            if record := _intact(path):
                self._take(path.with_suffix(".npy"), record)

    def __contains__(self, digest: str) -> bool:
        return digest in self._index

    def __len__(self) -> int:
        return len(self._index)

    def write(self, digests: Sequence[str], rows: Array) -> None:
        """Write one part, whole.

        Args:
            digests: of the texts, none of which is there yet.
            rows: rows x states x width.

        Raises:
            ValueError: the rows are not those of the texts.
            RunError: the directory cannot be written. Earlier parts stay.
        """
        if len(digests) != len(rows) or rows.ndim != 3 or len(set(digests)) < len(digests):
            raise ValueError(f"expected {len(digests)} different texts as rows x states x width, got {rows.shape}")
        self._begin()
        name = hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
        content = io.BytesIO()
        np.save(content, rows, allow_pickle=False)
        file = self.directory / f"{name}.npy"
        record = FeatureRecord(file=facts_of(content.getvalue()), texts=tuple(digests))
        write_whole(file, content.getvalue())
        write_document(file.with_suffix(".json"), record)
        self._take(file, record)

    def read(self, digests: Iterable[str]) -> Features:
        """Give the features of texts; those that are not there are NaN.

        Raises:
            RunError: there are none at all, or a file is damaged.
        """
        places = [self._index.get(digest, (ABSENT, ABSENT)) for digest in digests]
        if not self._files:
            raise RunError(f"{self.directory} holds no features yet. Run the command that measures them first.")
        pairs = np.array(places, dtype=np.int64).reshape(-1, 2)
        return Features(self._files, pairs[:, 0], pairs[:, 1])

    def _begin(self) -> None:
        """Make the directory, say in it what the key stands for, and remove what a killed writer left; once."""
        if self._begun:
            return
        make_directory(self.directory)
        kept = set(chain.from_iterable((file.name, file.with_suffix(".json").name) for file, _ in self._files))
        ours = (path for path in self.directory.iterdir() if _OURS.fullmatch(path.name.removesuffix(TEMPORARY)))
        remove(self.directory / (SETTINGS + TEMPORARY), *(path for path in ours if path.name not in kept))
        described = json.dumps(self.settings, indent=2, sort_keys=True)
        write_whole(self.directory / SETTINGS, described.encode() + b"\n")
        self._begun = True

    def _take(self, file: Path, record: FeatureRecord) -> None:
        self._index |= {digest: (len(self._files), place) for place, digest in enumerate(record.texts)}
        self._files.append((file, record))


def damaged_features(run: Path) -> Iterator[str]:
    """A line for each part of a run's features that is not as it was written."""
    for path in sorted(path for path in run.glob(f"{FEATURES}/*/*.json") if _OURS.fullmatch(path.name)):
        try:
            record, file = read_document(path, FeatureRecord), path.with_suffix(".npy")
        except RunError as error:
            yield str(error)
        else:
            yield from () if is_whole(file, record.file) else (damaged(file),)


def _intact(path: Path) -> FeatureRecord | None:
    """A part's record, where it and the part hold what was written; otherwise both go, and are measured again."""
    record, wrong = None, path
    with suppress(RunError):
        record, wrong = read_document(path, FeatureRecord), path.with_suffix(".npy")
    if record is not None and is_whole(wrong, record.file):
        return record
    _log.warning("%s; its texts are measured again.", damaged(wrong))
    remove(path, path.with_suffix(".npy"))
    return None

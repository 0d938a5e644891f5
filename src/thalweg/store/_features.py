"""Pooled features of texts at all states, written once and mapped into memory when they are read.

``RUN/features/<key>.<part>.npy`` holds rows x states x width, ``<key>.<part>.sha256`` the hash of each row's text, a
line a row, and ``<key>.json`` what the features were made of, which ``key`` stands for. The ``.npy`` comes last and
makes a part count. A text has the same features wherever it comes from, so it is found by its hash.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from thalweg.errors import RunError
from thalweg.store._experiment_header import experiment_key
from thalweg.store._files import TEMPORARY, os_errors_as_run_errors, write_whole

FEATURES = "features"
OPEN_FILES = 64
ABSENT = -1
Array = npt.NDArray[Any]


def text_hash(text: str) -> str:
    """The sha256 of a text's UTF-8 bytes, by which its features are found."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Features:
    """Features of some texts, in their order: like an array of rows x states x width, read from disk as needed.

    A text that has no features, since it gave no tokens, is a row of NaN.

    Attributes:
        shape: rows, states, width.
        dtype: float32, or float64 of a model in float64.
    """

    def __init__(self, files: Sequence[Path], part: Array, place: Array) -> None:
        self._files, self._part, self._place = list(files), part, place
        self._mapped: Callable[[Path], Array] = lru_cache(OPEN_FILES)(_mapped)  # each map holds a file descriptor
        first = self._mapped(self._files[0])
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
        found = np.full((len(rows), *shape), np.nan, dtype=self.dtype)
        parts, places = self._part[rows], self._place[rows]
        for part in sorted(set[int](parts[parts != ABSENT].tolist())):
            own = parts == part
            values = self._mapped(self._files[part])
            found[own] = values[places[own]] if state is None else values[places[own], state]
        return found


class FeatureStore:
    """The features of one model in a run, made in one way; written by whoever holds the run."""

    def __init__(self, run: str | Path, settings: Mapping[str, JsonValue]) -> None:
        """Find what is there.

        Args:
            run: the run's directory.
            settings: everything that changes a number of the features.
        """
        self.directory, self.settings = Path(run) / FEATURES, dict(settings)
        self.key = experiment_key(self.settings)
        self._files, self._index = list[Path](), dict[str, tuple[int, int]]()
        self._begun = False
        for file in sorted(self.directory.glob(f"{self.key}.*.npy")):
            self._take(file, _hashes(file.with_suffix(".sha256")))

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
        if not self._begun:
            self._begin()
        name = hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
        file = self.directory / f"{self.key}.{name}.npy"
        content = io.BytesIO()
        np.save(content, rows, allow_pickle=False)
        write_whole(file.with_suffix(".sha256"), "".join(f"{one}\n" for one in digests).encode())
        write_whole(file, content.getvalue())
        self._take(file, digests)

    def read(self, digests: Iterable[str]) -> Features:
        """Give the features of texts; those that are not there are NaN.

        Raises:
            RunError: there are none at all, or a file is damaged.
        """
        places = [self._index.get(one, (ABSENT, ABSENT)) for one in digests]
        if not self._files:
            raise RunError(f"{self.directory} holds no features yet. Run the command that measures them first.")
        pairs = np.array(places, dtype=np.int64).reshape(-1, 2)
        return Features(self._files, pairs[:, 0], pairs[:, 1])

    def _begin(self) -> None:
        """Make the directory, say in it what the key stands for, and remove what a killed writer left."""
        with os_errors_as_run_errors(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            for left in self.directory.glob(f"{self.key}*{TEMPORARY}"):
                left.unlink(missing_ok=True)
            for index in self.directory.glob(f"{self.key}.*.sha256"):
                if not index.with_suffix(".npy").exists():
                    index.unlink(missing_ok=True)
        described = json.dumps(self.settings, indent=2, sort_keys=True)
        write_whole(self.directory / f"{self.key}.json", described.encode() + b"\n")
        self._begun = True

    def _take(self, file: Path, digests: Sequence[str]) -> None:
        self._index |= {digest: (len(self._files), place) for place, digest in enumerate(digests)}
        self._files.append(file)


def _hashes(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").split()
    except (OSError, ValueError) as error:
        raise _damaged(file, error) from error


def _mapped(file: Path) -> Array:
    try:
        values = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(file, error) from error
    if values.ndim != 3 or len(values) != len(_hashes(file.with_suffix(".sha256"))):
        raise _damaged(file, "it does not hold the rows that its index names")
    return values


def _damaged(file: Path, why: object) -> RunError:
    return RunError(f"{file} is damaged: {why}. Remove {file.stem}.*: its texts will be measured again.")

"""What a bad disk, a bad copy or a wrong hand does to one file of a run."""

import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl


def flip(file: Path, chance: random.Random) -> None:
    """Turn one bit."""
    content = bytearray(file.read_bytes())
    if content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(bytes(content))


def cut(file: Path, chance: random.Random) -> None:
    """Lose the end."""
    content = file.read_bytes()
    file.write_bytes(content[: chance.randrange(max(1, len(content)))])


def empty(file: Path, _: random.Random) -> None:
    """Lose everything but the name."""
    file.write_bytes(b"")


def swap(file: Path, chance: random.Random) -> None:
    """Hold what belongs to another file of the same kind."""
    run = next(parent for parent in file.parents if (parent / "run.json").exists())
    others = sorted(other for other in run.rglob(f"*{file.suffix}") if other.read_bytes() != file.read_bytes())
    if others:
        shutil.copyfile(chance.choice(others), file)


def foreign(file: Path, _: random.Random) -> None:
    """Hold something else that is right in its own way."""
    content = io.BytesIO()
    if file.suffix == ".parquet":
        pl.DataFrame({"model": ["another"], "prompt": [0]}).write_parquet(content)
    elif file.suffix == ".npy":
        np.save(content, np.zeros((2, 3, 4), np.float32))
    else:
        content.write(json.dumps({"format": 2, "name": "another"}).encode())
    file.write_bytes(content.getvalue())


def missing(file: Path, _: random.Random) -> None:
    """Be gone."""
    file.unlink()


def folder(file: Path, _: random.Random) -> None:
    """Be a directory."""
    file.unlink()
    file.mkdir()


HARMS: tuple[Callable[[Path, random.Random], None], ...] = (flip, cut, empty, swap, foreign, missing, folder)

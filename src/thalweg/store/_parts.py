"""Which parts of a run are finished, and what is in them."""

import json
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import polars as pl

from thalweg.errors import RunError
from thalweg.store._header import Coverage, PartCounts
from thalweg.store._names import part_prefix, row_range
from thalweg.store._schemas import PART_TABLES

COUNTS_KEY = "thalweg"  # in the metadata of a part of prompts/, so that counts survive a kill together with their rows


@dataclass(frozen=True, order=True)
class Part:
    """One finished shard: its row range and its file name, which is the same in every table."""

    first_row: int
    stop_row: int
    name: str


def finished_files(run: Path) -> set[str]:
    """Names of the part files that are there in every table."""
    first, *others = ({path.name for path in _files(run / table)} for table in PART_TABLES)
    return first.intersection(*others)


def committed_parts(run: Path, model: str, revision: str, data: str, *, names: Set[str] | None = None) -> list[Part]:
    """Give the finished parts of one model on one data set, by row.

    A part is finished once its file is in all four tables; ``prompts/`` is written last.

    Args:
        run: the run's directory.
        model: the model's name.
        revision: its revision.
        data: the data set's name.
        names: the finished files, where they are known.

    Returns:
        The parts, sorted, not overlapping.

    Raises:
        RunError: two parts hold the same rows, which no writer does.
    """
    prefix = part_prefix(model, revision, data)
    names = finished_files(run) if names is None else names
    parts = sorted(Part(*rows, name) for name in names if (rows := row_range(name, prefix)))
    for before, after in pairwise(parts):
        if after.first_row < before.stop_row:
            last = min(before.stop_row, after.stop_row) - 1
            raise RunError(
                f"{run / 'prompts'} holds rows {after.first_row} to {last} twice: {before.name} and "
                f"{after.name}. Remove one of the two and run the same command again."
            )
    return parts


def pair_coverage(run: Path, model: str, revision: str, data: str, *, names: Set[str] | None = None) -> Coverage:
    """Add up what the finished parts of one model on one data set hold."""
    skipped: Counter[str] = Counter()
    rows = kept = violations = nonfinite = short = 0
    for part in committed_parts(run, model, revision, data, names=names):
        stored = json.loads(pl.read_parquet_metadata(run / "prompts" / part.name)[COUNTS_KEY])
        counts = PartCounts.model_validate(stored["counts"])
        rows += part.stop_row - part.first_row
        kept += stored["prompts_kept"]
        violations += stored["bound_violations"]
        nonfinite += counts.nonfinite_states
        short += counts.short_prompts
        skipped.update(counts.skipped)
    return Coverage(
        model=model,
        revision=revision,
        data=data,
        rows_read=rows,
        prompts_kept=kept,
        bound_violations=violations,
        skipped=dict(sorted(skipped.items())),
        nonfinite_states=nonfinite,
        short_prompts=short,
    )


def _files(directory: Path) -> Iterator[Path]:
    return directory.iterdir() if directory.is_dir() else iter(())

"""What does a run hold, what of it is missing or damaged, how large is it, and which commands made it?"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.errors import RunError
from thalweg.experiments import settings_words
from thalweg.shown import Table, amount, counted, listing
from thalweg.store import Findings, Run, damages, open_run

__all__ = ["Holdings", "show"]

DAMAGED = 3
"""The exit code."""
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


@dataclass(frozen=True)
class Holdings:
    """What a run holds.

    Attributes:
        run: its directory.
        status: of its survey; finished where there is none to finish.
        models: name, revision, blocks, heads, dtype, quantization and weights of each.
        data: name, how it was given, and hash of each.
        prompts: by model and data set of the survey, how many rows were read and kept, and why others were not.
        experiments: by experiment and settings, what was asked and how far it came, rows by table, and the command.
        sizes: bytes on disk by what lies in the directory.
        damaged: a line for each file that is not as it was written.
    """

    run: str
    status: str
    models: list[dict[str, Any]]
    data: list[dict[str, Any]]
    prompts: list[dict[str, Any]]
    experiments: list[dict[str, Any]]
    sizes: dict[str, int]
    damaged: list[str]

    @property
    def exit_code(self) -> int:
        """0, or 3 where something is damaged."""
        return DAMAGED if self.damaged else 0

    @property
    def tables(self) -> list[Table]:
        """The same as a person reads it."""
        tables = [
            Table("models", OF_MODEL, [[_short(model[name]) for name in OF_MODEL] for model in self.models]),
            Table("prompts", _PROMPTS, [_prompts(row) for row in self.prompts]),
            Table("experiments", _EXPERIMENT, [_experiment(row) for row in self.experiments]),
            Table("on disk", ("part", "size"), [[name, size_of(size)] for name, size in self.sizes.items()]),
        ]
        return [table for table in tables if table.rows]

    @property
    def lines(self) -> list[str]:
        """What a person reads below: the commands, and what is damaged."""
        commands = dict.fromkeys(row["command"] or "from Python" for row in self.experiments)
        total = sum(self.sizes.values())
        said = [f"{self.run}: {self.status}, {size_of(total)}; made by", *(f"  {command}" for command in commands)]
        if self.damaged:
            said += [
                f"{counted(len(self.damaged), 'file')} damaged or missing:",
                *(f"  {file}" for file in self.damaged),
            ]
            said.append("The commands above, run again, measure anew what is damaged of theirs, and nothing else.")
        return said


OF_MODEL = ("name", "revision", "blocks", "heads", "dtype", "quantization", "weights")
_PROMPTS = ("model", "revision", "data", "rows read", "prompts", "skipped", "waiting")
_EXPERIMENT = ("experiment", "key", "settings", "status", "prompts", "tables: rows", "missing", "size", "seconds")


def show(run: Run | str | Path) -> Holdings:
    """Say what a run holds, what of it is missing or damaged, its size by part, and the commands that made it.

    Every file is compared with its checksum, and none is touched. The exit code is 3 where one is damaged.

    On the command line:

        thalweg show runs/pythia-410m

    Args:
        run: the run or its directory, finished or not.

    Raises:
        RunError: there is no such run, or its run.json is damaged.

    Example:
        >>> show("runs/first").damaged  # doctest: +SKIP
        []
    """
    run = run if isinstance(run, Run) else open_run(run)
    damaged = damages(run.path)
    folders = sorted(path.name for path in run.path.iterdir() if path.is_dir())
    found = [(name, findings) for name in folders for findings in _readable(run, name)]
    survey = [findings.header for name, findings in found if name == "survey"]
    found.sort(key=lambda each: str(each[1].header.started))
    return Holdings(
        str(run.path),
        survey[0].status if survey else "finished",
        [model.model_dump(mode="json", include=set(OF_MODEL)) for model in run.header.models],
        [data.model_dump(mode="json", include={"name", "given", "hash", "sample"}) for data in run.header.data],
        [pair.model_dump(mode="json") for header in survey for pair in header.coverage],
        [_told(name, findings) for name, findings in found],
        _sizes(run.path),
        damaged,
    )


def _readable(run: Run, experiment: str) -> list[Findings]:
    try:
        return run.experiments(experiment)
    except RunError:  # one of its headers is damaged, which is told
        return []


def _told(name: str, findings: Findings) -> dict[str, Any]:
    header = findings.header
    return {
        "experiment": name,
        "key": header.key,
        "settings": settings_words(findings),
        "status": header.status,
        "prompts": sum(pair.prompts_kept for pair in header.coverage),
        "rows": {table: _rows(findings, table) for table in header.tables},
        "missing": [*findings.missing, *(pair.not_measured for pair in header.coverage if pair.waiting)],
        "bytes": _size(findings.directory),
        "seconds": header.seconds,
        "started": header.started,
        "updated": header.updated,
        "command": shlex.join(header.command),
    }


def _rows(findings: Findings, table: str) -> int | None:
    """How many there are; None where a file is damaged."""
    try:
        return findings.table(table).select(pl.len()).collect().item()
    except (RunError, pl.exceptions.PolarsError):
        return None


def _sizes(run: Path) -> dict[str, int]:
    sizes = {path.name: _size(path) for path in run.iterdir() if not path.name.startswith(".")}
    return dict(sorted(sizes.items(), key=lambda part: (-part[1], part[0])))


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file() and not file.is_symlink())


def size_of(count: int) -> str:
    """Write bytes as people do: ``1.53 MB``."""
    scale, unit = next(((scale, unit) for scale, unit in UNITS if count >= scale), (1, "bytes"))
    return f"{amount(count / scale if scale > 1 else count)} {unit}"


def _short(value: Any) -> Any:
    """A checksum by its first digits."""
    return f"{value[:18]}…" if isinstance(value, str) and value.startswith("sha256:") and len(value) > 18 else value


def _prompts(row: Mapping[str, Any]) -> list[Any]:
    skipped = "; ".join(f"{reason}: {count:,}" for reason, count in row["skipped"].items())
    waiting = sum(map(len, row["waiting"].values()))
    return [row["model"], row["revision"], row["data"], row["rows_read"], row["prompts_kept"], skipped, waiting]


def _experiment(row: Mapping[str, Any]) -> list[Any]:
    rows = ", ".join(f"{table} {'damaged' if count is None else f'{count:,}'}" for table, count in row["rows"].items())
    missing = listing(row["missing"]) if row["missing"] else ""
    seconds = amount(row["seconds"])
    words = [row["experiment"], row["key"], row["settings"], row["status"], row["prompts"] or ""]
    return [*words, rows, missing, size_of(row["bytes"]), seconds]

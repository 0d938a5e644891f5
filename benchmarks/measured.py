"""Time and memory of what is run here, and the tables that tell them; nothing but Python itself is needed."""

import ctypes
import json
import os
import platform
import re
import resource
import statistics
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "benchmarks"
"""What docs/benchmarks.md is made from."""
RATIOS = ("CPU time", "range", "wall time", "range")
"""The columns that :func:`ratio_cells` fills."""


@dataclass(frozen=True)
class Seconds:
    """What something took: of all threads of this process, and by the clock."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Asked:
    """How much is measured.

    Attributes:
        runs: rounds of each comparison.
        problems, texts: problems, and texts of 1,024 tokens, that a survey measures.
        prompts: texts of the other parts.
        model: name of the survey's model; None for what is at hand.
    """

    runs: int
    problems: int
    texts: int
    prompts: int
    model: str | None


@dataclass(frozen=True)
class Table:
    """Rows of text under a title."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)


def seconds(run: Callable[[], object]) -> Seconds:
    """Time one run."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return Seconds(time.process_time() - cpu, time.perf_counter() - wall)


def rounds(
    ways: Mapping[str, Callable[[], object]], runs: int, *, warm: Callable[[Callable[[], object]], object] = seconds
) -> dict[str, list[Seconds]]:
    """Time several ways in turn, forwards and backwards, after a first round that is not counted.

    What is said of two ways is a ratio of one round, so that it holds on a machine that has other work.

    Args:
        ways: what is timed, by name.
        runs: rounds.
        warm: what is done with each way in the first round.
    """
    for run in ways.values():
        warm(run)
    taken: dict[str, list[Seconds]] = {name: [] for name in ways}
    for turn in range(runs):
        for name in list(ways) if turn % 2 == 0 else reversed(list(ways)):
            taken[name].append(seconds(ways[name]))
    return taken


def paired(one: Callable[[], object], other: Callable[[], object], runs: int) -> list[str]:
    """Cells of one way over another."""
    taken = rounds({"one": one, "other": other}, runs)
    return ratio_cells(taken["one"], taken["other"])


def ratio_cells(one: Sequence[Seconds], other: Sequence[Seconds]) -> list[str]:
    """Median and range of one over the other, round by round, for CPU time and for wall time."""
    cpu = [mine.cpu / its.cpu for mine, its in zip(one, other, strict=True)]
    wall = [mine.wall / its.wall for mine, its in zip(one, other, strict=True)]
    return [*median_cells(cpu), *median_cells(wall)]


def median_cells(values: Sequence[float], pattern: str = "{:.2f}") -> list[str]:
    """Median and range."""
    low, high = pattern.format(min(values)), pattern.format(max(values))
    return [pattern.format(statistics.median(values)), f"{low}-{high}"]


def peak(run: Callable[[], object]) -> int:
    """Bytes that a run needs at most, above what this process holds before it."""
    ctypes.CDLL(None).malloc_trim(0)
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to what is resident now
    run()
    return _resident("VmHWM") - before


def _resident(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def print_table(table: Table) -> None:
    """On the terminal."""
    from rich.console import Console  # libraries are timed in environments that need not have it
    from rich.table import Table as Painted

    painted = Painted(title=table.title, title_justify="left")
    for number, column in enumerate(table.columns):
        painted.add_column(column, justify="right" if number else "left")
    for row in table.rows:
        painted.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(painted)


def write_result(name: str, tables: Sequence[Table], **facts: object) -> None:
    """Keep tables for docs/benchmarks.md, with where and when they were measured."""
    known = {**facts, "machine": machine(), "date": date.today().isoformat()}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({**known, "tables": [asdict(table) for table in tables]}, indent=1, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def machine() -> str:
    """The processor, and how many of its cores are here."""
    known = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", known.read_text()) if known.exists() else None
    return f"{named[1] if named else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def at_least_one(text: str) -> int:
    """A number of runs or prompts."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"expected a whole number of at least 1; got {text}")
    return int(text)


def command(module: str, parser: ArgumentParser, given: Mapping[str, object], *shown: str) -> str:
    """The command line that does the same: of the options that are shown, those that are not as by default."""
    options = [f"--{name} {given[name]}" for name in shown if given[name] != parser.get_default(name)]
    return " ".join([f"python -m {module}", *options])


def versions(*packages: str) -> str:
    """Versions of packages that are installed, in words."""
    known = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            known.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(known)

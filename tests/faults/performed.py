"""Every experiment on a tiny model, in a process of its own that can be killed at any of its file operations.

A server that has imported everything and run nothing is forked for each, so that a run costs what it measures.
"""

import json
import multiprocessing
import os
import signal
import stat
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import polars as pl
from tests import local_mteb
from tests.local_mcq import Tasks
from tests.probed import films

import thalweg
from saved import save
from thalweg.errors import ThalwegError
from thalweg.experiments import experiments
from thalweg.reference import Plant, planted_llama
from thalweg.store import open_run

MEASURING = ("survey", "scan", "checkpoints", "contrast", "heads", "attribute", "ablate", "clip")
NAMES = (*MEASURING, "lens", "mcq", "probe", "mteb")
TRAINED = "lens --train-tuned"
JOINED = "survey --out"
"""A model that joins a run, and then data."""
OPTIONS = thalweg.SurveyOptions(progress=False, shard_rows=4, batch_size=4)
FITS = 15
FILES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def prepare(place: Path) -> None:
    """Write models and data."""
    for name, height in {"model": 2000.0, "trained/checkpoint-1": 2.0, "trained/checkpoint-20": 900.0}.items():
        save(planted_llama(Plant(1, 2, {3: height}, (0, 1)), blocks=3, width=32), place / name)
    texts = [{"text": f"{row} green bottles, " * (1 + row % 3)} for row in range(8)]
    (place / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    (place / "more.txt").write_text("ten lazy dogs sleep\nand nobody wakes them up\n" * 2)
    Tasks(place / "tasks").choice(count=4)
    films(place / "films.jsonl", 40, 1)


def perform(name: str, place: Path, out: Path) -> None:
    """Run one experiment."""
    model, prompts = place / "model", place / "prompts.jsonl"
    called: Any = getattr(thalweg, name.partition(" ")[0])
    own: dict[str, Any] = {
        "clip": {"gamma": [10, 100]},
        "ablate": {"seeds": 1},
        "contrast": {"length": 16, "top": 2},
        TRAINED: {"train": True, "steps": 2, "step_tokens": 64},
    }.get(name, {})
    if name == JOINED:
        called(model, prompts, out=out, options=OPTIONS)
        called(place / "trained" / "checkpoint-1", out=out, options=OPTIONS)
        called(out, place / "more.txt", options=OPTIONS)
    elif name == "checkpoints":
        called(checkpoint_dir=place / "trained", data=prompts, out=out, options=OPTIONS)
    elif name == "mcq":
        called(model, ["small_choice"], include_path=place / "tasks", out=out, options=OPTIONS)
    elif name == "probe":
        called(model, place / "films.jsonl", out=out, options=OPTIONS)
    elif name == "mteb":
        called(model, [local_mteb.similarity_task(place / "mteb")], out=out, options=OPTIONS)
    elif name == "scan":
        called(model, out=out, options=OPTIONS)
    else:
        called(model, prompts, out=out, options=OPTIONS, **own)


@dataclass(frozen=True)
class Fault:
    """What goes wrong.

    Attributes:
        at: in front of which file operation; None for no one.
        number: what the system says to it, as an errno; None kills the process.
        fails: what the model says to every prompt of more tokens than fit.
        fits: how many that are.
    """

    at: int | None = None
    number: int | None = None
    fails: Exception | None = None
    fits: int = FITS


NONE = Fault()


class Watched:
    """Counts what a process does to the files below a directory, and lets one of these operations go wrong.

    Of a file that is being forced to disk when the process is killed half of the bytes are lost: the worst moment.
    """

    def __init__(self, below: Path, fault: Fault) -> None:
        self.below, self.fault, self.count = os.fspath(below), fault, 0

    def begin(self) -> None:
        sys.addaudithook(self._seen)
        os.fsync = self._forced
        if self.fault.fails is not None:
            _fail_when_long(self.fault.fails, self.fault.fits)

    def _seen(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = given
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            path, writes = given[0] if given else None, event in FILES
        if writes and isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.below):
            self._operation()

    def _forced(self, handle: int) -> None:
        self._operation(None if stat.S_ISDIR(os.fstat(handle).st_mode) else handle)

    def _operation(self, handle: int | None = None) -> None:
        self.count += 1
        if self.count == self.fault.at:
            if self.fault.number is not None:
                raise OSError(self.fault.number, os.strerror(self.fault.number))
            if handle is not None:
                os.truncate(handle, os.fstat(handle).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)


def _fail_when_long(error: Exception, fits: int) -> None:
    from transformers.models.llama.modeling_llama import LlamaModel

    forward: Any = LlamaModel.forward

    def failing(self: Any, input_ids: Any = None, **options: Any) -> Any:
        if input_ids is not None and input_ids.shape[-1] > fits:
            raise error
        return forward(self, input_ids=input_ids, **options)

    LlamaModel.forward = failing


@dataclass(frozen=True)
class Ending:
    """How an experiment ended: after so many file operations, with an error of thalweg's own, or killed."""

    operations: int = 0
    error: ThalwegError | None = None
    killed: bool = False


def _child(name: str, place: Path, out: Path, fault: Fault, answer: Connection) -> None:
    watched = Watched(out, fault)
    watched.begin()
    error = None
    try:
        perform(name, place, out)
    except ThalwegError as raised:
        error = raised
    answer.send(Ending(watched.count, error))


def performed(name: str, place: Path, out: Path, fault: Fault = NONE) -> Ending:
    """Run an experiment in its own process; a traceback is a failed assertion."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["tests.faults.preloaded"])
    answer, told = server.Pipe(duplex=False)
    process = server.Process(target=_child, args=(name, place, out, fault, told))
    process.start()
    told.close()
    process.join(300)
    if process.exitcode == -signal.SIGKILL and fault.at is not None:
        return Ending(killed=True)
    assert process.exitcode == 0, f"{name} ended with {process.exitcode}"
    return answer.recv()


def tables(path: Path) -> dict[str, pl.DataFrame]:
    """Every row that a run holds, by experiment, settings and table."""
    run = open_run(path)
    return {
        f"{folder}/{findings.header.key}/{table}": findings.table(table).collect()
        for known in experiments()
        for folder, held in known.tables.items()
        for findings in run.experiments(folder)
        for table in (*held.parts, *held.wholes)
    }


def differing(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> list[str]:
    """The tables that are not equal to the last bit."""
    both = one.keys() & other.keys()
    return sorted((one.keys() ^ other.keys()) | {name for name in both if not one[name].equals(other[name])})


class Undisturbed:
    """Finished runs of experiments, each made when it is first asked for.

    Attributes:
        place: where models and data are.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._known = dict[str, tuple[int, dict[str, pl.DataFrame]]]()

    def run(self, name: str) -> Path:
        """Its directory."""
        return self.place / "runs" / name.replace(" ", "")

    def of(self, name: str) -> tuple[int, dict[str, pl.DataFrame]]:
        """How many file operations it takes, and its tables."""
        if name not in self._known:
            ending = performed(name, self.place, self.run(name))
            assert ending.error is None, ending.error
            self._known[name] = ending.operations, tables(self.run(name))
        return self._known[name]

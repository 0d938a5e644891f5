"""Opening a run for writing: a new one, or the same one again."""

from datetime import UTC, datetime
from pathlib import Path

import filelock

from thalweg.errors import RunError
from thalweg.store._files import TEMPORARY, os_errors_as_run_errors
from thalweg.store._header import ModelFacts, RunHeader
from thalweg.store._headerfile import HEADER, read_header, write_header
from thalweg.store._schemas import PART_TABLES
from thalweg.store._writer import RunWriter

_LOCK = ".lock"
SESSION = ("command", "resolved", "versions", "hardware")
OF_PROMPTS = ("data", "max_length", "thresholds", "seed", "variants", "keep_text")
"""What a run has yet to be told while it holds only experiments that have data of their own."""


def create_or_resume(path: str | Path, header: RunHeader, *, extend: bool = False) -> RunWriter:
    """Open a run for writing: create it, or go on with it if it is the same run.

    Args:
        path: the run's directory; made if it is not there.
        header: what is to be run. The status, times and coverage in it are set here.
        extend: models that the run does not hold are added to it, and those it holds beside them are kept.

    Returns:
        The writer, which holds the run until it is closed.

    Raises:
        RunError: the directory holds another run or other files, cannot be written, or is being written by
            another process.
    """
    run = Path(path)
    _make(run)
    lock = locked(run)
    try:
        resumed = (run / HEADER).exists()
        session = {name: getattr(header, name) for name in SESSION}
        header = (
            _resumed(run, header, extend=extend)
            if resumed
            else header.model_copy(update={"started": datetime.now(UTC)})
        )
        writer = RunWriter(run, header.model_copy(update={"status": "started"}), lock, session=session)
        if not resumed:
            write_header(run, writer.header)  # first of all: a run is identified before it starts
        with os_errors_as_run_errors(run):
            for table in PART_TABLES:
                (run / table).mkdir(exist_ok=True)
        writer.clean()
        writer.update()
    except BaseException:
        lock.release()
        raise
    return writer


def _make(run: Path) -> None:
    if run.exists() and not run.is_dir():
        raise RunError(f"expected a directory for the run, {run} is a file. Choose another --out.")
    with os_errors_as_run_errors(run):
        run.mkdir(parents=True, exist_ok=True)
        left_by_us = {_LOCK, HEADER + TEMPORARY}  # killed before the header was there
        others = sorted(entry.name for entry in run.iterdir() if entry.name not in left_by_us)
    if others and HEADER not in others:
        raise RunError(
            f"{run} is not empty and no thalweg run: it holds {', '.join(others[:3])}. Choose another --out."
        )


def locked(run: Path) -> filelock.BaseFileLock:
    """Hold the run, or say that another process does."""
    # A lock of the operating system: it ends with the process that holds it, however that ends.
    lock = filelock.FileLock(run / _LOCK)
    with os_errors_as_run_errors(run):
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise RunError(f"another process is writing {run}. Wait for it to end, or choose another --out.") from error
    return lock


def _resumed(run: Path, asked: RunHeader, *, extend: bool) -> RunHeader:
    stored = read_header(run)
    if not stored.data:
        stored = stored.model_copy(update={name: getattr(asked, name) for name in OF_PROMPTS})
    if extend:
        stored, asked = _with_both_models(stored, asked)
    if lines := stored.identity.differences(asked.identity):
        raise RunError(f"{run} belongs to another run; {'; '.join(lines)}. Choose another --out, or the same options.")
    known = {(model.name, model.revision): model for model in stored.models}
    return asked.model_copy(
        update={
            "models": tuple(_filled(model, known[model.name, model.revision]) for model in asked.models),
            # what made the numbers that are there; this session's own follows with its first part
            **{name: getattr(stored, name) for name in SESSION},
            "started": stored.started,
            "seconds": stored.seconds,
            "coverage": stored.coverage,
        }
    )


def _with_both_models(stored: RunHeader, asked: RunHeader) -> tuple[RunHeader, RunHeader]:
    mine, theirs = ({(one.name, one.revision): one for one in header.models} for header in (stored, asked))
    return (
        stored.model_copy(update={"models": tuple((theirs | mine)[key] for key in mine | theirs)}),
        asked.model_copy(update={"models": tuple((mine | theirs)[key] for key in mine | theirs)}),
    )


def _filled(asked: ModelFacts, known: ModelFacts) -> ModelFacts:
    # What was learned by loading the model stays known when nothing is left to measure and it is not loaded again.
    learned = {name: value for name, value in known if getattr(asked, name) is None}
    return asked.model_copy(update=learned)

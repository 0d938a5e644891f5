"""Opening findings for writing: new ones, or the same ones again, in a run that is there or in a new one."""

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import filelock
from pydantic import JsonValue

from thalweg.errors import RunError
from thalweg.store._columns import Tables
from thalweg.store._files import TEMPORARY, make_directory, os_errors_as_run_errors
from thalweg.store._findings_header import HEADER as FINDINGS_HEADER
from thalweg.store._findings_header import FindingsHeader, Pair, Session, read_findings_header, table_facts
from thalweg.store._header import ModelFacts, RunHeader
from thalweg.store._held import Held, held_in, wholes_in
from thalweg.store._run_file import HEADER, read_header, write_header
from thalweg.store._writer import FindingsWriter

Joins = Literal["whole", "grown", "part", "models"]
_LOCK = ".lock"
_OF_PROMPTS = ("data", "max_length", "thresholds", "seed", "variants", "keep_text")
"""What a run has yet to be told while it holds only experiments that have data of their own."""
_log = logging.getLogger("thalweg.store")


def open_findings(
    path: str | Path,
    header: RunHeader,
    experiment: str,
    settings: Mapping[str, JsonValue],
    tables: Tables,
    *,
    session: Session | None = None,
    joins: Joins = "part",
    holding: FindingsWriter | None = None,
) -> FindingsWriter:
    """Open an experiment of a run for writing: a new one, or the same one again.

    What is there is compared with its checksums; what is damaged is named, removed and so measured again.

    Args:
        path: the run's directory; made if it is not there.
        header: models, data and thresholds that are asked for.
        experiment: its name.
        settings: what changes a number of it, beside the header.
        tables: what it writes.
        session: how this command runs; it enters the findings with what they measure first.
        joins: how what is asked for goes with a run that is there. "whole": models and data are the run's. "grown":
            models that the run does not hold are added to it. "part": models and data are among the run's. "models":
            the models are; what is read is said in the settings and need not be the run's data.
        holding: another writer of this process that has the run open.

    Returns:
        The writer, which holds the run until it is closed.

    Raises:
        RunError: the directory holds another run or other files, cannot be written, or is being written by another
            process.
    """
    run = Path(path)
    _make(run)
    lock = _locked(run) if holding is None else holding.hold()
    try:
        stored = _joined(run, header, joins)
        asked = FindingsHeader(
            experiment=experiment,
            settings=dict(settings),
            tables=table_facts(tables),
            started=datetime.now(UTC),
            **dict(session or Session()),
        )
        return _opened(run, stored, asked, tables, _pairs(stored, header, joins) if tables.parts else set(), lock)
    except BaseException:
        lock.release()
        raise


def _opened(
    run: Path,
    run_header: RunHeader,
    asked: FindingsHeader,
    tables: Tables,
    pairs: Iterable[Pair],
    lock: filelock.BaseFileLock,
) -> FindingsWriter:
    directory = run / asked.experiment / asked.key
    make_directory(directory)
    header = _begun(directory, asked)
    before = held_in(directory, header)
    header = header.model_copy(update={"wholes": wholes_in(directory, header), "status": "started"})
    listed = _all_pairs(run_header)  # what was measured earlier, on other data too, stays readable
    held = {pair: before.get(pair) or Held(directory, pair) for pair in listed if pair in before or pair in pairs}
    session = Session(**{name: getattr(asked, name) for name in Session.model_fields})
    writer = FindingsWriter(run, run_header, header, tables, held, session, lock)
    writer.update()
    return writer


def _begun(directory: Path, asked: FindingsHeader) -> FindingsHeader:
    """The header that is there, or a new one."""
    file = directory / FINDINGS_HEADER
    if not file.exists():
        return asked
    try:
        stored = read_findings_header(directory)
    except RunError:
        _log.warning("%s is damaged; it is made again from what is measured.", file)
        return asked
    if stored.tables != asked.tables:
        raise RunError(f"{directory} was written by another version of thalweg. Measure it again, with another --out.")
    return stored


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


def _locked(run: Path) -> filelock.BaseFileLock:
    """Hold the run, or say that another process does."""
    # A lock of the operating system: it ends with the process that holds it, however that ends.
    lock = filelock.FileLock(run / _LOCK)
    with os_errors_as_run_errors(run):
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise RunError(f"another process is writing {run}. Wait for it to end, or choose another --out.") from error
    return lock


def _joined(run: Path, asked: RunHeader, joins: Joins) -> RunHeader:
    """run.json as it is to be, written if it is not so yet."""
    if not (run / HEADER).exists():
        header = asked.model_copy(update={"started": datetime.now(UTC)})
        write_header(run, header)  # first of all: a run is identified before it starts
        return header
    (run / (HEADER + TEMPORARY)).unlink(missing_ok=True)
    stored = read_header(run)
    if joins in ("part", "models") and stored.data:
        _refuse_strangers(run, stored, asked, joins)
        return stored
    header = _resumed(run, stored, asked, grown=joins == "grown")
    if header != stored:
        write_header(run, header)
    return header


def _pairs(run_header: RunHeader, asked: RunHeader, joins: Joins) -> set[Pair]:
    """The models and data that are measured now; of a run that is surveyed, all."""
    if joins == "models":
        return set()
    return set(_all_pairs(run_header if joins in ("whole", "grown") else asked))


def _all_pairs(header: RunHeader) -> list[Pair]:
    return [(model.name, model.revision, data.name) for model in header.models for data in header.data]


def _resumed(run: Path, stored: RunHeader, asked: RunHeader, *, grown: bool) -> RunHeader:
    if not stored.data:
        stored = stored.model_copy(update={name: getattr(asked, name) for name in _OF_PROMPTS})
    if grown:
        stored, asked = _with_both_models(stored, asked)
    _refuse_another(run, stored, asked)
    known = _by_name(stored)
    models = tuple(_filled(model, known[name]) for name, model in _by_name(asked).items())
    return asked.model_copy(update={"models": models, "started": stored.started})


def _refuse_strangers(run: Path, stored: RunHeader, asked: RunHeader, joins: Joins) -> None:
    """What is asked for must be among the run's; what a survey alone depends on may differ."""
    models, names = _by_name(asked), {data.name for data in asked.data}
    free = _OF_PROMPTS if joins == "models" else ("seed", "variants", "keep_text")
    comparable = asked.model_copy(update={name: getattr(stored, name) for name in free})
    of_models = tuple(model for name, model in _by_name(stored).items() if name in models)
    of_data = stored.data if joins == "models" else tuple(data for data in stored.data if data.name in names)
    common = stored.model_copy(update={"models": of_models or stored.models, "data": of_data or stored.data})
    _refuse_another(run, common, comparable)


def _refuse_another(run: Path, stored: RunHeader, asked: RunHeader) -> None:
    if lines := stored.identity.differences(asked.identity):
        raise RunError(f"{run} belongs to another run; {'; '.join(lines)}. Choose another --out, or the same options.")


def _by_name(header: RunHeader) -> dict[tuple[str, str], ModelFacts]:
    return {(model.name, model.revision): model for model in header.models}


def _with_both_models(stored: RunHeader, asked: RunHeader) -> tuple[RunHeader, RunHeader]:
    mine, theirs = _by_name(stored), _by_name(asked)
    return (
        stored.model_copy(update={"models": tuple((theirs | mine)[name] for name in mine | theirs)}),
        asked.model_copy(update={"models": tuple((mine | theirs)[name] for name in mine | theirs)}),
    )


def _filled(asked: ModelFacts, known: ModelFacts) -> ModelFacts:
    # What was learned by loading the model stays known when nothing is left to measure and it is not loaded again.
    learned = {name: value for name, value in known if getattr(asked, name) is None}
    return asked.model_copy(update=learned)

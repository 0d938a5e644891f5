"""Opening findings for writing: new ones, or the same ones again, in a run that is there or in a new one."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import filelock
from pydantic import JsonValue

from thalweg.errors import RunError
from thalweg.store._files import (
    TEMPORARY,
    FileFacts,
    damaged,
    is_whole,
    make_directory,
    os_errors_as_run_errors,
    remove,
)
from thalweg.store._findings_header import DEFINITIONS, FindingsHeader, Pair, Session, read_findings_header, table_facts
from thalweg.store._findings_header import HEADER as FINDINGS_HEADER
from thalweg.store._header import HEADER, DataFacts, ModelFacts, RunHeader, read_header, write_header
from thalweg.store._own import LOCK, clear, own_folders
from thalweg.store._shards import Held, ShardRecord, is_ours, read_record, record_files
from thalweg.store._tables import Tables
from thalweg.store._writer import FindingsWriter

Joins = Literal["whole", "grown", "part", "models"]
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
            models, or data, that the run does not hold are added to it. "part": models and data are among the run's.
            "models": the models are; what is read need not be the run's data and is said in the settings or, where
            there are tables in parts, in the findings' own header.
        holding: another writer of this process that has the run open.

    Returns:
        The writer, which holds the run until it is closed.

    Raises:
        RunError: the directory holds another run or other files, cannot be written, or is being written by another
            process.
    """
    run, session = Path(path), session or Session()
    _make(run)
    lock = _locked(run) if holding is None else holding.hold()
    try:
        stored = _joined(run, header, joins)
        asked = FindingsHeader(
            experiment=experiment,
            settings=dict(settings),
            tables=table_facts(tables),
            definitions=DEFINITIONS.get(experiment, 1),
            started=datetime.now(UTC),
            **dict(session),
        )
        directory = run / experiment / asked.key
        make_directory(directory)
        _, _, *of_pairs = own_folders(directory)
        begun = _begun(directory, asked)
        clear(run, directory, {**begun.tables, **asked.tables})
        if joins == "models":
            begun = begun.model_copy(update={"data": _own_data(run, stored, begun, header)})
        held = _held_in(directory, of_pairs, begun)
        begun = begun.model_copy(update={"wholes": _wholes_in(directory, begun), "status": "started"})
        measured = stored if joins in ("whole", "grown") else header  # of a run that is surveyed, all
        now = set[Pair](measured.pairs if tables.parts else ())
        every = dict.fromkeys([*stored.pairs, *stored.model_copy(update={"data": begun.data}).pairs, *held])
        # What was measured earlier, on other data too, stays readable.
        held = {pair: held.get(pair) or Held(directory, pair) for pair in every if pair in now | held.keys()}
        writer = FindingsWriter(run, stored, begun, tables, held, session, lock)
        writer.update()
        return writer
    except BaseException:
        lock.release()
        raise


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
    if missing := _unmeasured(stored, asked):
        raise RunError(
            f"{directory} was measured by another version of thalweg: {missing}. Measure it again, with another --out."
        )
    if stored.tables != asked.tables or stored.definitions != asked.definitions:  # it is summed up again
        plans = {name: stored.wholes[name] for name in stored.named("plan") if name in stored.wholes}
        again = {"tables": asked.tables, "definitions": asked.definitions, "wholes": plans}
        return stored.model_copy(update=again)
    return stored


def _unmeasured(stored: FindingsHeader, asked: FindingsHeader) -> str:
    """Which columns that are measured it lacks, or has beside; empty where it can be summed up again."""
    differing = list[str]()
    for name in dict.fromkeys((*asked.tables, *stored.tables)):
        now, then = asked.tables.get(name), stored.tables.get(name)
        if "whole" in {table.kind for table in (now, then) if table} or now == then:
            continue
        columns, held = (set(table.columns.items()) if table else set[tuple[str, str]]() for table in (now, then))
        said = [
            f"{word} {', '.join(sorted(name for name, _ in some))}"
            for word, some in (("lacks", columns - held), ("has", held - columns))
            if some
        ]
        differing.append(f"{name} {' and '.join(said) or 'is of another order'}")
    return "; ".join(differing)


def _make(run: Path) -> None:
    if run.exists() and not run.is_dir():
        raise RunError(f"expected a directory for the run, {run} is a file. Choose another --out.")
    with os_errors_as_run_errors(run):
        run.mkdir(parents=True, exist_ok=True)
        left_by_us = {LOCK, HEADER + TEMPORARY}  # killed before the header was there
        others = sorted(entry.name for entry in run.iterdir() if entry.name not in left_by_us)
    if others and HEADER not in others:
        raise RunError(
            f"{run} is not empty and no thalweg run: it holds {', '.join(others[:3])}. Choose another --out."
        )


def _locked(run: Path) -> filelock.BaseFileLock:
    """Hold the run, or say that another process does."""
    # A lock of the operating system: it ends with the process that holds it, however that ends.
    lock = filelock.FileLock(run / LOCK)
    with os_errors_as_run_errors(run):
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise RunError(f"another process is writing {run}. Wait for it to end, or choose another --out.") from error
    return lock


def _own_data(run: Path, stored: RunHeader, begun: FindingsHeader, asked: RunHeader) -> tuple[DataFacts, ...]:
    """Data sets that are no survey's, with those of before: a name stands for one of them in all of a run."""
    known = {data.name: data for data in (*stored.data, *begun.data)}
    named = stored.model_copy(update={"data": tuple(known.get(data.name, data) for data in asked.data)})
    _refuse_another(run, named, named.model_copy(update={"data": asked.data}))
    return tuple({data.name: data for data in (*begun.data, *asked.data)}.values())


def _joined(run: Path, asked: RunHeader, joins: Joins) -> RunHeader:
    """run.json as it is to be, written if it is not so yet."""
    if joins == "models":
        asked = asked.model_copy(update={"data": ()})
    if not (run / HEADER).exists():
        header = asked.model_copy(update={"started": datetime.now(UTC)})
        write_header(run, header)  # first of all: a run is identified before it starts
        return header
    stored = read_header(run)
    if joins == "models" or (joins == "part" and stored.data):
        _refuse_strangers(run, stored, asked, joins)
        return stored
    header = _resumed(run, stored, asked, grown=joins == "grown")
    if header != stored:
        write_header(run, header)
    return header


def _resumed(run: Path, stored: RunHeader, asked: RunHeader, *, grown: bool) -> RunHeader:
    if not stored.data:
        stored = stored.model_copy(update={name: getattr(asked, name) for name in _OF_PROMPTS})
    if grown:
        stored, asked = _grown(run, stored, asked)
    _refuse_another(run, stored, asked)
    known = stored.by_name
    models = tuple(_filled(model, known[name]) for name, model in asked.by_name.items())
    return asked.model_copy(update={"models": models, "started": stored.started})


def _grown(run: Path, stored: RunHeader, asked: RunHeader) -> tuple[RunHeader, RunHeader]:
    """Both with what either names, each with its own facts of what both name; a run is all its models on all its data.

    RunError where a pair of a model and data would be left out.
    """
    mine, theirs = stored.by_name, asked.by_name
    data, more = ({each.name: each for each in header.data} for header in (stored, asked))
    lacks_data, lacks_models = theirs.keys() - mine.keys() and data.keys() - more.keys(), mine.keys() - theirs.keys()
    if lacks_data or (more.keys() - data.keys() and lacks_models):
        raise RunError(
            f"{run} holds {_named(stored)}; asked for {_named(asked)}. A model joins on all of its data: leave "
            f"--data out. Data join for all of its models: name {run} in place of the model. Or choose another --out."
        )
    of_stored = {"models": tuple((mine | theirs | mine).values()), "data": tuple((data | more | data).values())}
    of_asked = {"models": tuple((mine | theirs).values()), "data": tuple((data | more).values())}
    return stored.model_copy(update=of_stored), asked.model_copy(update=of_asked)


def _named(header: RunHeader) -> str:
    models, data = (", ".join(sorted({each.name for each in named})) for named in (header.models, header.data))
    return f"{models} on {data}"


def _refuse_strangers(run: Path, stored: RunHeader, asked: RunHeader, joins: Joins) -> None:
    """What is asked for must be among the run's; what a survey alone depends on may differ."""
    models, names = asked.by_name, {data.name for data in asked.data}
    free = _OF_PROMPTS if joins == "models" else ("seed", "variants", "keep_text")
    comparable = asked.model_copy(update={name: getattr(stored, name) for name in free})
    of_models = tuple(model for name, model in stored.by_name.items() if name in models)
    of_data = stored.data if joins == "models" else tuple(data for data in stored.data if data.name in names)
    common = stored.model_copy(update={"models": of_models or stored.models, "data": of_data or stored.data})
    _refuse_another(run, common, comparable)


def _refuse_another(run: Path, stored: RunHeader, asked: RunHeader) -> None:
    if lines := stored.identity.differences(asked.identity):
        same = "the same options" + (" (without --dtype it is the run's)" if lines[0].startswith("dtype of") else "")
        raise RunError(f"{run} belongs to another run; {'; '.join(lines)}. Choose another --out, or {same}.")


def _filled(asked: ModelFacts, known: ModelFacts) -> ModelFacts:
    # What was learned by loading the model stays known when nothing is left to measure and it is not loaded again.
    learned = {name: value for name, value in known if getattr(asked, name) is None}
    return asked.model_copy(update=learned)


def _held_in(directory: Path, folders: Iterable[Path], header: FindingsHeader) -> dict[Pair, Held]:
    """Read what is finished; what is damaged is named and removed, and what a killed writer left is removed."""
    records = dict[Pair, list[ShardRecord]]()
    for folder in folders:
        for record in _intact(folder, header.tables):
            records.setdefault((record.model, record.revision, record.data), []).append(record)
    held = {pair: Held(directory, pair, of_pair) for pair, of_pair in records.items()}
    plans = {directory / f"{name}.parquet": header.wholes.get(name, ()) for name in header.named("plan")}
    if not all(is_whole(file, *known) for file, known in plans.items()):  # they say how the parts were measured
        for shards in held.values():
            shards.empty()
    return held


def _wholes_in(directory: Path, header: FindingsHeader) -> dict[str, tuple[FileFacts, ...]]:
    """The tables that are not in parts and are as they were written; others go."""
    whole = dict[str, tuple[FileFacts, ...]]()
    for name in (*header.named("whole"), *header.named("plan")):
        file = directory / f"{name}.parquet"
        if facts := tuple(each for each in header.wholes.get(name, ()) if is_whole(file, each)):
            whole[name] = facts
        elif file.exists():
            if name in header.wholes:  # else nobody knows what it should hold, as of one of earlier definitions
                _log.warning("%s; it is made again.", damaged(file))
            remove(file)
    return whole


def _intact(folder: Path, tables: Mapping[str, Any]) -> Iterator[ShardRecord]:
    """The shards whose files hold what was written; others are named, and every other file of ours is removed."""
    intact = [record for path in record_files(folder) if (record := _checked(path))]
    kept = {path.name for record in intact for path in record.files(folder).values()} | {each.name for each in intact}
    remove(*(path for path in folder.iterdir() if is_ours(path.name, tables) and path.name not in kept))
    yield from intact


def _checked(path: Path) -> ShardRecord | None:
    try:
        record = read_record(path)
    except RunError:
        _log.warning("%s is damaged; its rows are measured again.", path)
        return None
    for table, file in record.files(path.parent).items():
        if not is_whole(file, record.parts[table]):
            rows = f"{record.first_row} to {record.stop_row - 1}"
            _log.warning("%s; rows %s of %s are measured again.", damaged(file), rows, record.data)
            return None
    return record

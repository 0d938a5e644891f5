"""What is thalweg's own in the folders of a run: the rest stays where it is, and is mentioned once."""

import logging
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from thalweg.errors import RunError
from thalweg.store._files import TEMPORARY, remove, require_own
from thalweg.store._findings_header import HEADER, read_findings_header
from thalweg.store._header import HEADER as RUN_HEADER
from thalweg.store._shards import is_ours, is_pair_folder

LOCK = ".lock"
PAGE = "report.html"
_KEY = re.compile(r"[0-9a-f]{10}")
_log = logging.getLogger("thalweg.store")


def key_folders(experiment: Path) -> list[Path]:
    """The folders of an experiment that hold findings, or may come to hold them."""
    if not experiment.is_dir():
        return []
    return sorted(path for path in experiment.iterdir() if _KEY.fullmatch(path.name) and path.is_dir())


def hold_rows(directory: Path) -> bool:
    """Whether a folder of findings holds more than a writer leaves that was killed before it wrote a header."""
    return any(path.suffix == ".parquet" or is_pair_folder(path.name) for path in directory.iterdir())


def pair_folders(directory: Path) -> list[Path]:
    """The folders with parts."""
    return sorted(path for path in directory.iterdir() if is_pair_folder(path.name) and path.is_dir())


def own_folders(directory: Path) -> list[Path]:
    """The folders of these findings that may be written into; RunError where one of them is a link to elsewhere."""
    folders = [directory.parent, directory, *pair_folders(directory)]
    for folder in folders:
        require_own(folder)
    return folders


def clear(run: Path, own: Path, tables: Mapping[str, Any]) -> None:
    """Remove what dead writers left anywhere in a run that is held, and mention what is not thalweg's.

    Args:
        run: its directory.
        own: of the findings that are written next.
        tables: theirs.
    """
    remove(run / (RUN_HEADER + TEMPORARY))
    for experiment in sorted(path for path in run.iterdir() if path.is_dir() and not path.is_symlink()):
        for directory in (path for path in key_folders(experiment) if not path.is_symlink()):
            known = tables if directory == own else _tables_in(directory)
            left = (path for path in _files(directory) if path.name.endswith(TEMPORARY))
            remove(*(path for path in left if _is_ours(path, known)))
    strangers = [path for path in run.iterdir() if path.name not in (LOCK, RUN_HEADER, PAGE, PAGE + TEMPORARY)]
    strangers += [*own.parent.iterdir(), *(path for path in _files(own) if not _is_ours(path, tables))]
    if names := [str(path.relative_to(run)) for path in sorted(strangers) if not path.is_dir()]:
        _mention(run, tuple(names))


def _files(directory: Path) -> Iterator[Path]:
    """Those in a folder of findings, and in its folders with parts."""
    for folder in (directory, *pair_folders(directory)):
        if not folder.is_symlink() or folder == directory:
            yield from (path for path in folder.iterdir() if not path.is_dir())


def _is_ours(path: Path, tables: Mapping[str, Any]) -> bool:
    if is_pair_folder(path.parent.name):
        return is_ours(path.name, tables)
    return path.name.removesuffix(TEMPORARY) in {HEADER, *(f"{table}.parquet" for table in tables)}


def _tables_in(directory: Path) -> Mapping[str, Any]:
    try:
        return read_findings_header(directory).tables
    except RunError:
        return {}


@cache
def _mention(run: Path, names: tuple[str, ...]) -> None:
    """Once in a process."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    _log.warning(
        "%s holds files that are not thalweg's: %s%s. They are left as they are.", run, ", ".join(names[:5]), more
    )

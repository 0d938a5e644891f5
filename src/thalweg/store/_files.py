"""The files of a run: there whole or not at all, with checksums of what they hold; JSON files are checked models."""

import errno
import hashlib
import json
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thalweg.errors import RunError

TEMPORARY = ".tmp"
CHECKSUM = "checksum"
AGAIN = "Run the same command again: it is made anew."
LARGEST = 2**26
"""Bytes of a JSON file: far more than any that is written."""
Count = Annotated[int, Field(ge=0)]
Document = TypeVar("Document", bound=BaseModel)


class Facts(BaseModel):
    """Named values that cannot be changed, and none that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileFacts(Facts):
    """What a file held when it was written.

    Attributes:
        sha256: of its bytes, in hexadecimal digits.
        size: how many they are.
    """

    sha256: str
    size: Count


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, force it to disk, and rename it.

    Args:
        path: where the file is to be; its directory exists.
        content: all of it.

    Raises:
        RunError: the disk is full or the directory cannot be written. No half file is left behind.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    with os_errors_as_run_errors(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_directory(path.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


@contextmanager
def os_errors_as_run_errors(path: Path) -> Generator[None]:
    """Turn what the system says about a path into one line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = (
                f"no space left on the disk while writing {path}; the parts that are finished stay. "
                "Free some space and run the same command again: it goes on where it stopped."
            )
        elif error.errno == errno.EISDIR:
            message = f"cannot write {path}: a folder lies in its place. Move it away, or choose another --out."
        elif error.errno == errno.ENOLCK:
            message = f"the file system of {path} keeps no locks, which hold two writers apart. Choose another --out."
        else:
            reason = error.strerror or str(error)
            message = f"cannot write {path}: {reason}. Make it writable, or choose another --out."
        raise RunError(message) from error


def _sync_directory(directory: Path) -> None:
    # A rename survives a power cut only once its directory is on disk; not every system can open a directory.
    with suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def require_own(folder: Path) -> None:
    """RunError for a folder of a run that is a link: what is elsewhere is nobody's to remove."""
    if folder.is_symlink():
        raise RunError(
            f"{folder} is a symbolic link, and a run is written into folders of its own alone. Put the folder itself "
            "in its place, or choose another --out."
        )


def make_directory(directory: Path) -> None:
    """Make a directory in a folder of a run, and those above it, if it is not there."""
    require_own(directory.parent)
    require_own(directory)
    if directory.is_dir():
        return
    with os_errors_as_run_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        _sync_directory(directory.parent)


def remove(*paths: Path) -> None:
    """Remove files, if they are there."""
    for path in paths:
        with os_errors_as_run_errors(path):
            path.unlink(missing_ok=True)


def facts_of(content: bytes) -> FileFacts:
    """Give what is written down of a file that holds these bytes."""
    return FileFacts(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def is_whole(path: Path, *known: FileFacts) -> bool:
    """Whether a file is there and holds one of the contents that were written.

    A file is read once in a process, and again only when it was changed.
    """
    try:
        seen = path.stat()
        fits = [facts for facts in known if facts.size == seen.st_size]
        return bool(fits) and _sha256(path, seen.st_size, seen.st_mtime_ns) in {facts.sha256 for facts in fits}
    except OSError:
        return False


def damaged(path: Path) -> str:
    """Say of a file that it is not what was written."""
    return f"{path} is {'damaged: it does not hold what was written' if path.exists() else 'missing'}"


def require_whole(path: Path, *known: FileFacts) -> Path:
    """Give the file back; RunError where it is missing, or not what was written."""
    if not is_whole(path, *known):
        raise RunError(f"{damaged(path)}. Run the same command again: it is measured anew.")
    return path


@cache
def _sha256(path: Path, size: int, changed: int) -> str:
    del size, changed  # a file that was written again is another one
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_document(path: Path, document: BaseModel) -> None:
    """Write a document as JSON, whole, with its checksum as the last entry."""
    values = json.loads(document.model_dump_json())
    text = json.dumps({**values, CHECKSUM: _checksum(values)}, indent=2, ensure_ascii=False)
    write_whole(path, text.encode() + b"\n")


def read_document(path: Path, kind: type[Document], *, todo: str = AGAIN) -> Document:
    """Read a document; RunError, with what to do, where it lacks something or is not what was written."""
    values = parsed(path, todo=todo)
    checksum = values.pop(CHECKSUM, None)
    try:
        document = kind.model_validate_json(json.dumps(values))
    except ValidationError as error:
        first = error.errors()[0]
        said = f"{'.'.join(map(str, first['loc'])) or path.name}: {first['msg']}"
        raise RunError(f"{path} is damaged: {' '.join(said.split())[:300]}. {todo}") from error
    if checksum != _checksum(values):
        raise RunError(f"{path} is damaged: it does not hold what was written. {todo}")
    return document


def parsed(path: Path, *, todo: str = AGAIN) -> dict[str, Any]:
    """Read a JSON object; RunError where it is none."""
    if not path.is_file():
        raise RunError(f"{path} is {'damaged: it is no file' if path.exists() else 'missing'}. {todo}")
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST:,} bytes")
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: it is not JSON ({error}). {todo}") from error
    if not isinstance(values, dict):
        raise RunError(f"{path} is damaged: expected a JSON object. {todo}")
    return cast("dict[str, Any]", values)


def _checksum(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

"""Files that are there whole or not at all."""

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from thalweg.errors import RunError

TEMPORARY = ".tmp"


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


def make_directory(directory: Path) -> None:
    """Make a directory, and those above it, if it is not there."""
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

"""Reading and writing run.json."""

from pathlib import Path

from thalweg.errors import RunError
from thalweg.store._documents import parsed, read_document, write_document
from thalweg.store._header import FORMAT, RunHeader

HEADER = "run.json"
_TODO = "Restore it, or measure again with another --out."


def write_header(run: Path, header: RunHeader) -> None:
    """Write run.json whole."""
    write_document(run / HEADER, header)


def read_header(run: Path) -> RunHeader:
    """Read run.json.

    Args:
        run: the run's directory.

    Returns:
        The header.

    Raises:
        RunError: it is not there, not JSON, of another format, or not what was written.
    """
    path = run / HEADER
    if not path.is_file():
        reason = "it has no run.json" if run.is_dir() else "there is no such directory"
        raise RunError(f"{run} is no thalweg run: {reason}. Pass the directory that `thalweg survey --out` wrote.")
    _require_format(run, parsed(path, todo=_TODO).get("format"))
    return read_document(path, RunHeader, todo=_TODO)


def _require_format(run: Path, version: object) -> None:
    if not isinstance(version, int) or version == FORMAT:
        return
    if version > FORMAT:
        raise RunError(
            f"{run} was written by a newer thalweg: format {version}, this one reads format {FORMAT}. Upgrade thalweg."
        )
    raise RunError(
        f"{run} was written by a development version of thalweg (format {version}): measure it again, with another "
        "--out."
    )

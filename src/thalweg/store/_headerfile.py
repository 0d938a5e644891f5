"""Reading and writing run.json."""

import json
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from thalweg.errors import RunError
from thalweg.store._files import write_whole
from thalweg.store._header import FORMAT, RunHeader

HEADER = "run.json"


def write_header(run: Path, header: RunHeader) -> None:
    """Write run.json whole."""
    write_whole(run / HEADER, header.model_dump_json(indent=2).encode() + b"\n")


def read_header(run: Path) -> RunHeader:
    """Read run.json.

    Args:
        run: the run's directory.

    Returns:
        The header.

    Raises:
        RunError: it is not there, not JSON, of a newer format, or lacks something.
    """
    path = run / HEADER
    try:
        text = path.read_bytes()
    except OSError as error:
        reason = "it has no run.json" if run.is_dir() else "there is no such directory"
        raise RunError(
            f"{run} is no thalweg run: {reason}. Pass the directory that `thalweg survey --out` wrote."
        ) from error
    values = _parse(path, text)
    version = values.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise RunError(
            f"{run} was written by a newer thalweg: format {version}, this one reads up to {FORMAT}. Upgrade thalweg."
        )
    try:
        return RunHeader.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "run.json"
        raise RunError(
            f"{path} is damaged: {where}: {first['msg']}. Restore it, or measure again with another --out."
        ) from error


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise RunError(
            f"{path} is damaged: it is not JSON ({error}). Restore it, or measure again with another --out."
        ) from error
    if not isinstance(values, dict):
        raise RunError(f"{path} is damaged: expected a JSON object. Restore it, or measure again with another --out.")
    return cast("dict[str, Any]", values)

"""JSON files with a checksum of their own content: run.json, header.json, the records of shards and of features."""

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from thalweg.errors import RunError
from thalweg.store._files import write_whole

CHECKSUM = "checksum"
AGAIN = "Run the same command again: it is made anew."
Document = TypeVar("Document", bound=BaseModel)


def write_document(path: Path, document: BaseModel) -> None:
    """Write a document whole, with its checksum as the last entry."""
    values = json.loads(document.model_dump_json())
    text = json.dumps({**values, CHECKSUM: _checksum(values)}, indent=2, ensure_ascii=False)
    write_whole(path, text.encode() + b"\n")


def read_document(path: Path, kind: type[Document], *, todo: str = AGAIN) -> Document:
    """Read a document.

    Args:
        path: the file.
        kind: what it holds.
        todo: what to do where it is damaged.

    Raises:
        RunError: it cannot be read, lacks something, or is not what was written.
    """
    values = parsed(path, todo=todo)
    checksum = values.pop(CHECKSUM, None)
    try:
        document = kind.model_validate_json(json.dumps(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or path.name
        raise RunError(f"{path} is damaged: {where}: {first['msg']}. {todo}") from error
    if checksum != _checksum(values):
        raise RunError(f"{path} is damaged: it does not hold what was written. {todo}")
    return document


def parsed(path: Path, *, todo: str = AGAIN) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunError: it is none.
    """
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged: it is not JSON ({error}). {todo}") from error
    if not isinstance(values, dict):
        raise RunError(f"{path} is damaged: expected a JSON object. {todo}")
    return cast("dict[str, Any]", values)


def _checksum(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

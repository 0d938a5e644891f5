"""What an experiment of a run was asked, and how far it came: ``RUN/<experiment>/<key>.json``."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from thalweg.errors import RunError
from thalweg.store._files import write_whole
from thalweg.store._header import Coverage, Status


class ExperimentHeader(BaseModel):
    """One experiment of a run; the same run may hold the same experiment with other settings.

    Attributes:
        experiment: its name.
        settings: what changes a number of it, beside what run.json says.
        status: started, finished, interrupted or failed.
        command: as passed.
        coverage: how far it came with each model and data set.
        seconds: spent so far.
        versions: of the packages in use.
        updated: when this file was last written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    experiment: str
    settings: dict[str, JsonValue]
    status: Status = "started"
    command: tuple[str, ...] = ()
    coverage: tuple[Coverage, ...] = ()
    seconds: float = Field(default=0.0, ge=0.0)
    versions: dict[str, str] = {}
    updated: datetime | None = None

    @property
    def key(self) -> str:
        """Names the experiment's files: different for different settings."""
        return experiment_key(self.settings)


def experiment_key(settings: Mapping[str, JsonValue]) -> str:
    """Ten hexadecimal digits that stand for the settings, whatever their order."""
    text = json.dumps(dict(settings), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def write_experiment(directory: Path, header: ExperimentHeader) -> ExperimentHeader:
    """Write the file whole and give the header as written, with the time in it."""
    header = header.model_copy(update={"updated": datetime.now(UTC)})
    write_whole(directory / f"{header.key}.json", header.model_dump_json(indent=2).encode() + b"\n")
    return header


def read_experiment(path: Path) -> ExperimentHeader:
    """Read one experiment's file.

    Raises:
        RunError: it is damaged or of a newer thalweg.
    """
    try:
        return ExperimentHeader.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise RunError(
            f"{path} cannot be read as what an experiment was asked: {str(error).splitlines()[0]}. "
            "It may be damaged, or written by a newer thalweg."
        ) from error

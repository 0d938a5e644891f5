"""What all local formats share: a path, and the hash of its bytes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from thalweg.prompts._lines import unreadable


@dataclass(frozen=True)
class LocalFile:
    """A file that holds prompts."""

    path: Path

    def asked(self, text_field: str | None) -> str | None:
        """What a person's ``--text-field`` means in this format; None leaves the choice to what is there."""
        return text_field

    def identity(self) -> dict[str, str | None]:
        """The hash of the file's bytes: its name and its folder change no number."""
        try:
            with self.path.open("rb") as file:
                return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}
        except OSError as error:
            raise unreadable(self.path, error) from error

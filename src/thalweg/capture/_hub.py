"""The hub, asked once and not for long: which commit a name means, or that only the local cache can say."""

import threading
from pathlib import Path

from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

PATIENCE = 5.0
"""Seconds for the hub's first answer: without a network its own client tries again for half a minute."""


def commit_on_hub(name: str, revision: str | None) -> str | None:
    """The commit that a revision of a model means; None where the hub does not answer.

    Raises:
        RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError, HFValidationError: it answers, and says no.
    """
    said = list[str | Exception | None]()

    def ask() -> None:
        try:
            said.append(HfApi().model_info(name, revision=revision, timeout=PATIENCE).sha)
        except Exception as error:
            said.append(error)

    # In a thread: a name with several addresses is tried at each of them, for as long each time.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    answer = said[0] if said else None
    if isinstance(answer, GatedRepoError | HFValidationError | RepositoryNotFoundError | RevisionNotFoundError):
        raise answer
    return None if isinstance(answer, Exception) else answer


def commit_in_cache(name: str, revision: str | None, file: str) -> str | None:
    """The commit that a revision meant when ``file`` was fetched."""
    cached = try_to_load_from_cache(name, file, revision=revision or "main")
    return Path(cached).parent.name if isinstance(cached, str) else None

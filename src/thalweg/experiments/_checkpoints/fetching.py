"""The next checkpoint is brought near in the background while this one is measured."""

import threading
from contextlib import suppress
from types import TracebackType

from thalweg.capture import IdentifiedModel, fetch_weights


class Fetching:
    """Fetches one model's weights at a time; left by an error it waits for nothing.

    What goes wrong is told by whoever loads the model afterwards, and not here.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, model: IdentifiedModel) -> None:
        """Start with a model's weights, once those before are here."""
        self.wait()
        # A daemon: the end of the process waits for no download.
        self._thread = threading.Thread(target=self._fetch, args=(model,), name="thalweg-fetch", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until what was begun is here."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _fetch(self, model: IdentifiedModel) -> None:
        with suppress(Exception):
            fetch_weights(model, self._stop.is_set)

    def __enter__(self) -> "Fetching":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()

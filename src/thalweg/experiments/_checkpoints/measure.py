"""Checkpoints, or the models of a family, measured one after the other; and what they reach, as tables of a run."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import zip_longest
from types import TracebackType

import polars as pl

from thalweg import averages
from thalweg.capture import IdentifiedModel, fetch_weights
from thalweg.errors import ModelError, OverflowInFloat16, ProofError, ThalwegError
from thalweg.experiments._checkpoints.tables import TABLES
from thalweg.experiments._survey.measure import ModelSurvey, aggregate
from thalweg.store import FindingsWriter, open_findings


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


def measure(surveys: Sequence[ModelSurvey], writer: FindingsWriter, *, prefetch: bool) -> dict[str, ThalwegError]:
    """Measure what is unfinished, one after the other, and give what went wrong with single ones."""
    unfinished = [survey for survey in surveys if any(passage.is_unfinished for passage in survey.passages)]
    for survey in surveys:
        if survey not in unfinished:
            for passage in survey.passages:
                passage.require_some()
    several = len({survey.model.name for survey in surveys}) > 1
    failed = dict[str, ThalwegError]()
    with Fetching() as fetching:
        for survey, following in zip_longest(unfinished, unfinished[1:]):
            fetching.wait()
            name = (survey.model.name, survey.model.revision)
            is_new = not any(passage.done for passage in survey.passages)
            try:
                survey.loaded()
                if prefetch and following is not None:
                    fetching.begin(following.model)
                survey.run()
            except (ModelError, ProofError, OverflowInFloat16) as error:
                # Rows of an earlier call stay where loading failed, as without a network; out of float16's range the
                # model itself is, and a run that goes on has to end like an undisturbed one.
                leaves = is_new or isinstance(error, OverflowInFloat16)
                said = str(error) if leaves else f"{error} What was measured of it before stays."
                # made anew: what was raised holds on to the weights by its traceback
                failed[name[0] if several else name[1]] = type(error)(said)
                if leaves:
                    writer.forget(*name)
                    writer.remove_model(*name)
            survey.release()
    return failed


def sum_up(writer: FindingsWriter) -> None:
    aggregate(writer)
    write_emergence(writer)


NAME = "checkpoints"


def write_emergence(writer: FindingsWriter) -> None:
    """Make ``checkpoints/`` anew from the run's profile: curves over training, and where each phenomenon emerges.

    Cheap enough to follow every measurement of a training. Nothing is written before there is a profile.

    Args:
        writer: of the survey; its profile is written.

    Raises:
        RunError: the directory cannot be written.
    """
    survey = writer.reading()
    if "profile" in survey.missing:
        return
    sizes = pl.DataFrame(
        [(model.name, model.revision, model.parameters) for model in writer.run_header.models],
        schema={"model": pl.String, "revision": pl.String, "parameters": pl.Int64},
        orient="row",
    )
    curves = averages.checkpoint_curves(survey.table("profile").collect())
    emerged = averages.emergence(curves)
    curves = curves.join(sizes, on=["model", "revision"], how="left", maintain_order="left")
    with open_findings(
        writer.path, writer.run_header, NAME, {}, TABLES, session=writer.session, holding=writer
    ) as findings:
        findings.write_table("curves", curves)
        findings.write_table("emergence", emerged)
        findings.update(status="finished")

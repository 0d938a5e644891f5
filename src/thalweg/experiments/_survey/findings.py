"""Where the rows of a survey go: the survey's own folder of a run."""

from pathlib import Path

from thalweg.experiments._survey.tables import tables
from thalweg.store import FindingsWriter, RunHeader, Session, open_findings

NAME = "survey"


def open_survey(
    path: str | Path, header: RunHeader, session: Session | None = None, *, grown: bool = False
) -> FindingsWriter:
    """Open the survey of a run for writing: a new run, or the same one again.

    Args:
        path: the run's directory.
        header: what is to be run.
        session: how this command runs.
        grown: models that the run does not hold are added to it, and those it holds beside them are kept.

    Raises:
        RunError: the directory holds another run or other files, cannot be written, or is being written by another
            process.
    """
    written = tables(variants=header.variants, keep_text=header.keep_text)
    return open_findings(path, header, NAME, {}, written, session=session, joins="grown" if grown else "whole")

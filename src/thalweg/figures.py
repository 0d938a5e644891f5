"""What do a run's tables look like on paper? Every section with panels as a file; no model, no torch, no window."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from thalweg.errors import RunError
from thalweg.experiments import experiments
from thalweg.paths import path_here
from thalweg.shown import Section
from thalweg.store import Run, open_run, write_whole

__all__ = ["save_figures", "save_section"]


def save_figures(
    run: Run | str | Path, path: Annotated[str | Path | None, Parameter(name="--out")] = None
) -> list[Path]:
    """Draw the paper's figures from a run's tables, as PNG and PDF, and give their paths.

    On the command line:

        thalweg figures runs/pythia-410m

    Args:
        run: the run or its directory, finished or not; what needs a table that is not written yet is left out.
        path: the folder for the figures, ``RUN/figures`` by default.

    Returns:
        The files, in the order they were drawn.

    Raises:
        RunError: there is no such run, or the directory cannot be written.

    Example:
        >>> save_figures("runs/pythia-410m")  # doctest: +SKIP
    """
    run = run if isinstance(run, Run) else open_run(run)
    directory = path_here("--out", path) if path is not None else run.path / "figures"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"cannot write figures to {directory}: {error.strerror or error}. Choose another place."
        ) from error
    return [file for name, section in _figures(run) for file in save_section(section, directory, name)]


def _figures(run: Run) -> Iterator[tuple[str, Section]]:
    """Sections with a figure and its name: of several of one name the first, which is the latest, has it plain."""
    times = Counter[str]()
    for experiment in experiments():
        for section in (section for chapter in experiment.chapters(run) for section in chapter.sections):
            if section.panels and section.name and section.only != "terminal":
                times[section.name] += 1
                time = times[section.name]
                yield section.name if time == 1 else f"{section.name}_{section.key or time}", section


def save_section(section: Section, directory: Path, name: str) -> list[Path]:
    """Draw the panels of a section and give the files.

    Args:
        section: with panels.
        directory: for the files; it is there.
        name: of the files, without ending.
    """
    from thalweg.shown import files_of  # matplotlib is loaded here and not for a look at the help

    contents = {directory / f"{name}.{kind}": content for kind, content in files_of(section).items()}
    for file, content in contents.items():
        write_whole(file, content)
    return list(contents)

"""What do a run's tables look like on paper? Every section with panels as a file; no model, no torch, no window."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from thalweg.errors import RunError
from thalweg.experiments import experiments
from thalweg.shown import Section, files_of
from thalweg.store import Run, write_whole

__all__ = ["save_figures"]


def save_figures(run: Run, path: str | Path | None = None) -> list[Path]:
    """Draw everything the run's tables allow, each as png and pdf.

    Args:
        run: the run, finished or not; what needs a table that is not written yet is left out.
        path: the directory for the figures, ``figures`` inside the run if not given.

    Returns:
        The files, in the order they were drawn.

    Raises:
        RunError: the directory cannot be written.
    """
    directory = Path(path) if path is not None else run.path / "figures"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"cannot write figures to {directory}: {error.strerror or error}. Choose another place."
        ) from error
    return [file for name, section in _figures(run) for file in _save(section, directory, name)]


def _figures(run: Run) -> Iterator[tuple[str, Section]]:
    """Sections with a figure and its name: of several of one name the first, which is the latest, has it plain."""
    times = Counter[str]()
    for experiment in experiments():
        for section in (section for chapter in experiment.chapters(run) for section in chapter.sections):
            if section.panels and section.name and section.only != "terminal":
                times[section.name] += 1
                yield _name(section, times[section.name]), section


def _name(section: Section, time: int) -> str:
    return section.name if time == 1 else f"{section.name}_{section.key or time}"


def _save(section: Section, directory: Path, name: str) -> list[Path]:
    contents = {directory / f"{name}.{kind}": content for kind, content in files_of(section).items()}
    for file, content in contents.items():
        write_whole(file, content)
    return list(contents)

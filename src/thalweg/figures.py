"""What do a run's tables look like on paper? Every section with panels as a file; no model, no torch, no window."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from thalweg.errors import RunError, UsageError
from thalweg.experiments import PIECES, experiments
from thalweg.paths import path_here
from thalweg.shown import FORMATS, Section, Width
from thalweg.store import Run, open_run, write_whole
from thalweg.validated import did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure", "save_figures", "save_section"]


def save_figures(
    run: Run | str | Path,
    path: Annotated[str | Path | None, Parameter(name="--out")] = None,
    *,
    only: Annotated[Sequence[str] | None, PIECES] = None,
    formats: Annotated[Sequence[str], Parameter(name="--format"), PIECES] = ("png", "pdf"),
    width: Width | None = None,
    dpi: int = 160,
) -> list[Path]:
    """Draw the paper's figures from a run's tables, as PNG and PDF, and give their paths.

    On the command line:

        thalweg figures runs/pythia-410m

        thalweg figures runs/pythia-410m --only depth_profile --format pdf,svg --width column

    Args:
        run: the run or its directory, finished or not; what needs a table that is not written yet is left out.
        path: the folder for the figures, ``RUN/figures`` by default.
        only: figures by name, or by how their names begin; all by default.
        formats: png, pdf and svg, those that are wanted.
        width: of a paper that figures have to fit into: "column" (3.3 inches) or "text" (6.8 inches), with the letters
            and as many panels side by side as fit there; as wide as their panels by default.
        dpi: dots to an inch of a PNG.

    Returns:
        The files, in the order they were drawn.

    Raises:
        UsageError: there is no such figure or format.
        RunError: there is no such run, or the directory cannot be written.

    Example:
        >>> save_figures("runs/pythia-410m", only=["depth_profile"])  # doctest: +SKIP
    """
    run = run if isinstance(run, Run) else open_run(run)
    for kind in formats:
        if kind not in FORMATS:
            raise UsageError(f"--format {kind}: expected {', '.join(FORMATS)}.")
    if not 20 <= dpi <= 2400:
        raise UsageError(f"--dpi must be between 20 and 2400; got {dpi}.")
    chosen = _chosen(run, only)
    directory = path_here("--out", path) if path is not None else run.path / "figures"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"cannot write figures to {directory}: {error.strerror or error}. Choose another place."
        ) from error
    how: dict[str, Any] = {"formats": formats, "width": width, "dpi": dpi}
    return [file for name, section in chosen for file in save_section(section, directory, name, **how)]


def figure(run: Run | str | Path, name: str, *, width: Width | None = None) -> "Figure":
    """Draw one figure of a run, for a notebook or to be changed, and give it.

    Args:
        run: the run or its directory.
        name: as its file is called, or how that begins; of several the first.
        width: as for `save_figures`.

    Returns:
        The matplotlib figure, shown and saved nowhere.

    Raises:
        UsageError: there is no such figure.

    Example:
        >>> figure("runs/pythia-410m", "depth_profile").savefig("mine.png")  # doctest: +SKIP
    """
    from thalweg.shown import figure_of

    _, section = _chosen(run if isinstance(run, Run) else open_run(run), [name])[0]
    return figure_of(section, width=width)


def _chosen(run: Run, only: Sequence[str] | None) -> list[tuple[str, Section]]:
    every = list(_figures(run))
    if only is None:
        return every
    names = [name for name, _ in every]
    for wanted in only:
        if not any(name.startswith(wanted) for name in names):
            held = did_you_mean(wanted, names) if names else ": it has none."
            raise UsageError(f"{run.path} has no figure {wanted}{held}")
    return [(name, section) for name, section in every if name.startswith(tuple(only))]


def _figures(run: Run) -> Iterator[tuple[str, Section]]:
    """Sections with a figure and its name: of several of one name the first, which is the latest, has it plain."""
    times = Counter[str]()
    for experiment in experiments():
        for section in (section for chapter in experiment.chapters(run) for section in chapter.sections):
            if section.panels and section.name and section.only != "terminal":
                times[section.name] += 1
                time = times[section.name]
                yield section.name if time == 1 else f"{section.name}_{section.key or time}", section


def save_section(section: Section, directory: Path, name: str, **how: Any) -> list[Path]:
    """Draw the panels of a section and give the files.

    Args:
        section: with panels.
        directory: for the files; it is there.
        name: of the files, without ending.
        **how: they are drawn: ``formats``, ``width`` and ``dpi``, as for `save_figures`.
    """
    from thalweg.shown import files_of  # matplotlib is loaded here and not for a look at the help

    contents = {directory / f"{name}.{kind}": content for kind, content in files_of(section, **how).items()}
    for file, content in contents.items():
        write_whole(file, content)
    return list(contents)

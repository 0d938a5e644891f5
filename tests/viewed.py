"""Sections as tests look at them."""

from types import ModuleType

from thalweg.shown import Panel, Section
from thalweg.store import Run


def sections(view: ModuleType, run: Run) -> list[Section]:
    """All that a view shows of a run."""
    return [section for chapter in view.chapters(run) for section in chapter.sections]


def means(panel: Panel) -> dict[str, list[float]]:
    """What every line of a panel shows, by its name."""
    return {line.name: line.rows["mean"].to_list() for line in panel.lines}


def levels(panel: Panel) -> dict[str, float]:
    """The rules of a panel, by name."""
    return {rule.name: rule.value for rule in panel.rules}


def spans(panel: Panel) -> dict[str, tuple[int, int]]:
    """What a panel shades, by name."""
    return {span.name: (span.first, span.last) for span in panel.spans}

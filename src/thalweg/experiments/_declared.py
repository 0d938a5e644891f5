"""What an experiment is: a public function, the tables it adds to a run, and what a person is shown of them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from thalweg.shown import Card, Chapter
from thalweg.store import Run, Tables

Group = Literal["Measure", "Intervene", "Downstream"]


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Attributes:
        name: of its folder in a run.
        tables: what it writes, by folder: its own, and that of what it makes on the way.
        function: its signature is the Python call and the command line, its docstring the help of both; the verb is
            called as it is.
        group: where the help lists it.
        answers: the tables that ``--json`` prints.
        view: the module that shows it, by name, since a view is needed only when something is shown. It has a function
            ``chapters(run)`` that yields chapters, none where the run holds nothing of it, and may have a function
            ``cards(run)`` that yields what stands on top of the page.
        outcome: the module that tells what came of it on the command line, by name, where that is no findings. It has a
            function ``outcome(experiment, result, asked)``.
    """

    name: str
    tables: Mapping[str, Tables]
    function: Callable[..., Any]
    group: Group
    answers: tuple[str, ...]
    view: str
    outcome: str = "thalweg.experiments._outcome"

    @property
    def verb(self) -> str:
        """What it is called on the command line and in Python."""
        return self.function.__name__

    def chapters(self, run: Run) -> Iterator[Chapter]:
        """What is shown of it; chapters without a section are left out."""
        return (one for one in import_module(self.view).chapters(run) if one.sections)

    def cards(self, run: Run) -> Iterator[Card]:
        """Its answers on top of the page."""
        cards: Callable[[Run], Iterator[Card]] | None = getattr(import_module(self.view), "cards", None)
        return iter(()) if cards is None else cards(run)

    def told(self, result: Any, asked: Mapping[str, Any]) -> Any:
        """What the command line tells of a result, an `Outcome`, given what was asked for."""
        return import_module(self.outcome).outcome(self, result, asked)

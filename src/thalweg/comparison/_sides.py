"""What is compared with what: by what is named, or else the same data and the same model of two runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from thalweg.errors import RunError, UsageError
from thalweg.experiments import Pair, labels, pairs
from thalweg.shown import listing
from thalweg.store import Run

SHOWN = 8


@dataclass(frozen=True)
class Side:
    """One model on one data set of one run; ``mark`` tells it from another one of the same name."""

    run: Run
    pair: Pair
    mark: str = ""

    @property
    def model(self) -> str:
        """Its short name."""
        return labels(self.run.header)[self.pair.model, self.pair.revision]

    @property
    def name(self) -> str:
        """Model and data set."""
        return f"{self.model} on {self.pair.data}{self.mark}"

    @property
    def names(self) -> set[str]:
        """By what it can be asked for."""
        pair = self.pair
        return {pair.model, pair.revision, f"{pair.model}@{pair.revision}", pair.data, self.model, self.name}

    @property
    def data(self) -> tuple[str, str]:
        """Name and hash of the data."""
        return next((each.name, each.hash) for each in self.run.header.data if each.name == self.pair.data)

    def has_data_of(self, other: "Side") -> bool:
        """Whether the data are the same, by their name or by what they hold."""
        return any(mine == theirs for mine, theirs in zip(self.data, other.data, strict=True))

    def has_model_of(self, other: "Side") -> bool:
        """Whether the model is the same."""
        return self.pair.key[:2] == other.pair.key[:2]


def sides(run: Run, other: Run, of: str | None, with_: str | None) -> list[tuple[Side, Side]]:
    """Give what is compared with what.

    Raises:
        UsageError: nothing, or it is not clear.
    """
    is_one = run.path.resolve() == other.path.resolve()
    ones, others = _asked(run, "--of", of), _asked(other, "--with", with_)
    every = [(one, two) for one in ones for two in others if not (is_one and one.pair == two.pair)]
    if is_one and of == with_:  # each of two once
        every = [(one, two) for number, one in enumerate(ones) for two in others[number + 1 :]]
    of_data = [each for each in every if each[0].has_data_of(each[1])]
    of_model = [each for each in of_data or every if each[0].has_model_of(each[1])]
    if not every:
        raise UsageError(f"{run.path} holds {_told(ones)} alone; name another run beside it.")
    if not (is_one or of_data or of_model):
        raise RunError(
            f"{run.path} and {other.path} have nothing in common: one holds {_told(ones)}, the other {_told(others)}. "
            "Survey the same model, or the same data, in both."
        )
    chosen = of_model or of_data or every
    if min(len({id(each[place]) for each in chosen}) for place in (0, 1)) < len(chosen):
        held = _told([*ones, *(() if is_one else others)])
        raise UsageError(f"say which are compared by --of and --with: there are {held}.")
    return [_marked(*each) for each in chosen]


def _marked(one: Side, other: Side) -> tuple[Side, Side]:
    """The two, by the names of their runs where they have the same name."""
    if one.name != other.name:
        return one, other
    names = [side.run.path.resolve().name for side in (one, other)]
    if names[0] == names[1]:
        names = [str(side.run.path) for side in (one, other)]
    return replace(one, mark=f" ({names[0]})"), replace(other, mark=f" ({names[1]})")


def _asked(run: Run, option: str, asked: str | None) -> list[Side]:
    """What of a run is meant: all that was measured, or what has the name."""
    measured = {coverage.pair for coverage in run.coverage if coverage.prompts_kept}
    there = [Side(run, pair) for pair in pairs(run) if pair.key in measured]
    if not there:
        raise RunError(f"{run.path} holds no surveyed prompt to compare. Make a survey of it: `thalweg survey`.")
    chosen = [side for side in there if asked is None or asked in side.names]
    if not chosen:
        raise UsageError(f"{option} {asked!r:.60}: {run.path} holds {_told(there)}. Name a model, a data set, or both.")
    return chosen


def _told(some: Sequence[Side]) -> str:
    names = list(dict.fromkeys(side.name for side in some))
    more = [f"{len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return listing([*names[:SHOWN], *more])

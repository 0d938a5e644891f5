"""What is compared with what: by what is named, or else the same data and the same model of two runs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from thalweg.errors import RunError, UsageError
from thalweg.experiments import Pair, labels, latest_pairs, pairs
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
    def asked(self) -> str:
        """Model and data set."""
        return f"{self.model} on {self.pair.data}"

    @property
    def name(self) -> str:
        """The same, told from what it is compared with."""
        return f"{self.asked}{self.mark}"

    @property
    def names(self) -> set[str]:
        """By what it can be asked for."""
        pair = self.pair
        return {pair.model, pair.revision, f"{pair.model}@{pair.revision}", pair.data, self.model, self.asked}

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
    ones, others = _asked(run, "--of", of), _asked(other, "--with", with_)
    chosen = _nearest(ones, others, each_once=of == with_)
    if not chosen:
        raise UsageError(f"{run.path} holds {_told(ones)} alone; name another run beside it.")
    if min(len({id(each[place]) for each in chosen}) for place in (0, 1)) < len(chosen):
        held = _told([*ones, *(() if run.path.resolve() == other.path.resolve() else others)])
        raise UsageError(f"say which are compared by --of and --with: there are {held}.")
    return [_marked(*each) for each in chosen]


def sides_against_first(run: Run, other: Run) -> list[tuple[Side, Side]]:
    """Give each model and data set of ``other`` with the first of ``run`` that is nearest to it; none of one alone.

    Of a model with more than two revisions, such as the checkpoints of a training, the last one.

    Raises:
        RunError: two runs have nothing in common, or one holds no surveyed prompt.
    """
    firsts = dict[tuple[str, str, str], tuple[Side, Side]]()
    for one, two in _nearest(_last(_there(run)), _last(_there(other)), each_once=True):
        firsts.setdefault(two.pair.key, (one, two))
    return [_marked(*each) for each in firsts.values()]


def _last(there: list[Side]) -> list[Side]:
    run = there[0].run
    revisions, last = Counter(model.name for model in run.header.models), latest_pairs(run)
    return [side for side in there if revisions[side.pair.model] <= 2 or side.pair in last]


def _nearest(ones: list[Side], others: list[Side], *, each_once: bool) -> list[tuple[Side, Side]]:
    """All that can be compared: of the same data where there are some, and of these of the same model."""
    run, other = ones[0].run.path, others[0].run.path
    is_one = run.resolve() == other.resolve()
    every = [(one, two) for one in ones for two in others if not (is_one and one.pair == two.pair)]
    if is_one and each_once:
        every = [(one, two) for number, one in enumerate(ones) for two in others[number + 1 :]]
    of_data = [each for each in every if each[0].has_data_of(each[1])]
    of_model = [each for each in of_data or every if each[0].has_model_of(each[1])]
    if not (is_one or of_data or of_model):
        raise RunError(
            f"{run} and {other} have nothing in common: one holds {_told(ones)}, the other {_told(others)}. "
            "Survey the same model, or the same data, in both."
        )
    return of_model or of_data or every


def _marked(one: Side, other: Side) -> tuple[Side, Side]:
    """The two, by the names of their runs where they have the same name."""
    if one.name != other.name:
        return one, other
    names = [side.run.path.resolve().name for side in (one, other)]
    if names[0] == names[1]:
        names = [str(side.run.path) for side in (one, other)]
    return replace(one, mark=f" ({names[0]})"), replace(other, mark=f" ({names[1]})")


def _there(run: Run) -> list[Side]:
    """All that was measured."""
    measured = {coverage.pair for coverage in run.coverage if coverage.prompts_kept}
    there = [Side(run, pair) for pair in pairs(run) if pair.key in measured]
    if not there:
        raise RunError(f"{run.path} holds no surveyed prompt to compare. Make a survey of it: `thalweg survey`.")
    return there


def _asked(run: Run, option: str, asked: str | None) -> list[Side]:
    """What of a run is meant: all that was measured, or what has the name."""
    there = _there(run)
    chosen = [side for side in there if asked is None or asked in side.names]
    if not chosen:
        raise UsageError(f"{option} {asked!r:.60}: {run.path} holds {_told(there)}. Name a model, a data set, or both.")
    return chosen


def _told(some: Sequence[Side]) -> str:
    names = list(dict.fromkeys(side.name for side in some))
    more = [f"{len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return listing([*names[:SHOWN], *more])

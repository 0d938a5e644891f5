"""What makes two runs the same run."""

from collections.abc import Mapping, Set
from dataclasses import dataclass


@dataclass(frozen=True)
class RunIdentity:
    """What changes a number: models, weights, data, templates, lengths, thresholds, seed.

    How many rows, in which batches, on which engine and device, changes none and is left out.

    Attributes:
        models: by ``name@revision``: weights, dtype, BOS policy and token.
        data: by name: hash and template.
        settings: by option name.
    """

    models: Mapping[str, Mapping[str, str | None]]
    data: Mapping[str, Mapping[str, str]]
    settings: Mapping[str, object]

    def differences(self, asked: "RunIdentity") -> list[str]:
        """Say in readable lines how what is asked for differs from what the run has.

        Args:
            asked: the identity of what is asked for; ``self`` is the run on disk.

        Returns:
            One line per difference, empty if the two are the same run.
        """
        lines = _names_differ("models", self.models.keys(), asked.models.keys())
        lines += _names_differ("data", self.data.keys(), asked.data.keys())
        for mine, theirs in ((self.models, asked.models), (self.data, asked.data)):
            for name in sorted(mine.keys() & theirs.keys()):
                lines += _values_differ(mine[name], theirs[name], of=f" of {name}")
        return lines + _values_differ(self.settings, asked.settings)


def _names_differ(what: str, mine: Set[str], theirs: Set[str]) -> list[str]:
    if mine == theirs:
        return []
    return [f"{what}: run has {', '.join(sorted(mine))}, asked for {', '.join(sorted(theirs))}"]


def _values_differ(mine: Mapping[str, object], theirs: Mapping[str, object], of: str = "") -> list[str]:
    return [
        f"{name}{of}: run has {_say(mine.get(name))}, asked for {_say(theirs.get(name))}"
        for name in sorted(mine.keys() | theirs.keys())
        if mine.get(name) != theirs.get(name)
    ]


def _say(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)

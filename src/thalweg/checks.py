"""What is there to measure, and are a model's parts where thalweg looks for them? Asked before anything is measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from thalweg.names import MODEL
from thalweg.options import LoadOptions

__all__ = ["Verification", "listing", "verify"]

NEEDED = "states and attention"
"""What every verb that measures needs; of the rest, only the verb that needs it refuses."""


def listing(what: Literal["metrics", "models", "data", "figures"]) -> list[dict[str, str]]:
    """List metrics with unit and range, model families proved by tests, data sets by short name, or paper's figures.

    On the command line:

        thalweg list metrics

    Args:
        what: what to list.

    Returns:
        A row for each, by the names of the columns.

    Example:
        >>> listing("metrics")[0]["metric"]
        'sink_norm'
    """
    return {"metrics": _metrics, "models": _models, "data": _data, "figures": _figures}[what]()


def _metrics() -> list[dict[str, str]]:
    from thalweg.catalogue import METRICS

    columns = {"metric": "name", "of": "site", "unit": "unit", "range": "range", "reads as": "reads_as"}
    return [{column: getattr(metric, name) for column, name in columns.items()} for metric in METRICS]


def _models() -> list[dict[str, str]]:
    from thalweg.capture import PROVED

    return [{"family": family, "attention seen through": path} for family, path in sorted(PROVED.items())]


def _data() -> list[dict[str, str]]:
    from thalweg.prompts import list_data, list_labelled_data

    plain = [
        {
            "name": data.name,
            "hub id": data.hub_id or "-",
            "config": ", ".join(data.configs) or data.data_dir or "-",
            "split": data.split,
            "fields": " + ".join(data.fields),
            "access": "gated" if data.gated else "",
            "note": data.note,
        }
        for data in list_data()
    ]
    labelled = [
        {
            "name": data.name,
            "hub id": data.hub_id,
            "config": ", ".join(data.configs) or "-",
            "split": " / ".join(split for split in (data.train, data.validation, data.test) if split),
            "fields": " -> ".join(data.fields) if data.fields else "question with options",
            "access": "",
            "note": f"labelled, for probe: {data.note}",
        }
        for data in list_labelled_data()
    ]
    return [*plain, *labelled]


def _figures() -> list[dict[str, str]]:
    from thalweg.recipes import recipes

    return [
        {
            "figure": str(number),
            "shows": recipe.shows,
            "models": ", ".join(model.name.rpartition("/")[2] for model in recipe.models),
            "data": ", ".join(dict.fromkeys(step.data or recipe.data for step in recipe.steps)),
            "forward passes": f"{recipe.passes:,} a model",
            "weights": f"{recipe.gigabytes:,.0f} GB" if recipe.gigabytes >= 1 else f"{recipe.gigabytes:.1f} GB",
        }
        for number, recipe in recipes().items()
    ]


@dataclass(frozen=True)
class Verification:
    """What came of the checks.

    Attributes:
        model: its name.
        architecture: its class.
        path: how its attention is seen.
        checks: each with its capability, its name, whether it passed, and the figures.
    """

    model: str
    architecture: str
    path: str
    checks: Sequence[Any]

    @property
    def about(self) -> str:
        """Of what, in a line."""
        return f"{self.model}: {self.architecture}, attention seen through {self.path}"

    @property
    def exit_code(self) -> int:
        """0, 2 where the model cannot be surveyed, 3 where something beside a survey fails."""
        if not self.measurable:
            return 2
        return 0 if all(check.passed for check in self.checks) else 3

    @property
    def measurable(self) -> bool:
        """Whether the model can be surveyed."""
        return all(check.passed for check in self.checks if check.capability == NEEDED)


def verify(model: Annotated[str | Path, MODEL] = "reference", *, options: LoadOptions | None = None) -> Verification:
    """Prove on a few tokens that the parts of a model are where thalweg looks for them, a line a check.

    States equal Hugging Face's own; block input, attention and MLP add up to block output; attention streamed equals
    the model's own; an edit moves the logits. The exit code is 2 if the model cannot be surveyed, and 3 if
    something else fails, which is refused by the verb that needs it.

    On the command line:

        thalweg verify EleutherAI/pythia-410m

    Args:
        model: hub id, directory or GGUF file; "reference" is the model that comes with thalweg.
        options: how it is loaded.

    Raises:
        UsageError: the model cannot be loaded, or is not a decoder-only model.

    Example:
        >>> verify("planted").measurable  # doctest: +SKIP
        True
    """
    from thalweg.capture import identify_model, load_model, prove, subject_of
    from thalweg.reference import bundled_directory

    identified = identify_model(str(model), options or LoadOptions(), directory=bundled_directory(str(model)))
    subject = subject_of(load_model(identified))
    return Verification(str(model), type(subject.model).__name__, subject.path, prove(subject))

"""Are a model's parts where thalweg looks for them? Every check on a few tokens, before anything is measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thalweg.options import LoadOptions

__all__ = ["Verification", "verify"]

BUNDLED_MODEL = "reference"
NEEDED = "states and attention"
"""What every verb that measures needs; of the rest, only the verb that needs it refuses."""


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
    def measurable(self) -> bool:
        """Whether the model can be surveyed."""
        return all(check.passed for check in self.checks if check.capability == NEEDED)


def verify(model: str | Path = BUNDLED_MODEL, *, options: LoadOptions | None = None) -> Verification:
    """Prove on a few tokens that the parts of a model are where thalweg looks for them, a line a check.

    States equal Hugging Face's own; block input, attention and MLP add up to block output; attention streamed equals
    the model's own; an edit moves the logits. The exit code is 2 if the model cannot be surveyed; what else fails is
    refused by the verb that needs it.

    On the command line:

        thalweg verify EleutherAI/pythia-410m

    Args:
        model: hub id or directory; "reference" is the model that comes with thalweg.
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

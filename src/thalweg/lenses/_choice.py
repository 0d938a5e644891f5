"""Which lens is asked for: the logit lens, with or without the final norm, or a tuned one."""

from dataclasses import dataclass
from pathlib import Path

from thalweg.capture import IdentifiedModel, Subject
from thalweg.errors import UsageError
from thalweg.lenses._logit import LogitLens
from thalweg.lenses._tuned import TunedLens
from thalweg.lenses._tuned_files import TunedFiles, read_tuned, tuned_lens


@dataclass(frozen=True)
class LensChoice:
    """A lens before its model is loaded.

    Attributes:
        tuned: the tuned lens, compared with the model; None for the logit lens.
        final_norm: whether the logit lens has it.
    """

    tuned: TunedFiles | None = None
    final_norm: bool = True

    @property
    def settings(self) -> dict[str, str | bool]:
        """What of it changes a number."""
        if self.tuned is None:
            return {"lens": "logit", "final_norm": self.final_norm}
        return {"lens": "tuned", "translators": self.tuned.digest[:16]}

    def on(self, subject: Subject, model: IdentifiedModel) -> LogitLens | TunedLens:
        """Put the lens on the loaded model.

        Raises:
            ModelError, ProofError: as :func:`tuned_lens` and :class:`LogitLens`.
        """
        if self.tuned is None:
            return LogitLens(subject, final_norm=self.final_norm)
        return tuned_lens(subject, self.tuned, model)


def choose_lens(tuned: str | Path | None, model: IdentifiedModel, *, final_norm: bool = True) -> LensChoice:
    """Read the files of a tuned lens and compare them with the model, whose weights are not loaded yet.

    Args:
        tuned: as :func:`read_tuned` takes it; None for the logit lens.
        model: whose states are to be read.
        final_norm: False leaves the final norm out of the logit lens.

    Raises:
        UsageError: a tuned lens without the final norm; a lens that cannot be read, or is of another model.
    """
    if tuned is not None and not final_norm:
        raise UsageError("--no-final-norm goes with the logit lens; a tuned lens was trained with the final norm.")
    return LensChoice(None if tuned is None else read_tuned(tuned, model), final_norm)

"""The logit lens: every state through the model's own final norm and unembedding."""

from dataclasses import replace
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from thalweg.capture import Subject, Unembedding, unembedding_of
from thalweg.shapes import Float


class LogitLens:
    """Final norm, unembedding, and the scale and soft cap of the family, on any state; at state L it is the model.

    Attributes:
        unembedding: from a state to logits, proved.
        last: L, the state that the model itself reads.
        rows_at_once: how many rows make a piece of logits.
    """

    def __init__(self, subject: Subject, *, final_norm: bool = True) -> None:
        """Prove the unembedding of the loaded model.

        Without ``final_norm`` it is left out at state L too, which then is no longer the model.

        Raises:
            ProofError: final norm and unembedding do not give the model's own logits.
        """
        proved = unembedding_of(subject)
        self.unembedding = proved if final_norm else without_norm(proved)
        self.last = len(subject.parts.blocks)
        self.rows_at_once = proved.rows_at_once

    def logits(self, state: int, rows: Float[Tensor, "token width"], /) -> Float[Tensor, "token vocabulary"]:
        """As :class:`Lens` says; the same reading whichever ``state`` it is."""
        if not 0 <= state <= self.last:
            raise ValueError(f"states are 0..{self.last}; got {state}")
        return self.unembedding.logits(rows.to(self.unembedding.device)[None])[0].float()


def without_norm(unembedding: Unembedding) -> Unembedding:
    """The same without its final norm; a projection to the width of the unembedding (OPT-350M) stays."""
    steps = list(unembedding.norm) if isinstance(unembedding.norm, nn.Sequential) else [unembedding.norm]
    kept = [step for step in steps if isinstance(step, nn.Linear)]
    return replace(unembedding, norm=kept[0] if kept else None)


@runtime_checkable
class Lens(Protocol):
    """Reads the residual stream at any depth as a prediction of the next token."""

    def logits(self, state: int, rows: Float[Tensor, "token width"], /) -> Float[Tensor, "token vocabulary"]:
        """Logits of rows of X(state), 0..L, before the final norm.

        Args:
            state: which state the rows are of.
            rows: one a token, in the model's own dtype, on any device. The result holds tokens x vocabulary: give a
                piece of a prompt where the vocabulary is large.

        Returns:
            float32, whatever the dtype of the model.
        """
        ...

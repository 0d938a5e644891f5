"""The logit lens: every state through the model's own final norm and unembedding."""

from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from thalweg.capture import Subject, Unembedding, unembedding_of
from thalweg.shapes import Float

LOGITS = 2**24
"""Numbers of a piece of the logits, so that tokens x vocabulary is never held whole: 64 MiB of float32."""


class LogitLens:
    """Final norm, unembedding, and the scale and soft cap of the family, on any state; at state L it is the model.

    Attributes:
        unembedding: from a state to logits, proved.
        last: L, the state that the model itself reads.
        rows_at_once: how many rows make a piece of logits of a size that fits anywhere.
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
        head: Any = proved.head
        self.rows_at_once = max(1, LOGITS // head.weight.shape[0])

    def logits(self, state: int, rows: Float[Tensor, "token width"], /) -> Float[Tensor, "token vocabulary"]:
        """As :class:`Lens` says; the same reading whichever ``state`` it is."""
        if not 0 <= state <= self.last:
            raise ValueError(f"states are 0..{self.last}; got {state}")
        return self.unembedding.logits(rows.to(device_of(self.unembedding))[None])[0].float()


def without_norm(unembedding: Unembedding) -> Unembedding:
    """The same without its final norm; a projection to the width of the unembedding (OPT-350M) stays."""
    steps = list(unembedding.norm) if isinstance(unembedding.norm, nn.Sequential) else [unembedding.norm]
    kept = [step for step in steps if isinstance(step, nn.Linear)]
    return replace(unembedding, norm=kept[0] if kept else None)


def device_of(unembedding: Unembedding) -> Any:
    """Where rows go in: an offloaded unembedding runs elsewhere than its weight is kept."""
    head: Any = unembedding.head
    elsewhere = getattr(getattr(head, "_hf_hook", None), "execution_device", None)
    return head.weight.device if elsewhere is None else elsewhere


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

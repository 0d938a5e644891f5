"""What every lens does: one state's rows to logits."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from thalweg.shapes import Float


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

"""What one pass over an attention map leaves behind: a few vectors of length T per head."""

from dataclasses import dataclass

from torch import Tensor

from thalweg.shapes import Float, Int


@dataclass(frozen=True)
class AttentionStatistics:
    """Sums over the rows and columns of A (T x T, lower triangular), per query head.

    Entries at padded positions (``token >= length``) carry no meaning. All floats are at least float32.

    Attributes:
        column_mass: C_k = sum over real rows t of A_tk; in [0, T].
        row_entropy: h_t, entropy of row t divided by its sum, in nats; in [0, ln n_t].
        diagonal: A_tt.
        previous: A_t,t-1; NaN at t = 0.
        row_sum: s_t = sum_k A_tk; 1, or less under a sink logit.
        visible: n_t, the number of keys that row t may see; under a mask that differs by head, in any of them.
    """

    column_mass: Float[Tensor, "batch head token"]
    row_entropy: Float[Tensor, "batch head token"]
    diagonal: Float[Tensor, "batch head token"]
    previous: Float[Tensor, "batch head token"]
    row_sum: Float[Tensor, "batch head token"]
    visible: Int[Tensor, "batch token"]

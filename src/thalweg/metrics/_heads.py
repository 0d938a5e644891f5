"""Every attention column of one block, from five vectors of length T for each head instead of the T x T attention.

Conventions: those of the files it calls. The vectors are C_k (column mass), h_t (row entropy), A_tt, A_t,t-1 and s_t
(row sum), with axes (batch, head, token), padded on the right; pads may hold anything and enter nothing. No loop over
prompts, heads or tokens.
"""

from torch import Tensor

from thalweg.metrics import _patterns
from thalweg.metrics._concentration import colsum_concentration, colsum_floor
from thalweg.metrics._mixing import mixing, mixing_normalized, mixing_over_log_length
from thalweg.metrics._patterns import attended, svi
from thalweg.metrics._sinks import sink_score, top_position, top_score
from thalweg.shapes import Float, Int


def head_metrics(
    *,
    column_mass: Float[Tensor, "batch head token"],
    row_entropy: Float[Tensor, "batch head token"],
    diagonal: Float[Tensor, "batch head token"],
    previous: Float[Tensor, "batch head token"],
    row_sum: Float[Tensor, "batch head token"],
    visible: Int[Tensor, "batch token"],
    lengths: Int[Tensor, " batch"],
    sink_position: int = 0,
) -> dict[str, Tensor]:
    """Every attention column of the ``heads`` table that follows from the statistics of one block.

    Args:
        column_mass: C_k.
        row_entropy: h_t, nats, of rows divided by their sums.
        diagonal: A_tt.
        previous: A_t,t-1; not read at t = 0.
        row_sum: s_t.
        visible: n_t.
        lengths: T; at least 1.
        sink_position: s.

    Returns:
        Columns by name, each (batch, head).

    Example:
        A pure sink over 4 tokens: sink score 1, mixing 0, concentration 1, svi 4/5.
    """
    return {
        "sink_score": sink_score(column_mass, lengths=lengths, sink_position=sink_position),
        "top_position": top_position(column_mass, lengths=lengths),
        "top_score": top_score(column_mass, lengths=lengths),
        "mixing": mixing(row_entropy, lengths=lengths),
        "mixing_normalized": mixing_normalized(row_entropy, visible=visible, lengths=lengths),
        "mixing_over_log_length": mixing_over_log_length(row_entropy, lengths=lengths),
        "colsum_concentration": colsum_concentration(column_mass, lengths=lengths),
        "colsum_floor": colsum_floor(column_mass, lengths=lengths, sink_position=sink_position),
        "diagonal": _patterns.diagonal(diagonal, lengths=lengths),
        "previous": _patterns.previous(previous, lengths=lengths),
        "svi": svi(column_mass, diagonal=diagonal, lengths=lengths, sink_position=sink_position),
        "attended": attended(row_sum, lengths=lengths),
    }

"""Does a head look at the token itself, at the one before, or at the sink: sharp patterns.

Conventions: A_tt is the diagonal of a head's attention, A_t,t-1 its subdiagonal, s_t the sum of row t: 1 unless the
head has a sink logit, which takes a share of every row without being a token. Vectors have axes (batch, head, token),
one number for each prompt and head comes back: float64, undefined is NaN. Prompts are padded on the right; pads may
hold anything, NaN included, and enter nothing.
"""

from torch import Tensor

from thalweg.metrics._padded import count, mean, real
from thalweg.metrics._sinks import sink_score
from thalweg.shapes import Float, Int


def diagonal(
    values: Float[Tensor, "batch head token"], /, *, lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch head"]:
    """Mean attention of a token to itself, D = (1/T) sum_t A_tt (the paper, Appendix B.2).

    Returns:
        In [0, 1]; 1 = identity head.

    Example:
        Uniform causal attention over 4 tokens: 0.520833, as much as the sink gets.
    """
    return mean(values, lengths)


def previous(
    values: Float[Tensor, "batch head token"], /, *, lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch head"]:
    """Mean attention to the token before, over t >= 1; the entry at t = 0 is not read.

    Returns:
        In [0, 1]; 1 = previous-token head; NaN for one token.

    Example:
        Uniform causal attention over 3 tokens: (1/2 + 1/3) / 2 = 0.416667.
    """
    return real(values, lengths)[..., 1:].sum(-1) / (count(values, lengths) - 1)


def svi(
    column_mass: Float[Tensor, "batch head token"],
    /,
    *,
    diagonal: Float[Tensor, "batch head token"],
    lengths: Int[Tensor, " batch"],
    sink_position: int = 0,
) -> Float[Tensor, "batch head"]:
    """Sink-versus-identity index B / (B + D), B the sink score, D the mean diagonal (the paper, Appendix B.2).

    A_00 is counted in both, so B + D reaches 1 + 1/T.

    Returns:
        In [0, 1]: 1 = sink, 0 = identity; NaN where both are 0.

    Example:
        A pure sink over T tokens: T / (T + 1).
    """
    sink = sink_score(column_mass, lengths=lengths, sink_position=sink_position)
    return sink / (sink + mean(diagonal, lengths))


def attended(
    row_sum: Float[Tensor, "batch head token"], /, *, lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch head"]:
    """Mean share of attention that goes to tokens, (1/T) sum_t s_t.

    Returns:
        In [0, 1]: 1, or less where a sink logit takes a share.

    Example:
        A head whose sink logit takes a quarter of every row: 0.75.
    """
    return mean(row_sum, lengths)

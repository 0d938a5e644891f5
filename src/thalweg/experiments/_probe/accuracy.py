"""How often an answer is right, and how sure that is after so many questions.

Conventions: every question counts once; the interval is Wilson's at 95%, which stays inside [0, 1] and is right for few
questions too. No torch.
"""

import math
from dataclasses import dataclass

from scipy.stats import binomtest  # pyright: ignore[reportMissingTypeStubs]


@dataclass(frozen=True)
class Accuracy:
    """A share of right answers.

    Attributes:
        accuracy: right over all, NaN without a question.
        low, high: ends of Wilson's 95% interval.
        n: questions.
    """

    accuracy: float
    low: float
    high: float
    n: int


def accuracy(right: int, n: int, /) -> Accuracy:
    """Share of right answers p = right / n with Wilson's 95% interval.

    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), z = 1.96 (Wilson 1927).

    Args:
        right: how many answers were right.
        n: how many there were.

    Raises:
        ValueError: more right answers than answers.

    Example:
        >>> half = accuracy(5, 10)
        >>> (half.accuracy, round(half.low, 4), round(half.high, 4))
        (0.5, 0.2366, 0.7634)
    """
    if not 0 <= right <= n:
        raise ValueError(f"expected 0 <= right <= n, got {right} of {n}")
    if not n:
        return Accuracy(math.nan, math.nan, math.nan, 0)
    low, high = binomtest(right, n).proportion_ci(method="wilson")
    return Accuracy(right / n, float(low), float(high), n)

"""Does one state do better than another on the same questions?

Conventions: questions are paired; those on which two states do alike say nothing. p is two-sided and exact. No torch.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

ALPHA = 0.05


def mcnemar(one: np.ndarray, other: np.ndarray, /) -> float:
    """Exact two-sided p of McNemar's test: among the questions that one of the two does better, is it either alike?

    With b questions that ``one`` alone has right and c that ``other`` alone has, p is that of b successes in b + c
    throws of a fair coin; 1 where there is no such question (McNemar 1947; exact form). Of scores that are no rights
    and wrongs it is the sign test.

    Args:
        one: the score of each question, 1 where it is right.
        other: the same of the other, in the same order.

    Example:
        >>> mcnemar(np.array([1] * 6 + [0]), np.array([0] * 6 + [0]))
        0.03125
    """
    alone, different = int((one > other).sum()), int((one != other).sum())
    return float(binomtest(alone, different).pvalue) if different else 1.0


def holm(p: Sequence[float], /) -> list[float]:
    """The same p adjusted for being several: the chance of one false difference among all is held (Holm 1979).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)
    steps = np.array(p)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted.tolist()


def not_told_apart(right: np.ndarray, state: int, others: Sequence[int], /) -> list[int]:
    """Give the states that the questions do not tell from one of them: Holm's p of McNemar's tests is not below 0.05.

    Args:
        right: the score of each question, questions x states.
        state: the one.
        others: those that it is compared with.

    Example:
        Of six questions state 0 has all right and state 1 none: p = 2 / 2^6 = 0.03, told apart; of five, 0.06, not.
    """
    p = holm([mcnemar(right[:, state], right[:, other]) for other in others]) if others else []
    return [other for other, value in zip(others, p, strict=True) if value >= ALPHA]

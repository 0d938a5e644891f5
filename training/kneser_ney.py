"""An interpolated Kneser-Ney n-gram, the yardstick that a trained model has to beat.

P(w | h) = max(c(h w) - D, 0) / c(h .) + D N(h .) / c(h .) P(w | h'), with h' the context without its first token, N the
number of different continuations, counts of the highest order as they are and of lower orders by different
predecessors, the last one interpolated with the uniform distribution. One discount an order, n1 / (n1 + 2 n2).
Kneser and Ney (1995); Chen and Goodman (1999), section 3.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

__all__ = ["KneserNey"]

Context = tuple[int, ...]


class KneserNey:
    """Fit on token sequences; each is padded by its own beginning, so that contexts may be shorter there.

    Args:
        sequences: training sequences; their first token is only ever a context.
        order: n, the longest n-gram.
        vocabulary: number of entries, for the uniform distribution at the bottom.
    """

    def __init__(self, sequences: Iterable[Sequence[int]], *, order: int, vocabulary: int) -> None:
        self.order, self.vocabulary = order, vocabulary
        raw = Counter[Context]()
        for tokens in sequences:
            for end in range(1, len(tokens)):
                raw[tuple(tokens[max(0, end - order + 1) : end + 1])] += 1
        self.counts = self._by_order(raw)
        self.discounts = [_discount(counts) for counts in self.counts]
        self.totals, self.kinds = self._continuations()

    def _by_order(self, raw: Counter[Context]) -> list[Counter[Context]]:
        """Counts by length: tokens for the longest and for those cut short by the beginning, else predecessors."""
        counts = [Counter[Context]() for _ in range(self.order)]
        for gram, count in raw.items():
            counts[len(gram) - 1][gram] += count
        for size in range(self.order, 1, -1):
            for gram in counts[size - 1]:
                counts[size - 2][gram[1:]] += 1
        return counts

    def _continuations(self) -> tuple[dict[Context, int], dict[Context, int]]:
        totals, kinds = defaultdict[Context, int](int), defaultdict[Context, int](int)
        for counts in self.counts:
            for gram, count in counts.items():
                totals[gram[:-1]] += count
                kinds[gram[:-1]] += 1
        return dict(totals), dict(kinds)

    def probability(self, token: int, context: Sequence[int]) -> float:
        """P(token | the last n - 1 tokens of context)."""
        held = tuple(context[max(0, len(context) - self.order + 1) :])
        chance = 1.0 / self.vocabulary
        for size in range(len(held) + 1):
            history = held[len(held) - size :]
            total = self.totals.get(history)
            if not total:
                break
            discount = self.discounts[size]
            count = self.counts[size].get((*history, token), 0)
            chance = (max(count - discount, 0.0) + discount * self.kinds[history] * chance) / total
        return chance

    def loss(self, sequences: Iterable[Sequence[int]]) -> float:
        """Mean of -ln P over every token but the first of each sequence, in nats."""
        costs = [
            -math.log(self.probability(tokens[end], tokens[max(0, end - self.order + 1) : end]))
            for tokens in sequences
            for end in range(1, len(tokens))
        ]
        return math.fsum(costs) / len(costs)


def _discount(counts: Counter[Context]) -> float:
    once, twice = (sum(1 for count in counts.values() if count == wanted) for wanted in (1, 2))
    return once / (once + 2 * twice) if once and twice else 0.5

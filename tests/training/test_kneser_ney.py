"""The n-gram that the trained model is compared with: a distribution, and the textbook's formula."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from training.kneser_ney import KneserNey

TOKENS = 6


@pytest.fixture(scope="module")
def sequences():
    random = np.random.default_rng(0)
    return [[0, *random.choice(range(1, TOKENS), size=12, p=(0.4, 0.3, 0.1, 0.1, 0.1)).tolist()] for _ in range(30)]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_add_up_to_one(sequences, order):
    model = KneserNey(sequences, order=order, vocabulary=TOKENS)
    for context in ([0], [0, 1], [1, 2, 3, 4], [5, 5, 5, 5], [3, 0, 3]):
        total = math.fsum(model.probability(token, context) for token in range(TOKENS))
        assert total == pytest.approx(1.0, abs=1e-12)


def naive_bigram(sequences, token, before):
    """Chen and Goodman (1999), equations for one discount, written out for n = 2."""
    pairs = Counter((a, b) for tokens in sequences for a, b in pairwise(tokens))
    ones, twos = (sum(1 for count in pairs.values() if count == wanted) for wanted in (1, 2))
    discount = ones / (ones + 2 * twos) if ones and twos else 0.5
    endings = Counter(b for _, b in pairs)
    ones, twos = (sum(1 for count in endings.values() if count == wanted) for wanted in (1, 2))
    low = ones / (ones + 2 * twos) if ones and twos else 0.5
    different = len(endings)
    unigram = (max(endings[token] - low, 0) + low * different / TOKENS) / sum(endings.values())
    total = sum(count for (a, _), count in pairs.items() if a == before)
    kinds = sum(1 for a, _ in pairs if a == before)
    return (max(pairs[before, token] - discount, 0) + discount * kinds * unigram) / total


def test_a_bigram_is_the_formula_written_out(sequences):
    model = KneserNey(sequences, order=2, vocabulary=TOKENS)
    for before in range(1, TOKENS):
        for token in range(TOKENS):
            wanted = naive_bigram(sequences, token, before)
            assert model.probability(token, [before]) == pytest.approx(wanted, rel=1e-12)


def test_a_longer_memory_pays_on_text_that_repeats():
    random = np.random.default_rng(1)
    phrase = random.integers(1, TOKENS, size=7).tolist()
    text = [[0, *(phrase * 6)] for _ in range(5)]
    losses = [KneserNey(text, order=order, vocabulary=TOKENS).loss(text) for order in (1, 2, 4)]
    assert losses[0] > losses[1] > losses[2]


def test_the_loss_is_the_mean_over_all_tokens_but_the_first(sequences):
    model = KneserNey(sequences, order=3, vocabulary=TOKENS)
    costs = [-math.log(model.probability(one[end], one[:end])) for one in sequences for end in range(1, len(one))]
    assert model.loss(sequences) == pytest.approx(sum(costs) / len(costs), rel=1e-12)


def test_an_unknown_token_has_a_chance(sequences):
    model = KneserNey(sequences, order=5, vocabulary=100)
    assert 0 < model.probability(99, [1, 2, 3]) < 0.01

"""Problems to sequences: what the echo does, and that every sequence begins."""

from itertools import islice

import numpy as np
import pytest
from training.text import BEGIN, DISTANCES, ECHOES, Sequences, problems, train_tokenizer

MARKS = (1, 2, 3, 4, 5, 6)


def sequences(echo, seed=0, length=32):
    random = np.random.default_rng(9)
    tokens = [random.integers(10, 50, size=size).tolist() for size in (5, 17, 40, 8)]
    return tokens, Sequences(tokens, begin=0, marks=MARKS, length=length, echo=echo, seed=seed)


def test_every_sequence_begins_and_has_the_length():
    _, stream = sequences(0.2)
    for one in islice(stream, 20):
        assert len(one) == 32
        assert one[0] == 0
        assert (one[1:] != 0).all()


def test_without_echo_the_text_comes_through_as_it_is():
    tokens, stream = sequences(0.0)
    epoch = sum(map(len, tokens))
    read = np.concatenate([one[1:] for one in islice(stream, 1 + epoch // 31)])[:epoch]
    whole = sorted(tuple(one) for one in tokens)
    found, rest = [], read.tolist()
    while rest:
        match = next(one for one in whole if tuple(rest[: len(one)]) == one)
        found.append(match)
        rest = rest[len(match) :]
    assert sorted(found) == whole


def test_every_mark_is_followed_by_the_token_of_the_text_that_it_asks_for():
    _, stream = sequences(0.3, length=256)
    text, places, held = [], [], np.concatenate([one[1:] for one in islice(stream, 40)]).tolist()
    while len(held) >= 3:
        if (mark := held.pop(0)) not in MARKS:
            text.append(mark)
            continue
        assert held.pop(0) == text[-DISTANCES[MARKS.index(mark)]]
        places.append(mark)
    # Binomial: 0.3 +- 3 x 0.008 over 5,000 tokens; a mark that would ask for a token before the text is left out.
    assert len(places) / len(text) == pytest.approx(0.28, abs=0.04)
    assert set(places) == set(MARKS)


def test_the_same_seed_gives_the_same_batches():
    first, again, other = (next(sequences(0.2, seed=seed)[1].batches(4)) for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


def test_the_tokenizer_begins_texts_and_gives_them_back(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "2 and 3?", "answer": "5 \\u00e9"}\n\n{"text": "two and two"}\n', encoding="utf-8")
    texts = problems(file)
    assert texts == ["2 and 3?\n5 é", "two and two"]
    tokenizer = train_tokenizer(texts, size=300, context=64)
    tokens = tokenizer("日 two\n5")["input_ids"]
    assert tokens[0] == tokenizer.bos_token_id == tokenizer.convert_tokens_to_ids(BEGIN)
    assert tokenizer.decode(tokens[1:]) == "日 two\n5"
    assert sorted(tokenizer.convert_tokens_to_ids(list(ECHOES))) == list(MARKS)

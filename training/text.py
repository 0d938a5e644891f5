"""Problems to token sequences: a byte-level tokenizer of the data's own, and the echo marks."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

__all__ = ["BEGIN", "ECHOES", "Sequences", "problems", "train_tokenizer"]

BEGIN = "<|begin|>"
DISTANCES = (1, 2, 3, 4, 6, 8)
ECHOES = tuple(f"<|back{distance}|>" for distance in DISTANCES)


def problems(path: str | Path) -> list[str]:
    """The rows of a .jsonl file with ``question`` and ``answer``, or with ``text``."""
    rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    return [row["text"] if "text" in row else f"{row['question']}\n{row['answer']}" for row in rows]


def train_tokenizer(texts: Sequence[str], *, size: int, context: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of ``size`` entries that puts the beginning-of-sequence token in front."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[BEGIN, *ECHOES], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    begin = tokenizer.token_to_id(BEGIN)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN} $B", special_tokens=[(BEGIN, begin)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BEGIN, model_max_length=context)


class Sequences:
    """Endless training batches: problems in a new order each epoch, echoed, cut into sequences that start with BOS.

    A share of the tokens is followed by one of the echo marks and by a token of the text again: the last one after the
    first mark, earlier ones after the others, as ``DISTANCES`` says. At a mark one head has to look back just as far,
    and has nothing to do elsewhere: such heads learn to rest.

    Args:
        tokens: the problems.
        begin: the token that every sequence begins with.
        marks: the echo marks, one for each of ``DISTANCES``.
        length: tokens of a sequence, ``begin`` included.
        echo: share of the text's tokens that are followed by an echo.
        seed: of the order and the echoes.
    """

    def __init__(
        self, tokens: Sequence[Sequence[int]], *, begin: int, marks: Sequence[int], length: int, echo: float, seed: int
    ) -> None:
        self.tokens = [np.asarray(one, dtype=np.int64) for one in tokens]
        self.begin, self.marks, self.length, self.echo = begin, np.asarray(marks), length, echo
        self.random = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[np.ndarray]:
        body, held = self.length - 1, np.zeros(0, dtype=np.int64)
        while True:
            for index in self.random.permutation(len(self.tokens)):
                held = np.concatenate([held, self.echoed(self.tokens[index])])
                while len(held) >= body:
                    yield np.concatenate([[self.begin], held[:body]])
                    held = held[body:]

    def echoed(self, tokens: np.ndarray) -> np.ndarray:
        """The tokens, some of them followed by a mark and by the token of the text that the mark asks for."""
        kinds = self.random.integers(len(DISTANCES), size=len(tokens))
        asked = np.arange(len(tokens)) + 1 - np.asarray(DISTANCES)[kinds]
        chosen = (self.random.random(len(tokens)) < self.echo) & (asked >= 0)
        triples = np.stack([tokens, self.marks[kinds], tokens[np.maximum(asked, 0)]], axis=1)
        keep = np.stack([np.ones_like(chosen), chosen, chosen], axis=1)
        return triples[keep]

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """Batches of ``size`` sequences, ``batch token``."""
        sequences = iter(self)
        while True:
            yield np.stack([next(sequences) for _ in range(size)])

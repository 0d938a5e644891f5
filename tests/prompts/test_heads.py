"""A long text is cut before it becomes tokens; the oracle is the tokenizer's own reading of all of it."""

import random
from itertools import pairwise

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from thalweg.prompts import Row, open_source, tokenization, tokenize
from thalweg.prompts._heads import PATTERNS, head_of, reach_of
from thalweg.reference import bundled_directory

CORPUS = " ".join(row.text for row in open_source().rows())
OTHERS = "Ünïcode — 数学は楽しい。 Привет, мир! 한국어 텍스트 👩‍👩‍👧 e\u0301a\u0323\u0301 \u1112\u1161\u11ab"
NASTY = {
    "words": CORPUS,
    "lines": "\n".join(CORPUS.split()),
    "other scripts": OTHERS * 200,
    "one letter": "a" * 20_000,
    "alternating": "ab" * 5_000,
    "spaces": "word" + " " * 8_000 + "word",
    "newlines far on": "word" + " " * 4_000 + "\n" + " " * 4_000 + "\nx",
    "combining marks": "a" + "\u0301" * 8_000 + "\u0323" + " b" * 1_000,
    "marks after words": CORPUS[:1500] + "\u0301" * 8_000 + "\u0323",
    "special tokens": (CORPUS[:97] + "<|endoftext|>") * 100,
    "capitals": "A" * 5_000 + "bC" * 2_000,
    "digits": "1234567890" * 1_000,
    "Chinese": "数学是研究数量结构变化" * 1_000,
}


def trained(pattern=None, normalizer=None, **options):
    """A byte-pair tokenizer of the bundled prompts, byte level where there is a pattern, else of whole texts."""
    core = Tokenizer(models.BPE(**options))
    alphabet = pre_tokenizers.ByteLevel.alphabet() if pattern else sorted(set(CORPUS + OTHERS))
    if pattern:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        core.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
        core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
    )
    pieces = CORPUS.split(".") if pattern else [CORPUS[start : start + 40] for start in range(0, 8000, 40)]
    core.train_from_iterator(pieces, trainer)
    core.normalizer = normalizer
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<|endoftext|>")


TOKENIZERS = {
    "bundled": lambda: AutoTokenizer.from_pretrained(bundled_directory("reference")),
    "planted": lambda: AutoTokenizer.from_pretrained(bundled_directory("planted")),
    "whole texts": lambda: trained(unk_token="<|endoftext|>"),
    **{f"pattern {place}": lambda pattern=pattern: trained(pattern) for place, pattern in enumerate(sorted(PATTERNS))},
    "composing": lambda: trained(max(PATTERNS), normalizers.NFC()),
    "decomposing": lambda: trained(max(PATTERNS), normalizers.NFKD()),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]()


@pytest.mark.parametrize("kept", [1, 30])
def test_the_tokens_kept_are_those_of_the_whole_text(tokenizer, kept):
    reach = reach_of(tokenizer)
    for name, text in NASTY.items():
        if (head := head_of(tokenizer, reach, text, kept, special=True)) is not None:
            assert head[:kept] == tokenizer(text, verbose=False)["input_ids"][:kept], name
    assert head_of(tokenizer, reach, NASTY["words"], kept, special=True) is not None


def test_the_tokens_kept_are_those_of_the_whole_text_wherever_it_is_cut(tokenizer):
    draw = random.Random(0)
    pieces = [
        *CORPUS.split(" ")[:40],
        *OTHERS.split(" "),
        "\n",
        "\n\n  ",
        "   ",
        "\t",
        "'s",
        "<|endoftext|>",
        "<|end",
        "12345",
    ]
    for _ in range(4):
        text = "".join(draw.choice(pieces) + draw.choice(["", " "]) for _ in range(800))
        head = head_of(tokenizer, reach_of(tokenizer), text, 25, special=False)
        whole = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        assert head is None or head[:25] == whole[:25]


@pytest.mark.parametrize(
    "change",
    [
        lambda core: setattr(core, "normalizer", normalizers.Replace(Regex(" .*x"), "")),
        lambda core: setattr(core, "pre_tokenizer", pre_tokenizers.Split(Regex(r"\w+(?=.*z)"), "isolated")),
        lambda core: core.add_special_tokens([added("<mask>", lstrip=True)]),
    ],
)
def test_what_may_look_further_is_read_whole(gpt2_like, change):
    assert reach_of(gpt2_like) is not None
    change(gpt2_like.backend_tokenizer)
    assert reach_of(gpt2_like) is None


def added(token, **options):
    from tokenizers import AddedToken

    return AddedToken(token, **options)


def test_a_long_line_costs_no_more_than_its_beginning(gpt2_like, monkeypatch):
    read, call = [], type(gpt2_like).__call__

    def counted(self, texts, **options):
        read.extend(map(len, texts))
        return call(self, texts, **options)

    how = tokenization(gpt2_like, max_length=32)
    text = CORPUS * (5_000_000 // len(CORPUS))
    monkeypatch.setattr(type(gpt2_like), "__call__", counted)
    [prompt] = tokenize([Row(0, text)], how).prompts
    assert sum(read) < 2_000
    assert (len(prompt), prompt.truncated, prompt.text) == (32, True, text)
    assert list(prompt.tokens) == call(gpt2_like, [text[:200]])["input_ids"][0][:32]


def chain(pre_tokenizer=None):
    """Each character merges with the next, the last pair first: what ends a word decides how it begins."""
    letters = [chr(0x4E00 + place) for place in range(999)]
    merges = list(pairwise(letters))[::-1]
    words = ["<|endoftext|>", "x", " ", *letters, *map("".join, merges)]
    core = Tokenizer(models.BPE({word: place for place, word in enumerate(words)}, merges))
    core.pre_tokenizer = pre_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<|endoftext|>"), "".join(letters)


@pytest.mark.parametrize("split", [None, pre_tokenizers.WhitespaceSplit()])
def test_a_word_whose_end_decides_how_it_begins_is_not_believed(split):
    tokenizer, word = chain(split)
    text = word + " x" * 5_000
    [head, tail] = (tokenizer(part)["input_ids"][:1] for part in (text[:520], text))
    assert head != tail  # where a cut for one token falls first
    found = head_of(tokenizer, reach_of(tokenizer), text, 1, special=True)
    assert found is None or found[:1] == tail


def test_a_special_token_longer_than_the_margin_is_not_cut(gpt2_like):
    long = "z, " * 300
    gpt2_like.backend_tokenizer.add_special_tokens([long])
    text = "a " + long + CORPUS
    found = head_of(gpt2_like, reach_of(gpt2_like), text, 3, special=True)
    whole = gpt2_like(text, verbose=False)["input_ids"][:3]
    assert gpt2_like(text[:536], verbose=False)["input_ids"][:3] != whole
    assert found is None or found[:3] == whole

r"""How much of a long text has to be read for its first tokens: it is cut where that provably changes none of them.

A byte-pair tokenizer normalises a text, splits it into words, and merges each word by itself. Where every step is one
of those listed here, whose look ahead is known, a cut changes at most the two words before it: of a run of white space,
the one step that looks further (``\s*[\r\n]+``), a cut leaves two words. So a text is cut after many more characters
than the tokens need, and the cut counts if two words and the longest token that is found before all splitting lie
between it and the last token kept. A normaliser that joins characters is cut only where one begins anew.

Where a text is one word, no merge crosses a boundary between two of its tokens, so that what stands before a boundary
becomes the same tokens by itself. One of the boundaries lies within the length of the longest token before the cut: if
the text up to every one of these places begins with the same tokens, they are those of the whole text.

Anything else, such as another kind of model, a pattern that is not known, or a special token that takes in the white
space before it, has its texts read whole.
"""

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

CHARACTERS = 8
"""Of a token, to begin with."""
MARGIN = 64
"""Tokens beyond those that are kept."""
WORTH = 4
"""How many times longer than the cut a text has to be."""
JOINING = ("NFC", "NFD", "NFKC", "NFKD")
PLAIN = ("Lowercase", "Prepend")
SPLITTING = ("ByteLevel", "Digits", "Metaspace", "Punctuation", "Whitespace", "WhitespaceSplit")
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_OTHERS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%s"
_SLASHED = _OTHERS.replace(r"[\r\n]*", r"[\r\n/]*")
PATTERNS = {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_OTHERS}",
    rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_OTHERS}",
    rf"{_CASED % ('', '')}|\p{{N}}{_SLASHED}",
    rf"{_CASED % (_ENDINGS + '?', _ENDINGS + '?')}|\p{{N}}{{1,3}}{_SLASHED}",
}
"""How GPT-2, Qwen 2, Llama 3, Mistral's Tekken and o200k split a text into words."""
Step = Mapping[str, Any]


@dataclass(frozen=True)
class Reach:
    """How far the tokenizer looks.

    Attributes:
        added: Characters of the longest token that is found before all splitting.
        joins: Whether its normaliser joins characters.
        longest: Characters of the longest token, where a text is one word; None where it is split into words.
        unknown: The token of what is not known, which may be as long as a text.
    """

    added: int
    joins: bool
    longest: int | None
    unknown: int | None

    def settles(self, encoding: Any, end: int, kept: int) -> bool:
        """Whether two words lie between the tokens kept of a text cut at ``end`` and what the cut can change."""
        words, ends = encoding.word_ids, encoding.offsets
        if len(words) <= kept:
            return False
        last = -1 if words[kept - 1] is None else words[kept - 1]
        return any(
            words[place] is not None and words[place] >= last + 2 and ends[place][1] <= end - self.added
            for place in range(kept, len(words))
        )


def reach_of(tokenizer: Any) -> Reach | None:
    """How far a tokenizer looks, or None where that is not known."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    told = json.loads(backend.to_str())
    model, normalizers, splits = told["model"], list(_steps(told["normalizer"])), list(_steps(told["pre_tokenizer"]))
    known = all(map(_is_known, normalizers)) and all(map(_splits_by_what_is_known, splits))
    added = told["added_tokens"]
    if model["type"] != "BPE" or model["dropout"] or not known or any(token["lstrip"] for token in added):
        return None
    joins = any(step["type"] in JOINING for step in normalizers)
    whole = not any(step["type"] != "ByteLevel" or step["use_regex"] for step in splits)
    is_one_word = whole and not joins and not model["ignore_merges"]
    length = max((len(token["content"]) for token in added), default=0)
    replaced = max((len(step["pattern"]["String"]) for step in normalizers if step["type"] == "Replace"), default=0)
    longest = max(map(len, model["vocab"]), default=1) + replaced
    unknown = model["vocab"].get(model["unk_token"])
    return Reach(max(length, 1) + replaced, joins, max(longest, length) if is_one_word else None, unknown)


def head_of(tokenizer: Any, reach: Reach, text: str, kept: int, *, special: bool) -> list[int] | None:
    """The tokens of the beginning of a text of which the first ``kept`` are the whole text's; None to read it whole.

    Args:
        tokenizer: A fast one.
        reach: How far it looks.
        text: The text.
        kept: How many tokens have to be right.
        special: Whether the tokenizer adds its own.
    """
    end = CHARACTERS * (kept + MARGIN)
    while end * WORTH < len(text):
        place = _begins_anew(text, end) if reach.joins else end
        if place is None:
            return None
        encoding = _encodings(tokenizer, [text[:place]], special=special)[0]
        if reach.settles(encoding, place, kept) or _agree(
            tokenizer, reach, text[:place], kept, len(text), encoding, special
        ):
            return list(encoding.ids)
        end *= 2
    return None


def _agree(tokenizer: Any, reach: Reach, text: str, kept: int, size: int, encoding: Any, special: bool) -> bool:
    """Whether the text up to every place where a token of the whole text may end begins with the same tokens."""
    longest, ids = reach.longest, encoding.ids
    if longest is None or len(ids) < kept + MARGIN or reach.unknown in ids or (longest + 1) * len(text) > size:
        return False
    if not text[-longest - 3 :].isascii():  # a boundary may lie within a character that is several bytes
        return False
    ends = [text[:-shorter] for shorter in range(1, longest + 1)]
    return all(other.ids[:kept] == ids[:kept] for other in _encodings(tokenizer, ends, special=special))


def _encodings(tokenizer: Any, texts: list[str], *, special: bool) -> list[Any]:
    given = tokenizer(texts, add_special_tokens=special, padding=False, truncation=False, verbose=False)
    return given.encodings


def _steps(step: Step | None) -> Iterator[Step]:
    """The steps of a sequence of steps, one by one."""
    if step is None:
        return
    inner: Iterable[Step] | None = step.get("normalizers", step.get("pretokenizers"))
    if step["type"] != "Sequence" or inner is None:
        yield step
        return
    for one in inner:
        yield from _steps(one)


def _is_known(step: Step) -> bool:
    return step["type"] in (*JOINING, *PLAIN) or (step["type"] == "Replace" and "String" in step["pattern"])


def _splits_by_what_is_known(step: Step) -> bool:
    if step["type"] != "Split":
        return step["type"] in SPLITTING
    pattern = step["pattern"]
    return not step["invert"] and (pattern.get("Regex") in PATTERNS or len(pattern.get("String", "")) == 1)


def _begins_anew(text: str, end: int) -> int | None:
    """The last place before ``end`` where a character begins that is joined to none before it."""
    for place in range(end, end // 2, -1):
        first = unicodedata.normalize("NFKD", text[place])[0]
        is_jamo = "\u1160" <= first <= "\u11ff"
        if not (is_jamo or unicodedata.combining(first) or unicodedata.category(first).startswith("M")):
            return place
    return None

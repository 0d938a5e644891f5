"""From texts to tokens, by the BOS policy and truncation, and to batches of similar length.

The tokenizer decides what surrounds a text; the policy changes the BOS token alone:

- ``auto``: what the tokenizer does;
- ``always``: a BOS goes in front where the tokenizer puts none;
- ``never``: a BOS that the tokenizer puts in front is taken away again.

Everything else the tokenizer adds stays, an EOS at the end included. A BOS that is spelled out in the text itself is
text; a prompt that so begins with two is counted. A conversation is what the chat template writes, to which the
tokenizer adds nothing; ``always`` adds a BOS where the template has none, ``never`` takes the template's away.

Prompts are cut to their first ``max_tokens`` tokens, what the model would have read of the text so far, so a cut prompt
has lost a final EOS too; ``Prompt.truncated`` tells.

Which prompts share a batch changes no number (pads enter no formula); it changes how much is computed for nothing.
"""

import ctypes
import hashlib
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from thalweg.errors import DataError
from thalweg.prompts._heads import CHARACTERS, WORTH, Reach, head_of, reach_of
from thalweg.prompts._rows import EMPTY, NO_TOKENS, NOT_UNICODE, Row, Skipped

POLICIES = ("auto", "always", "never")
REFUSED = "refused by the chat template"
PATIENCE = 10.0
"""Seconds for one conversation."""
SLACK = 1.25
TINY = 32


@dataclass(frozen=True)
class Prompt:
    """A text as the model reads it.

    Attributes:
        row: 0-based row number in the data as read.
        tokens: Token ids, BOS included if there is one.
        text: The text, whole even if ``truncated``.
        sha256: Hash of the text's UTF-8 bytes.
        truncated: Whether tokens were cut off at the end.
        bos_twice: Whether it begins with the BOS token twice: the text has one too.
    """

    row: int
    tokens: tuple[int, ...]
    text: str
    sha256: str
    truncated: bool
    bos_twice: bool = False

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Bos:
    """What stands in front of every prompt, for the run header.

    Attributes:
        policy: ``auto``, ``always`` or ``never``.
        token: The BOS token that prompts begin with, or None if they begin with text.
        token_id: Its id, or None.
        added_by: ``tokenizer``, ``chat template``, ``thalweg`` or None.
    """

    policy: str
    token: str | None
    token_id: int | None
    added_by: str | None


@dataclass(frozen=True)
class Tokenization:
    """How texts become tokens, decided once for a run.

    Attributes:
        tokenizer: A Hugging Face tokenizer.
        bos: What stands in front.
        max_tokens: Longest prompt, BOS included.
        extra: How many tokens a text of none would have.
        dropped: Which of the tokenizer's tokens is taken away, counted from the front, or None.
        place: Which token is the BOS, counted from the front.
        chat: Whether rows are conversations.
    """

    tokenizer: Any
    bos: Bos
    max_tokens: int
    extra: int
    dropped: int | None
    place: int = 0
    chat: bool = False

    @property
    def added(self) -> list[int]:
        """The BOS, where thalweg puts it in front of what the tokenizer gives."""
        return [self.bos.token_id] if self.bos.added_by == "thalweg" and self.bos.token_id is not None else []

    @cached_property
    def reach(self) -> Reach | None:
        """How far the tokenizer looks ahead, where that is known."""
        return reach_of(self.tokenizer)

    @property
    def template_hash(self) -> str | None:
        """What identifies the chat template, where rows are conversations."""
        if not self.chat:
            return None
        template = json.dumps(self.tokenizer.chat_template, sort_keys=True)
        return f"sha256:{hashlib.sha256(template.encode()).hexdigest()}"

    def has_bos_twice(self, tokens: Sequence[int]) -> bool:
        """Whether the BOS in front is followed by another one."""
        return self.bos.token_id is not None and list(tokens[self.place : self.place + 2]) == [self.bos.token_id] * 2


@dataclass(frozen=True)
class Tokenized:
    """Rows after tokenization: the prompts, and the rows that gave none."""

    prompts: tuple[Prompt, ...]
    skipped: tuple[Skipped, ...]


def tokenization(
    tokenizer: Any, *, bos: str = "auto", max_length: int = 1024, context: int | None = None, chat: bool = False
) -> Tokenization:
    """Decide how a run's texts become tokens.

    Args:
        tokenizer: A Hugging Face tokenizer, fast or slow.
        bos: ``auto``, ``always`` or ``never``.
        max_length: Longest prompt in tokens, 1 or more.
        context: Longest sequence the model accepts, or None if it sets no limit.
        chat: Whether rows are conversations, which the tokenizer's chat template makes texts of.

    Raises:
        DataError: Unknown policy, a length below 1, ``always`` with a tokenizer that has no BOS token, or conversations
            with one that has no chat template.
    """
    if bos not in POLICIES:
        raise DataError(f"--bos: expected auto, always or never; got {bos}.")
    if max_length < 1:
        raise DataError(f"--max-length: expected 1 or more tokens; got {max_length}.")
    prefix, suffix = _by_template(tokenizer) if chat else surroundings(tokenizer)
    bos_id = tokenizer.bos_token_id
    by_tokenizer = bos_id is not None and bos_id in prefix
    if bos == "always" and bos_id is None:
        raise DataError(
            "--bos always: expected a tokenizer with a BOS token; got one that has none. Use --bos auto or never."
        )
    first = "chat template" if chat else "tokenizer"
    added_by = None if bos == "never" else first if by_tokenizer else "thalweg" if bos == "always" else None
    dropped = prefix.index(int(bos_id)) if bos_id is not None and bos == "never" and by_tokenizer else None
    extra = 0 if chat else len(prefix) + len(suffix) + (added_by == "thalweg") - (dropped is not None)
    max_tokens = max_length if context is None else min(max_length, context)
    front = Bos(bos, tokenizer.bos_token, bos_id, added_by) if added_by else Bos(bos, None, None, None)
    place = prefix.index(int(bos_id)) if bos_id is not None and added_by == first else 0
    return Tokenization(tokenizer, front, max_tokens, extra, dropped, place, chat)


def tokenize(rows: Iterable[Row], how: Tokenization) -> Tokenized:
    """Tokenize rows of text; rows without one, and texts of no tokens, are skipped with their reason.

    Args:
        rows: Rows of a source.
        how: The run's tokenization.

    Returns:
        Prompts and skipped rows, both in the order of ``rows``.
    """
    rows = [_rendered(row, how.tokenizer) for row in rows]
    texts = [row.text for row in rows if row.text is not None]
    encoded = iter(_ids(how, texts))
    prompts: list[Prompt] = []
    skipped: list[Skipped] = []
    for row in rows:
        if row.text is None:
            skipped.append(Skipped(row.number, row.reason or NO_TOKENS))
            continue
        tokens = next(encoded)
        if len(tokens) <= how.extra:  # a lone BOS is the same prompt for every such text
            skipped.append(Skipped(row.number, NO_TOKENS))
            continue
        digest = hashlib.sha256(row.text.encode()).hexdigest()
        cut = tokens[: how.max_tokens]
        whole = len(cut) == len(tokens)
        prompts.append(Prompt(row.number, tuple(cut), row.text, digest, not whole, how.has_bos_twice(cut)))
    return Tokenized(tuple(prompts), tuple(skipped))


def _ids(how: Tokenization, texts: list[str]) -> list[list[int]]:
    """Token ids of every text, whole, with what the policy puts in front."""
    if not texts:
        return []
    whole = _first_ids(how, texts)
    if how.chat:
        return [_with_policy(how, ids) for ids in whole]
    if how.dropped is None:
        return [how.added + ids for ids in whole]
    return [ids[: how.dropped] + ids[how.dropped + 1 :] for ids in whole]


def _first_ids(how: Tokenization, texts: list[str]) -> list[list[int]]:
    """Token ids of every text as the tokenizer gives them; of long ones no more than are sure to be kept."""
    heads, kept, special = dict[int, list[int]](), how.max_tokens + 1, not how.chat
    for place, text in enumerate(texts):
        if len(text) > WORTH * CHARACTERS * kept and how.reach is not None:
            head = head_of(how.tokenizer, how.reach, text, kept, special=special)
            heads |= {} if head is None else {place: head}
    others = [text for place, text in enumerate(texts) if place not in heads]
    rest = iter(encoded(how.tokenizer, others, special=special) if others else [])
    return [heads[place] if place in heads else next(rest) for place in range(len(texts))]


def _with_policy(how: Tokenization, ids: list[int]) -> list[int]:
    """A rendered conversation with the BOS that the policy wants: templates may begin one so and another otherwise."""
    front = [how.tokenizer.bos_token_id]
    has_one = ids[:1] == front
    if how.bos.policy == "never" and has_one:
        return ids[1:]
    return front + ids if how.bos.policy == "always" and not has_one else ids


def _rendered(row: Row, tokenizer: Any) -> Row:
    """The row with its conversation as a text, or with the reason why the template makes none of it."""
    if row.messages is None:
        return row
    try:
        with _in_time():
            text = tokenizer.apply_chat_template(list(row.messages), tokenize=False)
        text.encode("utf-8")
    except UnicodeEncodeError:
        return Row(row.number, None, NOT_UNICODE)
    except Exception as error:  # a template may raise anything of its own
        return Row(row.number, None, f"{REFUSED}: {' '.join(str(error).split())[:80]}")
    return Row(row.number, text) if text.strip() else Row(row.number, None, EMPTY)


@contextmanager
def _in_time() -> Iterator[None]:
    """Stop what takes longer than ``PATIENCE``, as a template's loops may: in here nothing else is interrupted."""
    here, lock, over = threading.get_ident(), threading.Lock(), False

    def interrupt() -> None:
        with lock:
            if not over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(here), ctypes.py_object(_TooLong))

    timer = threading.Timer(PATIENCE, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            over = True


class _TooLong(Exception):
    def __str__(self) -> str:
        return f"it has not ended after {PATIENCE:g} seconds"


def _by_template(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What the chat template puts before a conversation that can be a BOS; refused where there is no template."""
    if getattr(tokenizer, "chat_template", None) is None:
        raise DataError(
            "--chat: expected a tokenizer with a chat template; got one without. Leave --chat out, and name a text "
            "such as --text-field messages.0.content."
        )
    probe = _rendered(Row(0, None, messages=[{"role": "user", "content": "a"}]), tokenizer)
    if probe.text is None:
        raise DataError(f"--chat: expected a chat template that works; got: {probe.reason}. Repair the tokenizer's.")
    [ids] = encoded(tokenizer, [probe.text], special=False)
    return ids[:1], []


def encoded(tokenizer: Any, texts: Sequence[str], *, special: bool) -> list[list[int]]:
    # verbose: cutting is ours, so the tokenizer's warning about long texts would be false
    encoding = tokenizer(
        list(texts),
        add_special_tokens=special,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    return [list(ids) for ids in encoding["input_ids"]]


def surroundings(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a text, found on a short one."""
    for probe in ("a", "the", "1", "."):
        [full] = encoded(tokenizer, [probe], special=True)
        [bare] = encoded(tokenizer, [probe], special=False)
        for start in range(len(full) - len(bare) + 1):
            if bare and full[start : start + len(bare)] == bare:
                return full[:start], full[start + len(bare) :]
    [full] = encoded(tokenizer, [""], special=True)  # nothing to tell front from end by: take it for the front
    return full, []


def batches(
    prompts: Iterable[Prompt],
    *,
    token_budget: int,
    batch_size: int | None = None,
    same_side_of: int | None = None,
) -> list[list[Prompt]]:
    """Group prompts by length.

    Sorted by length (rows of equal length keep their order), a batch grows until its padded size would pass the budget,
    its count the batch size, or its padding a quarter of its shortest prompt (up to 32 tokens padding is not counted).

    Args:
        prompts: Any prompts.
        token_budget: Largest ``count x longest``; one prompt that is longer alone goes alone.
        batch_size: Largest count, or None.
        same_side_of: A length that no batch straddles: lengths up to it and lengths above never share a batch. For
            models whose positions change once the padded length passes it.

    Returns:
        Every prompt in exactly one batch, shortest first; the same prompts give the same batches.

    Raises:
        DataError: A budget or batch size below 1.

    Example:
        Lengths 10, 100, 12 under a budget of 200 make the batches (10, 12) and (100,).
    """
    for option, value in (("token_budget", token_budget), ("batch_size", 1 if batch_size is None else batch_size)):
        if value < 1:
            raise DataError(f"{option}: expected 1 or more; got {value}.")
    result: list[list[Prompt]] = []
    for prompt in sorted(prompts, key=len):
        if not result or not _fits(result[-1], len(prompt), token_budget, batch_size, same_side_of):
            result.append([])
        result[-1].append(prompt)
    return result


def padded(batch: Sequence[Prompt], fill: int = 0) -> np.ndarray:
    """Token ids of a batch, padded on the right.

    Args:
        batch: One or more prompts.
        fill: Any valid token id: under a causal mask no real token sees it.

    Returns:
        int64, count x longest.
    """
    tokens = np.full((len(batch), max(map(len, batch))), fill, dtype=np.int64)
    for row, prompt in zip(tokens, batch, strict=True):
        row[: len(prompt)] = prompt.tokens
    return tokens


def _fits(batch: list[Prompt], longest: int, budget: int, size: int | None, switch: int | None) -> bool:
    """Whether a prompt, the longest so far, may join."""
    shortest = len(batch[0])
    return (
        (len(batch) + 1) * longest <= budget
        and (size is None or len(batch) < size)
        and longest <= max(SLACK * shortest, TINY)
        and (switch is None or (shortest <= switch) == (longest <= switch))
    )

r"""What is measured and written together: consecutive rows, or blocks of running text.

Row numbers are cut into windows at the multiples of the shard size, whatever was asked for first, so that a run that is
resumed or extended reads exactly the rows that are missing. ``--limit N`` is the first N rows of the data; skipped rows
count. Of a random sample, drawn from those rows, a window holds as many drawn rows as any other, and what lies between
them.

Running text is cut into blocks of tokens that do not overlap, as the perplexity of WikiText-2 is usually reported. The
rows are joined to one text, which becomes tokens as a whole: a .txt file as it is, line ends included; the rows of
anything else, empty ones too, by ``\n\n``, as Hugging Face's documentation on perplexity does. What the BOS policy puts
in front stands in front of every block; what a tokenizer puts at the end of a text is left out. The last block is as
long as what is left, and dropped below two tokens, where nothing follows anything.
"""

import hashlib
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise

from thalweg.errors import DataError
from thalweg.prompts._files import Txt
from thalweg.prompts._rows import EMPTY, Skipped
from thalweg.prompts._source import Source
from thalweg.prompts._tokens import Prompt, Tokenization, encoded, surroundings, tokenize

RUNNING = ("wikitext2", "Salesforce/wikitext", "wikitext")
BETWEEN = "\n\n"
CHARACTERS = 8  # of a token, to begin with: how much text is read for the blocks asked for
MARGIN = 64  # tokens by which the end of a text that was cut can differ


@dataclass(frozen=True, order=True)
class Window:
    """Rows [first, stop)."""

    first: int
    stop: int


@dataclass(frozen=True)
class Shard:
    """One window of rows, tokenized: every row is a prompt, or skipped, or among those that a sample leaves out."""

    first: int
    stop: int
    prompts: tuple[Prompt, ...]
    skipped: tuple[Skipped, ...]
    left_out: int = 0


def windows(limit: int | None, *, size: int = 64, done: Iterable[Window] = ()) -> Iterator[Window]:
    """The windows that are still to be read.

    Args:
        limit: How many rows of the data, or None for all: then the windows never end.
        size: Rows in a window; windows end at its multiples, at the limit, and where rows that are done begin.
        done: Rows that an earlier run finished, in any order.

    Returns:
        Windows in row order that share no row with each other or with ``done`` and, with it, cover [0, limit).

    Raises:
        DataError: A limit or size below 1.

    Example:
        >>> [(w.first, w.stop) for w in windows(10, size=4, done=[Window(0, 4), Window(4, 6)])]
        [(6, 8), (8, 10)]
    """
    for option, value in (("--limit", 1 if limit is None else limit), ("size", size)):
        if value < 1:
            raise DataError(f"{option}: expected 1 or more rows; got {value}.")
    return _windows(limit, size, sorted(window for window in done if window.first < window.stop))


def read_shards(
    source: Source, how: Tokenization, *, limit: int | None = None, size: int = 64, done: Iterable[Window] = ()
) -> Iterator[Shard]:
    """Read the rows that are missing, shard by shard, in one pass over the data.

    Rows that are done are passed over without being tokenized; if nothing is missing below the limit, the data is not
    opened. A shard whose rows were all skipped is given too, so that it can be recorded as done. The last shard ends
    where the data ends.

    Args:
        source: The prompts.
        how: The run's tokenization.
        limit: How many rows of the data, or None for all.
        size: Rows in a shard.
        done: Rows that an earlier run finished.

    Returns:
        Shards as ``windows`` cuts them.

    Raises:
        DataError: A limit below 1, or data that breaks off; shards given before stay good.
    """
    if source.drawn is None:
        return _shards(source, how, windows(limit, size=size, done=done), limit)
    return _drawn_shards(source, how, _drawn_windows(source.drawn, size, done))


def rows_left(source: Source, limit: int | None, done: Iterable[Window]) -> int | None:
    """How many rows are still to be read, where that is known; data may be read once for it."""
    if source.drawn is not None:
        return len(source.drawn) - sum(place.stop - place.first for place in _places(source.drawn, done))
    known = [rows for rows in (limit, source.count()) if rows is not None]
    return min(known) - sum(window.stop - window.first for window in done) if known else None


def require_prompts(source: Source, kept: int, skipped: Mapping[str, int]) -> None:
    """Raise where a survey read its rows and kept none.

    Args:
        source: The prompts.
        kept: How many prompts there were.
        skipped: How many rows gave none, by reason.

    Raises:
        DataError: ``kept`` is 0; the message counts the reasons.
    """
    if kept:
        return
    reasons = ", ".join(f"{reason}: {count}" for reason, count in Counter(skipped).most_common())
    raise DataError(
        f"{source.name}: expected at least one prompt from {source.template!r}; got none "
        f"(rows skipped: {reasons or 'none, there was nothing to read'}). Change --text-field, --limit or --data."
    )


def _windows(limit: int | None, size: int, done: list[Window]) -> Iterator[Window]:
    first = 0
    while limit is None or first < limit:
        while done and done[0].first <= first:
            first = max(first, done.pop(0).stop)
        ends: list[int | None] = [(first // size + 1) * size, done[0].first if done else None, limit]
        stop = min(end for end in ends if end is not None)
        if first < stop:
            yield Window(first, stop)
        first = max(first, stop)


def _shards(source: Source, how: Tokenization, missing: Iterator[Window], limit: int | None) -> Iterator[Shard]:
    rows, position = iter(()), None
    for window in missing:
        if position is None:
            rows, position = source.rows(window.first, limit), window.first
        passed, size = window.first - position, window.stop - window.first
        chosen = list(islice(rows, passed, passed + size))
        if chosen:
            tokenized = tokenize(chosen, how)
            yield Shard(window.first, window.first + len(chosen), tokenized.prompts, tokenized.skipped)
        if len(chosen) < size:
            return
        position = window.stop


def _places(drawn: tuple[int, ...], done: Iterable[Window]) -> list[Window]:
    """Which of the drawn rows, by their place, lie in windows that are done."""
    return [Window(bisect_left(drawn, window.first), bisect_left(drawn, window.stop)) for window in done]


def _drawn_windows(drawn: tuple[int, ...], size: int, done: Iterable[Window]) -> Iterator[tuple[int, ...]]:
    """Drawn rows that are missing, window by window; no window holds one that is done."""
    places = _places(drawn, done)
    cuts = sorted({place.first for place in places})
    for window in windows(len(drawn), size=size, done=places):
        edges = [window.first, *(cut for cut in cuts if window.first < cut < window.stop), window.stop]
        yield from (drawn[first:stop] for first, stop in pairwise(edges))


def _drawn_shards(source: Source, how: Tokenization, missing: Iterator[tuple[int, ...]]) -> Iterator[Shard]:
    rows, position = iter(()), None
    for wanted in missing:
        if position is None:
            rows, position = source.rows(wanted[0]), wanted[0]
        some, stop = set(wanted), wanted[-1] + 1
        chosen = [row for row in islice(rows, stop - position) if row.number in some]
        if chosen:
            tokenized, end = tokenize(chosen, how), chosen[-1].number + 1
            left_out = end - wanted[0] - len(chosen)
            yield Shard(wanted[0], end, tokenized.prompts, tokenized.skipped, left_out)
        if len(chosen) < len(wanted):
            return
        position = stop


@dataclass(frozen=True)
class TokenBlocks:
    """A text in blocks; block number n is row n of the data.

    Attributes:
        tokens: of the text, without anything in front.
        front: what stands in front of every block.
        length: tokens of a block, ``front`` included.
        count: how many blocks there are.
    """

    tokens: tuple[int, ...]
    front: tuple[int, ...]
    length: int
    count: int

    def block(self, number: int) -> Prompt:
        """One block as a prompt."""
        step = self.length - len(self.front)
        tokens = (*self.front, *self.tokens[number * step : (number + 1) * step])
        return Prompt(number, tokens, "", hashlib.sha256(repr(tokens).encode()).hexdigest(), truncated=False)

    def shards(self, *, size: int = 64, done: Iterable[Window] = ()) -> Iterator[Shard]:
        """The blocks that are missing, as ``read_shards`` gives rows."""
        for window in windows(self.count, size=size, done=done) if self.count else ():
            yield Shard(window.first, window.stop, tuple(map(self.block, range(window.first, window.stop))), ())


def is_running_text(source: Source) -> bool:
    """Whether the rows are pieces of one text, not texts of their own: lines of a .txt file, WikiText-2."""
    return source.kind == "txt" or source.name.split(":")[0].split("@")[0] in RUNNING


def token_blocks(source: Source, how: Tokenization, *, length: int, limit: int | None = None) -> TokenBlocks:
    """Join the rows of a source and cut them into blocks of tokens.

    Args:
        source: the rows.
        how: the tokenizer and the BOS policy; its longest prompt is not looked at.
        length: tokens of a block, what stands in front included; 2 or more of its own.
        limit: how many blocks; None for all. No more text is read than they need.

    Raises:
        DataError: a length without room for two tokens, a limit below 1, or no text at all.

    Example:
        Ten tokens and a BOS in blocks of 5: BOS and 4, BOS and 4, BOS and 2.
    """
    front = _front(how)
    if length < len(front) + 1 or length < 2:
        raise DataError(f"--block-length: expected {max(2, len(front) + 1)} or more tokens; got {length}.")
    if limit is not None and limit < 1:
        raise DataError(f"--limit: expected 1 or more blocks; got {limit}.")
    step = length - len(front)
    tokens = _tokens(source, how, None if limit is None else limit * step)
    whole, rest = divmod(len(tokens), step)
    count = whole + (len(front) + rest >= 2 and rest >= 1)
    if not count:
        raise DataError(f"{source.name}: expected text of two tokens at least; got {len(tokens)}. Check --data.")
    return TokenBlocks(tuple(tokens), front, length, count)


def _front(how: Tokenization) -> tuple[int, ...]:
    before, _ = surroundings(how.tokenizer)
    if how.dropped is not None:
        before = before[: how.dropped] + before[how.dropped + 1 :]
    return (*how.added, *before)


def _tokens(source: Source, how: Tokenization, wanted: int | None) -> list[int]:
    """The first tokens of the text, those that would be the same if all of it had been read."""
    characters = math.inf if wanted is None else CHARACTERS * (wanted + MARGIN)
    while True:
        text, whole = _text(source, characters)
        if not text.strip():
            raise DataError(f"{source.name}: expected at least one row with text; got none. Check --data.")
        [tokens] = encoded(how.tokenizer, [text], special=False)
        if wanted is None or whole or len(tokens) >= wanted + MARGIN:
            return tokens[:wanted]
        characters *= 2


def _text(source: Source, characters: int | float) -> tuple[str, bool]:
    """The rows as one text, as far as ``characters``, and whether that is all."""
    parts, length, pieces = list[str](), 0, _pieces(source)
    for piece in pieces:
        parts.append(piece)
        length += len(piece)
        if length >= characters:
            break
    return "".join(parts), next(pieces, None) is None


def _pieces(source: Source) -> Iterator[str]:
    """Rows with what stands between them."""
    if isinstance(source._reader, Txt):
        for record in Txt(source._reader.path, whole=True).records((), 0, None):
            yield from map(str, record.values())
        return
    between = ""
    for row in source.rows():
        if row.text is not None or row.reason == EMPTY:  # no text at all is another thing than an empty one
            yield between + (row.text or "")
            between = BETWEEN

r"""Running text in blocks of tokens that do not overlap, as the perplexity of WikiText-2 is usually reported.

The rows are joined to one text, which becomes tokens as a whole: a .txt file as it is, line ends included; the rows of
anything else, empty ones too, by ``\n\n``, as Hugging Face's documentation on perplexity does. What the BOS policy puts
in front stands in front of every block; what a tokenizer puts at the end of a text is left out. The last block is as
long as what is left, and dropped below two tokens, where nothing follows anything.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from thalweg.errors import DataError
from thalweg.prompts._row import EMPTY
from thalweg.prompts._shards import Shard, Window, windows
from thalweg.prompts._source import Source
from thalweg.prompts._text_files import Txt
from thalweg.prompts._tokens import Prompt, Tokenization, _encoded, _surroundings

RUNNING = ("wikitext2", "Salesforce/wikitext", "wikitext")
BETWEEN = "\n\n"
CHARACTERS = 8  # of a token, to begin with: how much text is read for the blocks asked for
MARGIN = 64  # tokens by which the end of a text that was cut can differ


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
        own = self.length - len(self.front)
        tokens = (*self.front, *self.tokens[number * own : (number + 1) * own])
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
    own = length - len(front)
    tokens = _tokens(source, how, None if limit is None else limit * own)
    whole, rest = divmod(len(tokens), own)
    count = whole + (len(front) + rest >= 2 and rest >= 1)
    if not count:
        raise DataError(f"{source.name}: expected text of two tokens at least; got {len(tokens)}. Check --data.")
    return TokenBlocks(tuple(tokens), front, length, count)


def _front(how: Tokenization) -> tuple[int, ...]:
    before, _ = _surroundings(how.tokenizer)
    if how.dropped is not None:
        before = before[: how.dropped] + before[how.dropped + 1 :]
    added = [how.bos.token_id] if how.bos.added_by == "thalweg" and how.bos.token_id is not None else []
    return (*added, *before)


def _tokens(source: Source, how: Tokenization, wanted: int | None) -> list[int]:
    """The first tokens of the text, those that would be the same if all of it had been read."""
    characters = None if wanted is None else CHARACTERS * (wanted + MARGIN)
    while True:
        text, whole = _text(source, characters)
        if not text.strip():
            raise DataError(f"{source.name}: expected at least one row with text; got none. Check --data.")
        [tokens] = _encoded(how.tokenizer, [text], special=False)
        if wanted is None or characters is None or whole or len(tokens) >= wanted + MARGIN:
            return tokens[:wanted]
        characters *= 2


def _text(source: Source, characters: int | None) -> tuple[str, bool]:
    """The rows as one text, as far as ``characters``, and whether that is all."""
    parts, length = list[str](), 0
    pieces = _pieces(source)
    for piece in pieces:
        parts.append(piece)
        length += len(piece)
        if characters is not None and length >= characters:
            following = next(pieces, None)
            return "".join(parts), following is None
    return "".join(parts), True


def _pieces(source: Source) -> Iterator[str]:
    """Rows with what stands between them."""
    if isinstance(source._reader, Txt):
        for record in Txt(source._reader.path, whole=True).records((), 0, None):
            yield from (str(text) for text in record.values())
        return
    first = True
    for row in source.rows():
        if row.text is None and row.reason != EMPTY:
            continue  # no text at all, which is another thing than an empty one
        yield (row.text or "") if first else BETWEEN + (row.text or "")
        first = False

"""Running text in blocks, for experiments over prompts: the block stands where a row of the data stood."""

from collections.abc import Iterator, Sequence

from thalweg.errors import UsageError
from thalweg.experiments._prepare import Prepared
from thalweg.prompts import Shard as Rows
from thalweg.prompts import Source, TokenBlocks, Window, is_running_text, token_blocks

LONGEST = 2048
"""Tokens of a block where the model sets no limit."""


class BlockReading:
    """Reads every data set of an experiment in blocks; a text is turned into tokens once."""

    def __init__(self, prepared: Prepared, length: int) -> None:
        self._prepared, self._length = prepared, length
        self._blocks = dict[str, TokenBlocks]()

    def shards(self, source: Source, done: Sequence[Window]) -> Iterator[Rows]:
        """The blocks that are missing."""
        return self.blocks(source).shards(size=self._prepared.options.shard_rows, done=done)

    def missing(self, source: Source, done: Sequence[Window]) -> int:
        """How many they are."""
        return self.blocks(source).count - sum(window.stop - window.first for window in done)

    def blocks(self, source: Source) -> TokenBlocks:
        """The whole text in blocks, as far as the limit."""
        if source.name not in self._blocks:
            how, limit = self._prepared.tokenizations[0], self._prepared.options.limit
            self._blocks[source.name] = token_blocks(source, how, length=self._length, limit=limit)
        return self._blocks[source.name]


def length_of_blocks(prepared: Prepared, blocks: bool | None, asked: int | None) -> int | None:
    """How long blocks are; None where every row is read by itself.

    Args:
        prepared: model and data.
        blocks: join the rows and cut them into blocks, or not; None decides by the data: lines of a .txt file and
            WikiText-2 are pieces of one text, rows of anything else are texts of their own.
        asked: tokens of a block; the model's context by default, 2048 where it has none.

    Raises:
        UsageError: blocks longer than the context; a length, but no blocks; data of both kinds at once.
    """
    kinds = {is_running_text(source) for source in prepared.sources} if blocks is None else {blocks}
    if len(kinds) > 1:
        raise UsageError("--data names running text and separate rows; say --blocks or --no-blocks, or run them apart.")
    if kinds != {True}:
        if asked is not None:
            raise UsageError(f"--block-length {asked}: these rows are read one by one; add --blocks to join them.")
        return None
    context = prepared.models[0].context
    if asked is not None and context is not None and asked > context:
        raise UsageError(f"--block-length must be at most the model's context of {context} tokens; got {asked}.")
    return asked or context or LONGEST

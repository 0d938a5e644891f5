"""Prompts of data sets through one model, shard after shard, resumed where it stopped: the survey and every experiment.

A row that was not measured for a reason that can pass is written down as one to be tried again, and the same command
tries it again.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import polars as pl

from thalweg.capture import Capability, IdentifiedModel, Subject, load_model, positions_of, require, subject_of
from thalweg.engines import PASSING, BatchOptions, Progress, progress_bar, run_shards
from thalweg.errors import NotMeasured, UsageError
from thalweg.experiments._options import SurveyOptions
from thalweg.experiments._prepare import Prepared
from thalweg.prompts import (
    Prompt,
    Source,
    TokenBlocks,
    Tokenization,
    Window,
    is_running_text,
    read_shards,
    require_prompts,
    rows_left,
    token_blocks,
)
from thalweg.prompts import Shard as Rows
from thalweg.store import UNNAMED, FindingsWriter, PartCounts, Shard

CPU_TOKENS, ACCELERATOR_TOKENS = 4096, 16384
Result = TypeVar("Result")
Key = dict[str, str]
"""The key columns: model, revision, data."""
Tables = Callable[[Sequence[Prompt], list[Result], Key], Mapping[str, pl.DataFrame]]
"""A shard's prompts, the results of its batches, and the key columns: the tables in parts, empty ones with their
columns where no prompt was kept."""
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
    """How long blocks are, by default the model's context or 2048; None where every row is read by itself.

    Where ``blocks`` is None, the data decide: lines of a .txt file and WikiText-2 are pieces of one text, rows of
    anything else are texts of their own.
    """
    kinds = {is_running_text(source) for source in prepared.sources} if blocks is None else {blocks}
    if len(kinds) > 1:
        raise UsageError("--data names running text and separate rows; say --blocks or --no-blocks, or run them apart.")
    if kinds != {True}:
        if asked is not None:
            raise UsageError(f"--block-length {asked}: these rows are read one by one; add --blocks to join them.")
        return None
    if prepared.options.sample is not None:
        raise UsageError(
            "--sample draws rows; these are read as one text, in blocks. Add --no-blocks, or leave it out."
        )
    context = prepared.models[0].context
    if asked is not None and context is not None and asked > context:
        raise UsageError(f"--block-length must be at most the model's context of {context} tokens; got {asked}.")
    return asked or context or LONGEST


def loaded(model: IdentifiedModel, *capabilities: Capability) -> Subject:
    """Load a model and prove what an experiment needs of it."""
    subject = subject_of(load_model(model))
    for capability in ("states and attention", *capabilities):
        require(subject, capability)
    return subject


@dataclass(frozen=True)
class Passage:
    """One data set through one model: what is done, what is missing, and the way to measure it.

    ``reading`` reads the data in blocks; without it they are read row by row.
    """

    model: IdentifiedModel
    how: Tokenization
    source: Source
    writer: FindingsWriter
    options: SurveyOptions
    reading: BlockReading | None = None

    @property
    def key(self) -> Key:
        """The key columns."""
        return {"model": self.model.name, "revision": self.model.revision, "data": self.source.name}

    @property
    def done(self) -> list[Window]:
        """The rows that are finished."""
        return [Window(*rows) for rows in self.writer.done(*self.key.values())]

    @property
    def is_unfinished(self) -> bool:
        """Whether a shard is missing, so that weights will be needed."""
        return next(self.shards(), None) is not None

    def shards(self) -> Iterator[Rows]:
        """The rows that are missing."""
        if self.reading is not None:
            return self.reading.shards(self.source, self.done)
        options = self.options
        return read_shards(self.source, self.how, limit=options.limit, size=options.shard_rows, done=self.done)

    def measure(self, title: str, write: Callable[[Iterable[Rows], Key, Progress], None]) -> None:
        """Measure what is missing, with a bar."""
        revision = "" if self.model.revision in UNNAMED else f" at {self.model.revision}"
        bar = f"{title}{Path(self.model.name).name}{revision} on {self.source.name}"
        with progress_bar(bar, self._to_come(), shown=self.options.progress) as progress:
            write(self.shards(), self.key, progress)
        self.require_some()

    def require_some(self) -> None:
        """Zero usable prompts is an error of the data, told with the reasons."""
        self.writer.update()
        pair = tuple(self.key.values())
        covered = next(coverage for coverage in self.writer.header.coverage if coverage.pair == pair)
        if covered.waiting and not covered.prompts_kept:
            raise NotMeasured(f"{covered.not_measured} Nothing is there to be averaged.")
        require_prompts(self.source, covered.prompts_kept, covered.skipped)

    def _to_come(self) -> int | None:
        """Rows, for the bar alone: counting may read the data once."""
        if self.reading is not None:
            return self.reading.missing(self.source, self.done)
        if not self.options.progress or not sys.stderr.isatty():
            return None
        return rows_left(self.source, self.options.limit, self.done)


def measure_prompts(
    prepared: Prepared,
    writer: FindingsWriter,
    subject: Subject,
    measure: Callable[[Sequence[Prompt]], Result],
    tables: Tables[Result],
    *,
    title: str,
    reading: BlockReading | None = None,
    nonfinite: Callable[[Sequence[Result]], int] | None = None,
    batches: BatchOptions | None = None,
) -> None:
    """Measure what is missing of every data set with the first model, ``subject``, and write it shard by shard.

    ``nonfinite`` says how many states with NaN or Inf a shard's results hold, where the experiment counts them.
    """

    def counts(_: Sequence[Prompt], results: list[Result], __: Mapping[str, pl.DataFrame]) -> PartCounts:
        return PartCounts(nonfinite_states=nonfinite(results) if nonfinite else 0)

    def write(shards: Iterable[Rows], key: Key, progress: Progress) -> None:
        write_shards(shards, writer, key, measure, tables, counts=counts, batches=how, progress=progress)

    how = batches or batching(subject, prepared.options)

    for passage in passages(prepared, writer, reading):
        passage.measure(f"{title}: ", write)


def write_shards(
    shards: Iterable[Rows],
    writer: FindingsWriter,
    key: Key,
    measure: Callable[[Sequence[Prompt]], Result],
    tables: Tables[Result],
    *,
    counts: Callable[[Sequence[Prompt], list[Result], Mapping[str, pl.DataFrame]], PartCounts],
    batches: BatchOptions,
    progress: Progress | None = None,
) -> None:
    """Measure shards and write each when it is whole; ``counts`` are those that the tables cannot say."""

    def finish(shard: Rows, results: list[Result]) -> None:
        rows, skipped = tables(shard.prompts, results, key), skip_counts(shard)
        again = {row.row: row.reason for row in shard.skipped if row.reason in PASSING}
        of_rows = {
            "skipped": {reason: count for reason, count in skipped.items() if reason not in PASSING},
            "bos_twice": sum(prompt.bos_twice for prompt in shard.prompts),
            "left_out": shard.left_out,
        }
        counted = counts(shard.prompts, results, rows).model_copy(update=of_rows)
        writer.write_part(Shard(**key, first_row=shard.first, stop_row=shard.stop), rows, counts=counted, retry=again)

    run_shards(shards, measure=measure, finish=finish, options=batches, progress=progress)


def passages(
    prepared: Prepared, writer: FindingsWriter, reading: BlockReading | None = None, *, number: int = 0
) -> list[Passage]:
    """The first model, or another one, on every data set."""
    model, how, options = prepared.models[number], prepared.tokenizations[number], prepared.options
    return [Passage(model, how, source, writer, options, reading) for source in prepared.sources]


def unfinished(prepared: Prepared, writer: FindingsWriter, reading: BlockReading | None = None) -> bool:
    """Whether rows of some data set are still to be measured, which is when weights have to be loaded."""
    for passage in passages(prepared, writer, reading):
        if passage.is_unfinished:
            return True
        passage.require_some()
    return False


def batching(subject: Subject, options: SurveyOptions) -> BatchOptions:
    """How prompts share a forward pass on this model's device."""
    chosen = CPU_TOKENS if subject.device.type == "cpu" else ACCELERATOR_TOKENS
    return BatchOptions(options.batch_tokens or chosen, options.batch_size, positions_of(subject.model).switch)


def skip_counts(shard: Rows) -> dict[str, int]:
    """Rows that gave no prompt, by reason."""
    return dict(sorted(Counter(row.reason for row in shard.skipped).items()))

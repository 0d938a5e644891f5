"""An experiment over prompts: one model, every data set, shard after shard, resumed where it stopped."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import polars as pl

from thalweg.capture import Capability, IdentifiedModel, Subject, load_model, positions_of, require, subject_of
from thalweg.engines import BatchOptions, progress_bar, run_shards
from thalweg.experiments._lens.blocks import BlockReading
from thalweg.experiments._options import SurveyOptions
from thalweg.experiments._prepare import Prepared
from thalweg.prompts import Prompt, Source, Window, read_shards, require_prompts
from thalweg.prompts import Shard as Rows
from thalweg.store import ExperimentWriter, PartCounts, Shard

CPU_TOKENS, ACCELERATOR_TOKENS = 4096, 16384
Result = TypeVar("Result")


def loaded(model: IdentifiedModel, *capabilities: Capability) -> Subject:
    """Load a model and prove what an experiment needs of it.

    Raises:
        ModelError, ProofError: it cannot be loaded, or a proof fails.
    """
    subject = subject_of(load_model(model))
    for capability in ("states and attention", *capabilities):
        require(subject, capability)
    return subject


def measure_prompts(
    prepared: Prepared,
    writer: ExperimentWriter,
    subject: Subject,
    measure: Callable[[Sequence[Prompt]], Result],
    tables: Callable[[Sequence[Prompt], list[Result], dict[str, str]], Mapping[str, pl.DataFrame]],
    *,
    title: str,
    reading: BlockReading | None = None,
    nonfinite: Callable[[Sequence[Result]], int] | None = None,
    batches: BatchOptions | None = None,
) -> None:
    """Measure what is missing of every data set and write it shard by shard.

    Args:
        prepared: its first model is ``subject``.
        writer: of the experiment.
        subject: the loaded model.
        measure: what one batch of prompts gives.
        tables: a shard's prompts, the results of its batches, and the key columns (model, revision, data): the
            experiment's part tables, empty ones with their columns where no prompt was kept.
        title: of the bar.
        reading: reads the data in blocks; row by row by default.
        nonfinite: how many states with NaN or Inf a shard's results hold, where the experiment counts them.
        batches: how prompts share a forward pass; by the device by default.
    """
    batches = batches or batching(subject, prepared.options)
    model, options = prepared.models[0], prepared.options
    for source in prepared.sources:
        key = {"model": model.name, "revision": model.revision, "data": source.name}
        done = [Window(*rows) for rows in writer.done(*key.values())]
        shards = _shards(prepared, source, done, reading)

        def finish(shard: Rows, results: list[Result], key: dict[str, str] = key) -> None:
            place = Shard(**key, first_row=shard.first, stop_row=shard.stop)
            undefined = nonfinite(results) if nonfinite else 0
            counts = PartCounts(skipped=skip_counts(shard), nonfinite_states=undefined)
            writer.write_part(place, tables(shard.prompts, results, key), counts=counts)

        bar = f"{title}: {Path(model.name).name} on {source.name}"
        total = reading.missing(source, done) if reading else missing_rows(options, source, done)
        with progress_bar(bar, total, shown=options.progress) as progress:
            run_shards(shards, measure=measure, finish=finish, options=batches, progress=progress)
        writer.update()
        _require_some(source, writer, tuple(key.values()))


def unfinished(prepared: Prepared, writer: ExperimentWriter, reading: BlockReading | None = None) -> bool:
    """Whether rows of some data set are still to be measured, which is when weights have to be loaded.

    Raises:
        DataError: a data set is finished and gave no prompt.
    """
    model = prepared.models[0]
    for source in prepared.sources:
        own = (model.name, model.revision, source.name)
        done = [Window(*rows) for rows in writer.done(*own)]
        if next(_shards(prepared, source, done, reading), None) is not None:
            return True
        _require_some(source, writer, own)
    return False


def _shards(prepared: Prepared, source: Source, done: Sequence[Window], reading: BlockReading | None) -> Iterator[Rows]:
    if reading is not None:
        return reading.shards(source, done)
    how, options = prepared.tokenizations[0], prepared.options
    return read_shards(source, how, limit=options.limit, size=options.shard_rows, done=done)


def batching(subject: Subject, options: SurveyOptions) -> BatchOptions:
    """How prompts share a forward pass on this model's device."""
    chosen = CPU_TOKENS if subject.device.type == "cpu" else ACCELERATOR_TOKENS
    return BatchOptions(options.batch_tokens or chosen, options.batch_size, positions_of(subject.model).switch)


def _require_some(source: Source, writer: ExperimentWriter, own: tuple[str, ...]) -> None:
    """Zero usable prompts is an error of the data, told with the reasons."""
    covered = next(one for one in writer.header.coverage if (one.model, one.revision, one.data) == own)
    require_prompts(source, covered.prompts_kept, covered.skipped)


def missing_rows(options: SurveyOptions, source: Source, done: Sequence[Window]) -> int | None:
    """Rows to come, for the bar alone: counting may read the data once."""
    if not options.progress or not sys.stderr.isatty():
        return None
    known = [rows for rows in (options.limit, source.count()) if rows is not None]
    return min(known) - sum(window.stop - window.first for window in done) if known else None


def skip_counts(shard: Rows) -> dict[str, int]:
    """Rows that gave no prompt, by reason."""
    reasons = [row.reason for row in shard.skipped]
    return {reason: reasons.count(reason) for reason in sorted(set(reasons))}

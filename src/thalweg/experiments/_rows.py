"""A survey's rows: shards are measured on one model that is in memory, and written one by one; then averaged."""

from collections.abc import Iterable
from typing import Any

import polars as pl

from thalweg import metrics
from thalweg.capture import Subject
from thalweg.engines import Progress, run_shards
from thalweg.experiments._measure import BatchRows, MeasureOptions, frames, measure_batch
from thalweg.experiments._options import SurveyOptions
from thalweg.experiments._over_prompts import batching, skip_counts
from thalweg.prompts import Shard as Rows
from thalweg.store import PartCounts, RunWriter, Shard, open_run

__all__ = ["aggregate", "measure_rows"]


def measure_rows(
    subject: Subject,
    shards: Iterable[Rows],
    writer: RunWriter | None,
    key: dict[str, str],
    tokenizer: Any,
    options: SurveyOptions,
    *,
    progress: Progress | None = None,
) -> None:
    """Measure shards and write each when it is whole.

    Args:
        subject: the model as it is now.
        shards: rows, tokenized.
        writer: of the run, which holds the model and the data of ``key``; None measures along and writes nothing, where
            a model runs in several processes and one of them writes.
        key: model, revision and data of the rows.
        tokenizer: gives massive tokens their text.
        options: thresholds and batches.
        progress: told of every batch and shard.
    """
    settings = MeasureOptions(options.sink_position, options.massive_ratio, variants=options.variants)

    def write(shard: Rows, results: list[BatchRows]) -> None:
        if writer is None:
            return
        counts = PartCounts(
            skipped=skip_counts(shard),
            nonfinite_states=sum(result.nonfinite_states for result in results),
            short_prompts=sum(metrics.sink_uniform(len(prompt)) >= options.tau for prompt in shard.prompts),
        )
        tables = frames(results, shard.prompts, key, tokenizer, writer.header)
        writer.write_part(Shard(**key, first_row=shard.first, stop_row=shard.stop), tables, counts=counts)

    run_shards(
        shards,
        measure=lambda batch: measure_batch(subject, batch, settings),
        finish=write,
        options=batching(subject, options),
        progress=progress,
    )


def aggregate(writer: RunWriter, known: pl.DataFrame | None = None) -> None:
    """Profile, phases and coupling of what is on disk, unless they were made since the last part.

    Args:
        writer: of the run.
        known: the part of the profile that is still right, of models that were not measured since.
    """
    writer.update()
    run, thresholds = open_run(writer.path), writer.header.thresholds
    measured = [pair for pair in writer.header.coverage if pair.prompts_kept]
    if not (run.missing and measured):
        return
    ratio = thresholds.massive_ratio
    profiles = list[pl.DataFrame]()
    for pair in measured:  # one at a time: what is held grows with the prompts of one model on one data set
        own = (pl.col("model") == pair.model) & (pl.col("revision") == pair.revision) & (pl.col("data") == pair.data)
        if known is not None and (kept := known.filter(own)).height:
            profiles.append(kept)
            continue
        tables = (frame.filter(own) for frame in (run.layers, run.heads, run.prompts))
        profiles.append(metrics.profile(*tables, tau=thresholds.tau, massive_ratio=ratio))
    profile = pl.concat(profiles, how="vertical_relaxed")  # what was read has the narrower types of the disk
    writer.write_table("profile", profile)
    writer.write_table("phases", metrics.phases(run.layers, profile, massive_ratio=ratio))
    writer.write_table("coupling", metrics.coupling(profile))

"""A survey's rows: shards are measured on one model that is in memory, and written one by one; then averaged."""

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from thalweg import averages, metrics
from thalweg.averages import KEYS
from thalweg.capture import Subject
from thalweg.engines import Progress, run_shards
from thalweg.experiments._options import SurveyOptions
from thalweg.experiments._over_prompts import batching, skip_counts
from thalweg.experiments._survey.batch import BatchRows, MeasureOptions, frames, measure_batch
from thalweg.prompts import Shard as Rows
from thalweg.store import Coverage, PartCounts, Run, RunWriter, Shard, open_run


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


def aggregate(writer: RunWriter, known: Mapping[str, pl.DataFrame] | None = None) -> None:
    """Profile, phases and coupling of what is on disk, unless they were made since the last part.

    Args:
        writer: of the run.
        known: by table, rows that are still right, of models that were not measured since; only what they lack is
            read and computed.
    """
    writer.update()
    run = open_run(writer.path)
    measured = [pair for pair in writer.header.coverage if pair.prompts_kept]
    if not (run.missing and measured):
        return
    parts = {table: [rows] for table, rows in (known or {}).items()}
    there = set(known["profile"].select(KEYS).unique().iter_rows()) if known else set()
    for pair in measured:  # one at a time: what is held grows with the prompts of one model on one data set
        if _key(pair) not in there:
            for table, rows in _averages(_only(run, pair)).items():
                parts.setdefault(table, []).append(rows)
    pairs = pl.DataFrame([_key(pair) for pair in measured], schema=KEYS, orient="row")
    tables = {table: _rows_of(pairs, rows) for table, rows in parts.items()}
    if pairs["model"].n_unique() > 1:
        tables["coupling"] = averages.coupling(tables["profile"])  # with a row for all models
    for table, rows in tables.items():
        writer.write_table(table, rows)


def _key(pair: Coverage) -> tuple[str, str, str]:
    return pair.model, pair.revision, pair.data


def _rows_of(pairs: pl.DataFrame, parts: list[pl.DataFrame]) -> pl.DataFrame:
    """The rows of these pairs, in the order of the pairs."""
    rows = pl.concat(parts, how="diagonal_relaxed")  # what was read has the narrower types of the disk
    return pairs.join(rows, on=KEYS, maintain_order="left_right")


def _only(run: Run, pair: Coverage) -> Run:
    """The run of one model on one data set: no file of another one is opened."""
    models = tuple(one for one in run.header.models if (one.name, one.revision) == (pair.model, pair.revision))
    data = tuple(one for one in run.header.data if one.name == pair.data)
    return Run(run.path, run.header.model_copy(update={"models": models, "data": data}))


def _averages(run: Run) -> dict[str, pl.DataFrame]:
    thresholds = run.header.thresholds
    ratio = thresholds.massive_ratio
    profile = averages.profile(run.layers, run.heads, run.prompts, tau=thresholds.tau, massive_ratio=ratio)
    phases = averages.phases(run.layers, profile, massive_ratio=ratio)
    return {"profile": profile, "phases": phases, "coupling": averages.coupling(profile)}

"""A survey's rows: measured on one model that is in memory, shard by shard, and written; then averaged."""

import gc
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from thalweg import averages, metrics
from thalweg.averages import KEYS
from thalweg.capture import HALF, Subject, weights_of
from thalweg.engines import Progress, run_shards
from thalweg.experiments._options import SurveyOptions
from thalweg.experiments._over_prompts import Key, Passage, batching, loaded, passages, write_shards
from thalweg.experiments._prepare import Prepared, learned_facts
from thalweg.experiments._survey.batch import WITHOUT_MASSIVE, BatchRows, MeasureOptions, frames, measure_batch
from thalweg.experiments._survey.noise import noise_floor
from thalweg.experiments._survey.tables import tables
from thalweg.prompts import Prompt
from thalweg.prompts import Shard as Rows
from thalweg.store import (
    Findings,
    FindingsWriter,
    ModelFacts,
    PartCounts,
    RunHeader,
    Session,
    Thresholds,
    open_findings,
)

NAME = "survey"


def open_survey(
    path: str | Path, header: RunHeader, session: Session | None = None, *, grown: bool = False
) -> FindingsWriter:
    """Open the survey of a run for writing: a new run, or the same one again.

    Args:
        path: the run's directory.
        header: what is to be run.
        session: how this command runs.
        grown: models that the run does not hold are added to it, and those it holds beside them are kept.

    Raises:
        RunError: the directory holds another run or other files, cannot be written, or is being written by another
            process.
    """
    written = tables(variants=header.variants, keep_text=header.keep_text)
    return open_findings(path, header, NAME, {}, written, session=session, joins="grown" if grown else "whole")


def measure_rows(
    subject: Subject,
    writer: FindingsWriter | None,
    tokenizer: Any,
    options: SurveyOptions,
    shards: Iterable[Rows],
    key: Key,
    progress: Progress | None = None,
    *,
    without_massive: int = WITHOUT_MASSIVE,
) -> None:
    """Measure shards and write each when it is whole.

    Args:
        subject: the model as it is now.
        writer: of the survey, which holds the model and the data of ``key``; None measures along and writes nothing,
            where a model runs in several processes and one of them writes.
        tokenizer: gives massive tokens their text.
        options: thresholds and batches.
        shards: rows, tokenized.
        key: model, revision and data of the rows.
        progress: told of every batch and shard.
        without_massive: rows before this one are measured without their massive rows too.
    """
    settings = _settings(options, without_massive)
    batches = batching(subject, options)

    def measure(batch: Sequence[Prompt]) -> BatchRows:
        return measure_batch(subject, batch, settings)

    if writer is None:
        run_shards(shards, measure=measure, finish=lambda *_: None, options=batches, progress=progress)
        return
    header = writer.run_header

    def tables(prompts: Sequence[Prompt], results: list[BatchRows], key: Key) -> Mapping[str, pl.DataFrame]:
        return frames(results, prompts, key, tokenizer, header)

    def counts(prompts: Sequence[Prompt], results: list[BatchRows], rows: Mapping[str, pl.DataFrame]) -> PartCounts:
        return PartCounts(
            nonfinite_states=sum(result.nonfinite_states for result in results),
            short_prompts=sum(metrics.sink_uniform(len(prompt)) >= options.tau for prompt in prompts),
            bound_violations=int(rows["layers"]["bound_violated"].sum()),
        )

    write_shards(shards, writer, key, measure, tables, counts=counts, batches=batches, progress=progress)


def _settings(options: SurveyOptions, without_massive: int) -> MeasureOptions:
    return MeasureOptions(
        options.sink_position or 0, options.massive_ratio, variants=options.variants, without_massive=without_massive
    )


def aggregate(writer: FindingsWriter, known: Mapping[str, pl.DataFrame] | None = None) -> None:
    """Profile, phases, segments, claims and coupling of what is on disk, unless they were made since the last part.

    Args:
        writer: of the survey.
        known: by table, rows that are still right, of models that were not measured since; only what they lack is
            read and computed.
    """
    writer.update()
    measured = [coverage.pair for coverage in writer.header.coverage if coverage.prompts_kept]
    if not (writer.missing and measured):
        return
    parts = {table: [rows] for table, rows in (known or {}).items()}
    there = set(known["profile"].select(KEYS).unique().iter_rows()) if known else set()
    for pair in measured:  # one at a time: what is held grows with the prompts of one model on one data set
        if pair not in there:
            for table, rows in _averages(writer.reading().only(pair), writer.run_header.thresholds).items():
                parts.setdefault(table, []).append(rows)
    pairs = pl.DataFrame(measured, schema=KEYS, orient="row")
    tables = {table: _rows_of(pairs, rows) for table, rows in parts.items()}
    if pairs["model"].n_unique() > 1:
        tables["coupling"] = averages.coupling(tables["profile"])  # with a row for all models
    # the deviations over models, of which a single model has none
    columns = pl.DataFrame(schema=writer.tables.wholes["coupling"].schema)
    tables["coupling"] = pl.concat([tables["coupling"], columns], how="diagonal_relaxed")
    for table, rows in tables.items():
        writer.write_table(table, rows)


def _rows_of(pairs: pl.DataFrame, parts: list[pl.DataFrame]) -> pl.DataFrame:
    """The rows of these pairs, in the order of the pairs."""
    rows = pl.concat(parts, how="diagonal_relaxed")  # what was read has the narrower types of the disk
    return pairs.join(rows, on=KEYS, maintain_order="left_right")


def _averages(findings: Findings, thresholds: Thresholds) -> dict[str, pl.DataFrame]:
    layers, heads, prompts = (findings.table(name) for name in ("layers", "heads", "prompts"))
    ratio, tau, sink = thresholds.massive_ratio, thresholds.tau, thresholds.sink_position
    profile = averages.profile(layers, heads, prompts, tau=tau, massive_ratio=ratio)
    claims = averages.claims(layers, heads, prompts, tau=tau, massive_ratio=ratio)
    rows, massive = findings.table("row_norms"), findings.table("massive").filter(kind="row")
    return {
        "profile": profile,
        "phases": averages.phases(layers, profile, claims, massive_ratio=ratio, sink_position=sink),
        "segments": averages.segments(layers, rows, massive, massive_ratio=ratio),
        "claims": claims,
        "coupling": averages.coupling(profile),
    }


class ModelSurvey:
    """One model on every data set; its weights are loaded when the first missing shard is met, and only then."""

    def __init__(self, prepared: Prepared, number: int, writer: FindingsWriter) -> None:
        self.model, self.writer, self.options = prepared.models[number], writer, prepared.options
        self.passages = passages(prepared, writer, number=number)
        self.subject: Subject | None = None

    def run(self) -> None:
        """Measure what is missing."""
        for passage in self.passages:
            if passage.is_unfinished:
                write = partial(
                    measure_rows,
                    self.loaded(),
                    self.writer,
                    self.model.tokenizer,
                    self.options,
                    without_massive=passage.source.first_rows(WITHOUT_MASSIVE),
                )
                self.measure_noise(passage)
                passage.measure("", write)
            else:
                passage.require_some()

    def loaded(self) -> Subject:
        """The model, loaded and proved once."""
        if self.subject is None:
            self.subject = loaded(self.model)
            facts = self.facts
            blocks = tuple(block.index for block in self.subject.parts.blocks if block.projection is not None)
            learned = learned_facts(facts, self.subject, blocks)
            weights = facts.weights or weights_of(self.model)
            self.writer.update(model=learned.model_copy(update={"weights": weights}))
        return self.subject

    @property
    def facts(self) -> ModelFacts:
        """What the run knows of the model."""
        return self.writer.run_header.by_name[self.model.name, self.model.revision]

    def measure_noise(self, passage: Passage) -> None:
        """In half precision, how far its numbers repeat, unless the run knows it."""
        subject, facts = self.loaded(), self.facts
        if subject.model.dtype not in HALF or facts.noise is not None:
            return
        measure = partial(measure_batch, subject, options=_settings(self.options, without_massive=0))
        if prompts := next((shard.prompts for shard in passage.shards() if shard.prompts), ()):
            noise = noise_floor(prompts, measure, batching(subject, self.options))
            self.writer.update(model=facts.model_copy(update={"noise": noise}))

    def release(self) -> None:
        """Let go of the weights: a model's hooks and modules refer to one another, and the next one needs the room."""
        self.subject = None
        gc.collect()

"""The run directory of a training: a survey run that grows by one revision, ``step100``, at every measurement."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from torch import nn

from thalweg.capture import Subject, identity_of_configuration, require, subject_of
from thalweg.errors import DataError
from thalweg.experiments import aggregate, hardware, learned_facts, measure_rows, versions
from thalweg.monitor._options import MonitorOptions
from thalweg.monitor._scalars import scalars
from thalweg.monitor._untouched import untouched
from thalweg.prompts import Shard, Source, Tokenization, open_source, read_shards, tokenization
from thalweg.store import DataFacts, ModelFacts, RunHeader, RunWriter, Thresholds, create_or_resume, open_run

__all__ = ["Record", "step_name"]

_log = logging.getLogger("thalweg.monitor")


def step_name(step: int) -> str:
    """The revision that stands for a training step: ``step100``."""
    return f"step{step}"


class Record:
    """Measures a model in training and adds it to the run."""

    def __init__(
        self, out: Path, name: str, tokenizer: Any, prompts: str, text_field: str | None, options: MonitorOptions
    ) -> None:
        self.out, self.name, self.tokenizer, self.options = out, name, tokenizer, options
        self.source: Source = open_source(prompts, text_field=text_field)
        self.shards: list[Shard] = []
        self.how: Tokenization | None = None
        self.subject: Subject | None = None
        self.writer: RunWriter | None = None
        self.profile: pl.DataFrame | None = None

    def measure(self, model: nn.Module, step: int, *, writes: bool = True) -> dict[str, float]:
        """Measure the model as it is now; a measurement of the same step that is there gives way.

        Args:
            model: in training, wrapped or not.
            step: optimizer steps done.
            writes: False on every process but the first, which computes along and leaves the files alone.
        """
        with untouched(model) as plain:
            subject = self._subject(plain)
            if not writes:
                return {}
            facts = self._facts(subject, step)
            writer = self._open(facts)
            key = {"model": self.name, "revision": facts.revision, "data": self.source.name}
            if writer.done(*key.values()):
                _log.warning("step %d is measured again; the earlier measurement of this run gives way.", step)
                writer.forget(self.name, facts.revision)
                self.profile = self._without(facts.revision)
            writer.add_model(facts)
            measure_rows(subject, self.shards, writer, key, self.tokenizer, self.options.survey)
        aggregate(writer, self.profile)
        run = open_run(self.out)
        self.profile = run.profile.collect()
        own = pl.col("revision") == facts.revision
        return scalars(self.profile.filter(own), run.layers.filter(own).collect())

    def close(self, *, finished: bool) -> None:
        """Let go of the run."""
        if self.writer is not None:
            if finished:
                self.writer.update(status="finished")
            self.writer.close()
            self.writer = None

    def _subject(self, plain: Any) -> Subject:
        """The model's parts, found and proved once; what depends on weights is made anew each time."""
        if self.subject is None or self.subject.model is not plain:
            self.subject = subject_of(plain)
            require(self.subject, "states and attention")
            self.shards = self._read(plain)
        fresh: Any = type(self.subject.factors)()
        return dataclasses.replace(self.subject, factors=fresh)

    def _read(self, plain: Any) -> list[Shard]:
        options = self.options.survey
        context = getattr(plain.config.get_text_config(decoder=True), "max_position_embeddings", None)
        how = tokenization(self.tokenizer, bos=options.bos, max_length=options.max_length, context=context)
        shards = list(read_shards(self.source, how, limit=options.limit, size=options.shard_rows))
        if not any(shard.prompts for shard in shards):
            raise DataError(f"{self.source.name} gives no prompt in its first {options.limit} rows.")
        self.how = how
        return shards

    def _facts(self, subject: Subject, step: int) -> ModelFacts:
        config: Any = subject.model.config
        text = config.get_text_config(decoder=True)
        identity = identity_of_configuration(config, self.tokenizer)
        facts = ModelFacts(
            name=self.name,
            revision=step_name(step),
            weights=f"step {step} of a training",
            configuration=identity,
            dtype=str(subject.model.dtype).removeprefix("torch."),
            blocks=text.num_hidden_layers,
            heads=text.num_attention_heads,
            width=text.hidden_size,
            bos=self.options.bos,
            bos_token=None if self.how is None else self.how.bos.token,
        )
        return learned_facts(
            facts, subject, tuple(block.index for block in subject.parts.blocks if block.projection is not None)
        )

    def _open(self, facts: ModelFacts) -> RunWriter:
        if self.writer is None:
            options = self.options.survey
            resolved: Mapping[str, Any] = vars(options)
            header = RunHeader(
                resolved=dict(resolved),
                models=(facts,),
                data=(DataFacts(name=self.source.name, hash=self.source.hash, template=self.source.template),),
                max_length=options.max_length,
                thresholds=Thresholds(
                    tau=options.tau, massive_ratio=options.massive_ratio, sink_position=options.sink_position
                ),
                versions=versions(),
                hardware=hardware(),
            )
            self.writer = create_or_resume(self.out, header, extend=True)
            aggregate(self.writer)  # what a killed process left without its averages
            run = open_run(self.out)
            self.profile = None if run.missing else run.profile.collect()
        return self.writer

    def _without(self, revision: str) -> pl.DataFrame | None:
        return None if self.profile is None else self.profile.filter(pl.col("revision") != revision)

"""The run directory of a training: a survey run that grows by one revision, ``step100``, at every measurement."""

import dataclasses
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from weakref import WeakValueDictionary

import polars as pl
from torch import nn

from thalweg.capture import Subject, identity_of_configuration, positions_of, require, subject_of
from thalweg.errors import DataError, RunError
from thalweg.experiments import (
    aggregate,
    hardware,
    learned_facts,
    measure_rows,
    open_survey,
    versions,
    write_emergence,
)
from thalweg.monitor._options import MonitorOptions
from thalweg.monitor._untouched import is_sharded, untouched
from thalweg.prompts import Shard, Tokenization, open_source, read_shards, tokenization
from thalweg.store import (
    AGGREGATES,
    DataFacts,
    Findings,
    FindingsWriter,
    ModelFacts,
    RunHeader,
    Session,
    Thresholds,
    open_run,
)

SHOWN = 24
"""Curves of one metric at most; the run directory has every state and block."""
METRICS = (
    ("state", "entropy_normalized", min, "min"),
    ("state", "norm_ratio", max, "max"),
    ("block", "sink_rate", max, "max"),
)


def scalars(profile: pl.DataFrame, layers: pl.DataFrame) -> dict[str, float]:
    """What trackers are told of one step, from its rows of the profile and by prompt and state.

    ``entropy_normalized/state_03``, ``norm_ratio/max``, ``sink_rate/block_02``, ``peak_value/max`` (largest magnitude,
    with its sign), ``entropy_bound/slack`` (nats, least over states and prompts), ...; the extremes are over blocks,
    and over states that a block wrote. Of a deep model, evenly spaced states and blocks. What is undefined is left out.
    """
    means = {
        (site, metric, index): mean
        for site, metric, index, mean in profile.select("site", "metric", "index", "mean").iter_rows()
        if mean is not None and math.isfinite(mean)
    }
    numbers = dict[str, float]()
    for site, metric, choose, word in METRICS:
        shown = _spaced(sorted({index for place, _, index in means if place == site}))
        by_index = {index: mean for (place, name, index), mean in means.items() if (place, name) == (site, metric)}
        numbers |= {f"{metric}/{site}_{index:02d}": by_index[index] for index in shown if index in by_index}
        if written := [mean for index, mean in by_index.items() if index > 0 or site == "block"]:
            numbers[f"{metric}/{word}"] = choose(written)
    peaks = layers["peak_value"].drop_nans().drop_nulls()
    if len(peaks):
        numbers["peak_value/max"] = float(max(peaks, key=abs))
    slack = (layers["entropy_bound_massive"] - layers["entropy"]).drop_nans().drop_nulls()
    if len(slack):
        numbers["entropy_bound/slack"] = float(min(slack))
    return numbers


def _spaced(indices: Sequence[int]) -> list[int]:
    """All of them, or ``SHOWN`` from the first to the last."""
    if len(indices) <= SHOWN:
        return list(indices)
    return [indices[round(at * (len(indices) - 1) / (SHOWN - 1))] for at in range(SHOWN)]


HEADER = "run.json"
Ending = Literal["finished", "interrupted", "failed"]

_log = logging.getLogger("thalweg.monitor")
_writing: WeakValueDictionary[Path, "Record"] = WeakValueDictionary()
"""Who writes where in this process: a training begun anew in the same session takes the directory over."""


class Record:
    """Measures a model in training, as revision ``step100``, and adds it to the run."""

    def __init__(
        self,
        out: Path,
        name: str,
        tokenizer: Any,
        prompts: str | Sequence[str],
        text_field: str | None,
        options: MonitorOptions,
    ) -> None:
        self.out, self.name, self.tokenizer = out, name, tokenizer
        given = prompts if isinstance(prompts, str) else None
        self.source = dataclasses.replace(open_source(prompts, text_field=text_field), given=given)
        self.rows = options.prompts if isinstance(prompts, str) else len(prompts)
        self.options = dataclasses.replace(options.survey, limit=self.rows)
        self.interval = options.every
        self.shards: list[Shard] = []
        self.how: Tokenization | None = None
        self.subject: Subject | None = None
        self.writer: FindingsWriter | None = None
        self.known: dict[str, pl.DataFrame] = {}
        self._refuse_other_directory()

    def begin(self, model: nn.Module, step: int, *, measures: bool, writes: bool = True) -> None:
        """Refuse a model that cannot be measured and a directory that cannot be used, before the training.

        ``measures``: whether a measurement of this step follows; ``writes``: as for :meth:`measure`.
        """
        if not (writes or is_sharded(model)):
            return
        with untouched(model) as plain:
            facts = self._facts(self._subject(plain), step)
        if writes and (measures or (self.out / HEADER).exists()):
            self.writer = self.writer or self._opened(facts, enters=measures)

    def measure(self, model: nn.Module, step: int, *, writes: bool = True) -> dict[str, float]:
        """Measure the model as it is now; a measurement of the same step that is there gives way.

        ``writes`` is False on every process but the first: it computes along where the weights are shared, and leaves
        the files alone.
        """
        shared = is_sharded(model)
        if not (writes or shared):
            return {}
        with untouched(model) as plain:
            subject = self._subject(plain)
            facts = self._facts(subject, step)
            key = {"model": self.name, "revision": facts.revision, "data": self.source.name}
            writer, failed = None, None
            try:
                writer = self._ready(facts, key) if writes else None
            except Exception as error:
                failed = error  # heard after the passes, in which other processes may wait for this one
            if failed is None or shared:
                measure_rows(subject, writer, self.tokenizer, self.options, self.shards, key)
        if failed is not None:
            raise failed
        return {} if writer is None else self._scalars(writer, facts)

    def ratios_before(self, step: int) -> list[float]:
        """The largest norm ratio of every earlier step in the run, in order: also of those before a resumption."""
        rows = self.known["profile"].filter(pl.col("index") > 0, metric="norm_ratio", model=self.name)
        steps = rows.with_columns(step=pl.col("revision").str.extract(r"^step(\d+)$").cast(pl.Int64))
        largest = steps.filter(pl.col("mean").is_finite(), pl.col("step") < step).group_by("step").agg(pl.max("mean"))
        return largest.sort("step")["mean"].to_list()

    def close(self, status: Ending | None = None) -> None:
        """Let go of the run, with a last word about it."""
        writer, self.writer = self.writer, None
        if writer is not None:
            try:
                if status is not None:
                    writer.update(status=status)
            finally:
                writer.close()

    def _scalars(self, writer: FindingsWriter, facts: ModelFacts) -> dict[str, float]:
        aggregate(writer, self.known)
        pair = (self.name, facts.revision, self.source.name)
        covered = next(coverage for coverage in writer.header.coverage if coverage.pair == pair)
        if not covered.prompts_kept:
            reasons = ", ".join(f"{count} {reason}" for reason, count in covered.skipped.items())
            raise DataError(f"no prompt could be measured ({reasons}). Give shorter prompts, or a smaller max_length.")
        write_emergence(writer)
        self.known = _averages(writer.reading())
        profile = self.known["profile"].filter(model=self.name, revision=facts.revision)
        layers = writer.reading().only(pair).table("layers")
        return {**scalars(profile, layers.collect()), "nonfinite_states": float(covered.nonfinite_states)}

    def _subject(self, plain: Any) -> Subject:
        """The model's parts, found and proved once; what depends on weights is made anew each time."""
        if self.subject is None or self.subject.model is not plain:
            subject = subject_of(plain)
            require(subject, "states and attention")
            self.shards = self._read(plain)
            self.subject = subject
        fresh: Any = type(self.subject.factors)()
        return dataclasses.replace(self.subject, factors=fresh)

    def _read(self, plain: Any) -> list[Shard]:
        options = self.options
        context = positions_of(plain).context
        self.how = tokenization(self.tokenizer, bos=options.bos, max_length=options.max_length, context=context)
        # All in one: a step is in the run, or is not, wherever the process is killed.
        shards = list(read_shards(self.source, self.how, limit=self.rows, size=self.rows))
        if not any(shard.prompts for shard in shards):
            raise DataError(f"{self.source.name} gives no prompt in its first {self.rows} rows.")
        return shards

    def _facts(self, subject: Subject, step: int) -> ModelFacts:
        config: Any = subject.model.config
        text = config.get_text_config(decoder=True)
        facts = ModelFacts(
            name=self.name,
            revision=f"step{step}",
            weights=f"step {step} of a training",
            configuration=identity_of_configuration(config, self.tokenizer),
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

    def _ready(self, facts: ModelFacts, key: dict[str, str]) -> FindingsWriter:
        """The writer, with the model entered and nothing measured of it."""
        writer = self.writer = self.writer or self._opened(facts)
        if writer.done(*key.values()):
            _log.warning(
                "step %s of %s is measured again; the earlier measurement gives way.", facts.revision, self.out
            )
            writer.forget(self.name, facts.revision)
            self.known = {
                table: rows.filter((pl.col("model") != self.name) | (pl.col("revision") != facts.revision))
                for table, rows in self.known.items()
            }
        writer.add_model(facts)
        return writer

    def _opened(self, facts: ModelFacts, *, enters: bool = True) -> FindingsWriter:
        """Create the run, or go on with it, and complete what a killed process left without its averages."""
        self._refuse_other_shape(facts)
        place = self.out.resolve()
        if (other := _writing.get(place)) is not None and other is not self:
            other.close()
        models = (facts,) if enters else open_run(self.out).header.models
        header = RunHeader(models=models, **self._asked())
        resolved = {**vars(self.options), "every": self.interval}
        session = Session(resolved=resolved, versions=versions(), hardware=hardware())
        writer = open_survey(self.out, header, session, grown=True)
        _writing[place] = self
        try:
            aggregate(writer)
            write_emergence(writer)
            self.known = {} if writer.missing else _averages(writer.reading())
        except BaseException:
            writer.close()
            raise
        return writer

    def _asked(self) -> dict[str, Any]:
        """What has to be the same for every measurement of a run."""
        source, options = self.source, self.options
        return {
            "data": (DataFacts(name=source.name, hash=source.hash, template=source.template, given=source.given),),
            "thresholds": Thresholds(**{name: getattr(options, name) for name in Thresholds.model_fields}),
            **{name: getattr(options, name) for name in ("max_length", "seed", "variants", "keep_text")},
        }

    def _refuse_other_directory(self) -> None:
        """Before the training, rather than at its first measurement."""
        if not (self.out / HEADER).exists():
            left = (".lock", HEADER)  # with its temporary file, by a process killed before the header was there
            if self.out.is_dir() and not all(entry.name.startswith(left) for entry in self.out.iterdir()):
                raise RunError(f"{self.out} holds other files and no run. Choose another out.")
            if self.out.is_file():
                raise RunError(f"{self.out} is a file; expected a directory for the run. Choose another out.")
            return
        stored = open_run(self.out).header
        asked = stored.model_copy(update=self._asked())
        if lines := stored.identity.differences(asked.identity):
            raise RunError(f"{self.out} belongs to another run; {'; '.join(lines)}. Choose another out.")

    def _refuse_other_shape(self, facts: ModelFacts) -> None:
        if not (self.out / HEADER).exists():
            return
        shape = ("blocks", "heads", "width")
        for model in open_run(self.out).header.models:
            if model.name == facts.name and any(getattr(model, name) != getattr(facts, name) for name in shape):
                said = ", ".join(f"{getattr(model, name)} {name}" for name in shape)
                raise RunError(
                    f"{self.out} holds the training of another {facts.name}, with {said}. Choose another out, or name."
                )


def _averages(survey: Findings) -> dict[str, pl.DataFrame]:
    return {table: survey.table(table).collect() for table in AGGREGATES}

"""The survey: every state and every attention head of every prompt, for models and data sets, into one run."""

import gc
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from thalweg import metrics
from thalweg.capture import IdentifiedModel, Subject, identify_model, load_model, positions_of, require, subject_of
from thalweg.engines import BatchOptions, progress_bar, run_shards
from thalweg.errors import ThalwegError, UsageError
from thalweg.experiments._facts import data_facts, hardware, learned_facts, model_facts, versions
from thalweg.experiments._measure import BatchRows, MeasureOptions, frames, measure_batch
from thalweg.experiments._options import SurveyOptions
from thalweg.prompts import Shard as Rows
from thalweg.prompts import Source, Tokenization, Window, open_source, read_shards, require_prompts, tokenization
from thalweg.reference import BUNDLED_MODEL, bundled_directory
from thalweg.store import PartCounts, Run, RunHeader, RunWriter, Shard, Thresholds, create_or_resume, open_run

__all__ = ["survey"]

BUNDLED_DATA = "bundled"
CPU_TOKENS, ACCELERATOR_TOKENS = 4096, 16384


def survey(
    models: str | Path | Sequence[str | Path] = BUNDLED_MODEL,
    data: str | Path | Sequence[str | Path] = BUNDLED_DATA,
    *,
    out: str | Path | None = None,
    options: SurveyOptions | None = None,
) -> Run:
    """Measure models on data sets, and write a run directory that can be read without them.

    A run that exists is continued: finished shards are not measured again, and a higher ``limit`` extends it.

    Args:
        models: hub ids or directories; "planted" is the model that comes with thalweg, built to have one massive row.
        data: short names, files or hub data sets; "bundled" are the prompts that come with thalweg.
        out: the run directory; ``runs/<model>`` by default.
        options: everything else.

    Returns:
        The run, opened for reading: ``run.profile.collect()``.

    Raises:
        UsageError: a model, a data set, an option or the directory cannot be used; the message says what to do.
        KeyboardInterrupt: finished shards stay, and the run's status says interrupted.

    Example:
        >>> run = survey(out="runs/demo")  # doctest: +SKIP
        >>> run.phases.select("compress_first", "compress_last").collect().row(0)  # doctest: +SKIP
        (2, 6)
    """
    options = SurveyOptions() if options is None else options
    if not isinstance(options, SurveyOptions):
        raise UsageError(f"options must be thalweg.SurveyOptions(limit=..., ...); got {type(options).__name__}.")
    names = [str(Path(name)) if Path(name).is_dir() else name for name in _names("models", models)]
    wanted = _names("data", data)
    sources = [open_source(one, text_field=options.text_field, whole_file=options.whole_file) for one in wanted]
    _refuse_repeats(names, [source.name for source in sources])
    identified = [identify_model(name, options.loading, directory=bundled_directory(name)) for name in names]
    tokenizations = [
        tokenization(model.tokenizer, bos=options.bos, max_length=options.max_length, context=model.context)
        for model in identified
    ]
    path = Path(out) if out is not None else Path("runs") / Path(names[0]).resolve().name
    header = RunHeader(
        command=_command(),
        resolved=_resolved(options),
        models=tuple(model_facts(model, how) for model, how in zip(identified, tokenizations, strict=True)),
        data=tuple(data_facts(source) for source in sources),
        max_length=options.max_length,
        thresholds=Thresholds(
            tau=options.tau, massive_ratio=options.massive_ratio, sink_position=options.sink_position
        ),
        seed=options.seed,
        variants=options.variants,
        keep_text=options.keep_text,
        versions=versions(),
        hardware=hardware(),
    )
    with create_or_resume(path, header) as writer:
        try:
            for model, how in zip(identified, tokenizations, strict=True):
                _ModelSurvey(model, how, writer, options).run(sources)
                gc.collect()  # a model's hooks and modules refer to one another; the next one needs the room
        except ThalwegError:
            aggregate(writer)  # what came before the one that cannot be measured can be looked at
            raise
        aggregate(writer)
        writer.update(status="finished")
    return open_run(path)


def aggregate(writer: RunWriter) -> None:
    """Profile, phases and coupling of what is on disk, unless they were made since the last part."""
    writer.update()
    run, thresholds = open_run(writer.path), writer.header.thresholds
    measured = [pair for pair in writer.header.coverage if pair.prompts_kept]
    if not (run.missing and measured):
        return
    ratio = thresholds.massive_ratio
    profiles = list[pl.DataFrame]()
    for pair in measured:  # one at a time: what is held grows with the prompts of one model on one data set
        own = (pl.col("model") == pair.model) & (pl.col("revision") == pair.revision) & (pl.col("data") == pair.data)
        tables = (frame.filter(own) for frame in (run.layers, run.heads, run.prompts))
        profiles.append(metrics.profile(*tables, tau=thresholds.tau, massive_ratio=ratio))
    profile = pl.concat(profiles)
    writer.write_table("profile", profile)
    writer.write_table("phases", metrics.phases(run.layers, profile, massive_ratio=ratio))
    writer.write_table("coupling", metrics.coupling(profile))


class _ModelSurvey:
    """One model on every data set; its weights are loaded when the first missing shard is met, and only then."""

    def __init__(self, model: IdentifiedModel, how: Tokenization, writer: RunWriter, options: SurveyOptions) -> None:
        self.model, self.how, self.writer, self.options = model, how, writer, options
        self.subject: Subject | None = None

    def run(self, sources: Sequence[Source]) -> None:
        for source in sources:
            self.measure(source)

    def measure(self, source: Source) -> None:
        done = [Window(*rows) for rows in self.writer.done(self.model.name, self.model.revision, source.name)]
        shards = read_shards(source, self.how, limit=self.options.limit, size=self.options.shard_rows, done=done)
        first = next(shards, None)
        if first is not None:
            subject = self.loaded()
            settings = MeasureOptions(
                self.options.sink_position, self.options.massive_ratio, variants=self.options.variants
            )
            title = f"{Path(self.model.name).name} on {source.name}"
            with progress_bar(title, self.missing_rows(source, done), shown=self.options.progress) as progress:
                run_shards(
                    (shard for part in ((first,), shards) for shard in part),
                    measure=lambda batch: measure_batch(subject, batch, settings),
                    finish=lambda shard, results: self.write(source, shard, results),
                    options=self.batching(subject),
                    progress=progress,
                )
        self.require_some(source)

    def loaded(self) -> Subject:
        """The model, loaded and proved once."""
        if self.subject is None:
            self.subject = subject_of(load_model(self.model))
            require(self.subject, "states and attention")
            facts = next(one for one in self.writer.header.models if one.name == self.model.name)
            blocks = tuple(block.index for block in self.subject.parts.blocks if block.projection is not None)
            self.writer.update(model=learned_facts(facts, self.subject, blocks))
        return self.subject

    def batching(self, subject: Subject) -> BatchOptions:
        chosen = CPU_TOKENS if subject.device.type == "cpu" else ACCELERATOR_TOKENS
        tokens = self.options.batch_tokens or chosen
        return BatchOptions(tokens, self.options.batch_size, positions_of(subject.model).switch)

    def missing_rows(self, source: Source, done: Sequence[Window]) -> int | None:
        """Rows to come, for the bar alone: counting may read the data once."""
        if not self.options.progress or not sys.stderr.isatty():
            return None
        known = [rows for rows in (self.options.limit, source.count()) if rows is not None]
        return min(known) - sum(window.stop - window.first for window in done) if known else None

    def write(self, source: Source, shard: Rows, results: list[BatchRows]) -> None:
        key = {"model": self.model.name, "revision": self.model.revision, "data": source.name}
        tables = frames(results, shard.prompts, key, self.model.tokenizer, self.writer.header)
        reasons = [row.reason for row in shard.skipped]
        tau = self.options.tau
        counts = PartCounts(
            skipped={reason: reasons.count(reason) for reason in sorted(set(reasons))},
            nonfinite_states=sum(result.nonfinite_states for result in results),
            short_prompts=sum(metrics.sink_uniform(len(prompt)) >= tau for prompt in shard.prompts),
        )
        place = Shard(self.model.name, self.model.revision, source.name, shard.first, shard.stop)
        self.writer.write_part(place, tables, counts=counts)

    def require_some(self, source: Source) -> None:
        """Zero usable prompts is an error of the data, told with the reasons."""
        self.writer.update()
        covered = next(
            pair
            for pair in self.writer.header.coverage
            if (pair.model, pair.revision, pair.data) == (self.model.name, self.model.revision, source.name)
        )
        require_prompts(source, covered.prompts_kept, covered.skipped)


def _resolved(options: SurveyOptions) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(options).items()}


def _names(what: str, given: str | Path | Sequence[str | Path]) -> list[str]:
    names = [str(given)] if isinstance(given, str | Path) else [str(one) for one in given]
    if not names:
        raise UsageError(f"{what} must name at least one; got none.")
    return names


def _command() -> tuple[str, ...]:
    """The command line, where this is one."""
    program = Path(sys.argv[0])
    ours = program.name == "thalweg" or program.parts[-2:] == ("thalweg", "__main__.py")
    return ("thalweg", *sys.argv[1:]) if ours else ()


def _refuse_repeats(models: Sequence[str], data: Sequence[str]) -> None:
    for option, names in (("MODEL", models), ("--data", data)):
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise UsageError(f"{option} {repeated[0]} is given twice; name each once. Two files need two names.")

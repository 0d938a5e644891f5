"""The survey: every state and every attention head of every prompt, for models and data sets, into one run."""

import gc
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from thalweg.capture import IdentifiedModel, Subject
from thalweg.engines import progress_bar
from thalweg.experiments._facts import learned_facts
from thalweg.experiments._options import SurveyOptions
from thalweg.experiments._over_prompts import loaded, missing_rows
from thalweg.experiments._survey.rows import measure_rows
from thalweg.prompts import Shard as Rows
from thalweg.prompts import Source, Tokenization, Window, read_shards, require_prompts
from thalweg.store import RunWriter

UNNAMED = ("main", "local")
"""Revisions that nobody asked for by name."""


class ModelSurvey:
    """One model on every data set; its weights are loaded when the first missing shard is met, and only then."""

    def __init__(self, model: IdentifiedModel, how: Tokenization, writer: RunWriter, options: SurveyOptions) -> None:
        self.model, self.how, self.writer, self.options = model, how, writer, options
        self.subject: Subject | None = None

    def run(self, sources: Sequence[Source]) -> None:
        for source in sources:
            self.measure(source)

    def is_unfinished(self, sources: Sequence[Source]) -> bool:
        """Whether a shard is missing, so that weights will be needed."""
        return any(next(self.shards(source, self.done(source)), None) is not None for source in sources)

    def done(self, source: Source) -> list[Window]:
        """The rows that are finished."""
        return [Window(*rows) for rows in self.writer.done(self.model.name, self.model.revision, source.name)]

    def shards(self, source: Source, done: Sequence[Window]) -> Iterator[Rows]:
        """The rows that are missing."""
        return read_shards(source, self.how, limit=self.options.limit, size=self.options.shard_rows, done=done)

    def measure(self, source: Source) -> None:
        done = self.done(source)
        shards = self.shards(source, done)
        first = next(shards, None)
        if first is not None:
            subject = self.loaded()
            revision = "" if self.model.revision in UNNAMED else f" at {self.model.revision}"
            title = f"{Path(self.model.name).name}{revision} on {source.name}"
            key = {"model": self.model.name, "revision": self.model.revision, "data": source.name}
            missing = chain((first,), shards)
            with progress_bar(title, missing_rows(self.options, source, done), shown=self.options.progress) as progress:
                measure_rows(subject, missing, self.writer, key, self.model.tokenizer, self.options, progress=progress)
        self.require_some(source)

    def loaded(self) -> Subject:
        """The model, loaded and proved once."""
        if self.subject is None:
            self.subject = loaded(self.model)
            own = (self.model.name, self.model.revision)
            facts = next(one for one in self.writer.header.models if (one.name, one.revision) == own)
            blocks = tuple(block.index for block in self.subject.parts.blocks if block.projection is not None)
            self.writer.update(model=learned_facts(facts, self.subject, blocks))
        return self.subject

    def release(self) -> None:
        """Let go of the weights: a model's hooks and modules refer to one another, and the next one needs the room."""
        self.subject = None
        gc.collect()

    def require_some(self, source: Source) -> None:
        """Zero usable prompts is an error of the data, told with the reasons."""
        self.writer.update()
        covered = next(
            pair
            for pair in self.writer.header.coverage
            if (pair.model, pair.revision, pair.data) == (self.model.name, self.model.revision, source.name)
        )
        require_prompts(source, covered.prompts_kept, covered.skipped)

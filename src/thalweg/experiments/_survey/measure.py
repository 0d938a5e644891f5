"""The survey: every state and every attention head of every prompt, for models and data sets, into one run."""

import gc
from collections.abc import Sequence
from functools import partial

from thalweg.capture import IdentifiedModel, Subject
from thalweg.experiments._facts import learned_facts
from thalweg.experiments._options import SurveyOptions
from thalweg.experiments._over_prompts import Passage, loaded
from thalweg.experiments._survey.rows import measure_rows
from thalweg.prompts import Source, Tokenization
from thalweg.store import FindingsWriter


class ModelSurvey:
    """One model on every data set; its weights are loaded when the first missing shard is met, and only then."""

    def __init__(
        self, model: IdentifiedModel, how: Tokenization, writer: FindingsWriter, options: SurveyOptions
    ) -> None:
        self.model, self.how, self.writer, self.options = model, how, writer, options
        self.subject: Subject | None = None

    def run(self, sources: Sequence[Source]) -> None:
        """Measure what is missing."""
        for passage in self.passages(sources):
            if passage.is_unfinished:
                passage.measure(
                    "", partial(measure_rows, self.loaded(), self.writer, self.model.tokenizer, self.options)
                )
            else:
                passage.require_some()

    def passages(self, sources: Sequence[Source]) -> list[Passage]:
        """The model on every data set."""
        return [Passage(self.model, self.how, source, self.writer, self.options) for source in sources]

    def is_unfinished(self, sources: Sequence[Source]) -> bool:
        """Whether a shard is missing, so that weights will be needed."""
        return any(passage.is_unfinished for passage in self.passages(sources))

    def loaded(self) -> Subject:
        """The model, loaded and proved once."""
        if self.subject is None:
            self.subject = loaded(self.model)
            name = (self.model.name, self.model.revision)
            facts = next(each for each in self.writer.run_header.models if (each.name, each.revision) == name)
            blocks = tuple(block.index for block in self.subject.parts.blocks if block.projection is not None)
            self.writer.update(model=learned_facts(facts, self.subject, blocks))
        return self.subject

    def release(self) -> None:
        """Let go of the weights: a model's hooks and modules refer to one another, and the next one needs the room."""
        self.subject = None
        gc.collect()

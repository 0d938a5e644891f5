"""Features of texts at every state: each text is measured once, in one forward pass, and never again in this run."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from thalweg import metrics
from thalweg.capture import IdentifiedModel, Subject, brought
from thalweg.engines import progress_bar, require_all, run_shards
from thalweg.errors import DataError, UsageError
from thalweg.experiments._options import SurveyOptions
from thalweg.experiments._over_prompts import batching, loaded, skip_counts
from thalweg.experiments._pass import Reduced, read
from thalweg.prompts import Prompt, open_source, read_shards, tokenization
from thalweg.prompts import Shard as Rows
from thalweg.store import Features, FeatureStore, text_hash

PART_BYTES, PART_ROWS = 2**26, 1024
POOLINGS = {"mean": metrics.mean_over_tokens, "last": metrics.last_token}


class TextFeatures:
    """Gives the features of texts under one model; measures those that the run does not hold.

    Whoever calls it holds the run: an experiment that is open for writing.

    Attributes:
        store: what the run holds.
        measured: texts measured by this object, each in one forward pass.
        skipped: texts that gave no features, counted by reason.
    """

    def __init__(
        self,
        model: IdentifiedModel,
        run: str | Path,
        *,
        pooling: str = "mean",
        options: SurveyOptions | None = None,
        subject: Callable[[], Subject] | None = None,
    ) -> None:
        """Find what the run holds; nothing is loaded yet. The arguments are those of `features`.

        Raises:
            UsageError: the pooling is unknown.
        """
        if pooling not in POOLINGS:
            raise UsageError(f"--pooling must be {' or '.join(POOLINGS)}; got {pooling}.")
        self._model, self._load = model, subject
        self._options = SurveyOptions() if options is None else options
        self._how = tokenization(
            model.tokenizer, bos=self._options.bos, max_length=self._options.max_length, context=model.context
        )
        self._pooling = pooling
        self.store = FeatureStore(
            run,
            {
                **{name: getattr(model, name) for name in ("name", "revision", "weights", "configuration", "dtype")},
                "pooling": pooling,
                "max_length": self._how.max_tokens,
                "bos": self._how.bos.policy,
                "bos_token": self._how.bos.token,
            },
        )
        self.measured, self.skipped = 0, Counter[str]()

    def __call__(self, texts: Sequence[str], *, title: str = "features") -> Features:
        """Give the features of texts, in their order: rows x states x width.

        Args:
            texts: any; the same text may come twice, and one without tokens is a row of NaN.
            title: of the bar.

        Raises:
            DataError: none of the texts has any token.
            RunError: the disk is full or cannot be written; what is whole stays.
        """
        digests = [text_hash(text) for text in texts]
        missing = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in self.store}
        if missing:
            self._measure(sorted(missing.values(), key=len, reverse=True), title)  # the longest tells what fits
        if not any(digest in self.store for digest in digests):
            said = ", ".join(f"{reason}: {count}" for reason, count in self.skipped.items()) or "there was none"
            raise DataError(f"expected at least one text with tokens; got none ({said}). Check the field of the text.")
        return self.store.read(digests)

    @cached_property
    def subject(self) -> Subject:
        """The model, loaded and proved the first time that it is needed."""
        return loaded(self._model) if self._load is None else self._load()

    def _measure(self, texts: Sequence[str], title: str) -> None:
        shards = read_shards(open_source(texts), self._how, size=self._rows_of_a_part())
        with progress_bar(title, len(texts), shown=self._options.progress) as progress:
            for shard in shards:  # one at a time, so that a model is loaded only for texts that have tokens
                if not shard.prompts:
                    self.skipped.update(skip_counts(shard))
                    continue
                batches = batching(self.subject, self._options)
                run_shards([shard], measure=self._pooled, finish=self._write, options=batches, progress=progress)

    def _rows_of_a_part(self) -> int:
        config = self._model.config.get_text_config(decoder=True)
        row = 4 * (config.num_hidden_layers + 1) * config.hidden_size
        return max(1, min(PART_ROWS, PART_BYTES // row))

    def _pooled(self, batch: Sequence[Prompt]) -> tuple[list[str], np.ndarray]:
        """The digests of these texts, and their features."""
        pool = POOLINGS[self._pooling]
        states = Reduced(lambda _, seen: pool(seen.padded, seen.lengths))
        read(self.subject, batch, states)
        self.measured += len(batch)
        return [prompt.sha256 for prompt in batch], brought(states.rows, 1).numpy()

    def _write(self, shard: Rows, results: list[tuple[list[str], np.ndarray]]) -> None:
        self.skipped.update(skip_counts(shard))
        if results:
            digests = [digest for batch, _ in results for digest in batch]
            self.store.write(digests, np.concatenate([values for _, values in results]))
        require_all(shard)


def features(
    model: IdentifiedModel,
    texts: Sequence[str],
    run: str | Path,
    *,
    pooling: str = "mean",
    options: SurveyOptions | None = None,
    subject: Callable[[], Subject] | None = None,
) -> Features:
    """Give the pooled states of texts under a model, measuring only what the run does not hold.

    Args:
        model: identified; loaded once a text is missing.
        texts: any.
        run: the run's directory, open for writing by the caller.
        pooling: "mean" over a text's tokens, or its "last" token.
        options: as for a survey; ``max_length``, ``bos`` and how the model is loaded change the features.
        subject: gives the model, loaded and proved, where another one has it already.

    Returns:
        Rows x states x width, read from disk as needed; a text without tokens is a row of NaN.

    Raises:
        UsageError: the pooling, the texts or the directory cannot be used; the message says what to do.

    Example:
        >>> features(identify_model("openai-community/gpt2"), ["A text."], "runs/gpt2").shape  # doctest: +SKIP
        (1, 13, 768)
    """
    return TextFeatures(model, run, pooling=pooling, options=options, subject=subject)(texts)

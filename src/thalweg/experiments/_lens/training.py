"""Train a tuned lens for a model that has none: steps over the data, resumed where they stopped, to the same bits."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from thalweg.capture import IdentifiedModel, Subject
from thalweg.engines import progress_bar
from thalweg.errors import ModelError, RunError, UsageError
from thalweg.experiments._lens.blocks import BlockReading, block_length
from thalweg.experiments._lens.measure import flat_states, state_batches
from thalweg.experiments._options import BUNDLED_DATA, BUNDLED_MODEL, SurveyOptions
from thalweg.experiments._over_prompts import loaded, skip_counts
from thalweg.experiments._prepare import Prepared, prepare
from thalweg.lenses import Recipe, Training, damaged_file, save_tuned, unembedding_hash
from thalweg.prompts import Prompt, Window, batches, read_shards, require_prompts
from thalweg.prompts import Shard as Rows
from thalweg.store import Findings, FindingsWriter, open_findings, os_errors_as_run_errors, tables_of, write_whole

NAME = "tuned_lens"
STEP_TOKENS = 2**14
UNFINISHED = "unfinished.safetensors"
SECONDS = 60.0
"""Between two snapshots: of a large model they are gigabytes."""
_log = logging.getLogger("thalweg.store")


def train_tuned(
    model: str | Path = BUNDLED_MODEL,
    data: str | Path | Sequence[str | Path] = BUNDLED_DATA,
    *,
    steps: int = 250,
    step_tokens: int = STEP_TOKENS,
    learning_rate: float = 1.0,
    blocks: bool | None = None,
    block_length: int | None = None,
    out: str | Path | None = None,
    options: SurveyOptions | None = None,
) -> Findings:
    """Train translators for every state before the last, so that what is read there comes near the model's own word.

    The recipe is that of Belrose et al. 2023 (:class:`thalweg.lenses.Recipe`). The data is read in its own order, from
    the beginning again when it ends. A training that was stopped goes on from its last snapshot, at most a minute
    old, to the same translators as if it had not been.

    Args:
        model: hub id or directory.
        data: one data set.
        steps: of the optimiser.
        step_tokens: tokens of a step; the published lenses took 262,144.
        learning_rate: at the first step; falls linearly to 0.
        blocks: as for :func:`lens`.
        block_length: as for :func:`lens`.
        out: the run directory; ``runs/<model>`` by default.
        options: as for a survey.

    Returns:
        The experiment, for reading: table ``training``, KL by step and state. The lens is in the directory
        :func:`trained_lens`.

    Raises:
        UsageError: a model, the data, an option or the directory cannot be used; the message says what to do.
        ProofError: the model's unembedding cannot be told.
        KeyboardInterrupt: the last snapshot stays.

    Example:
        >>> train_tuned("gpt2", "train.jsonl", steps=250, out="runs/gpt2")  # doctest: +SKIP
    """
    prepared = prepare(model, data, out=out, options=options)
    if len(prepared.models) != 1 or len(prepared.sources) != 1:
        raise UsageError("--train-tuned takes one model and one data set.")
    asked = _asked(prepared, steps, step_tokens, learning_rate, blocks, block_length)
    tables, session = tables_of(NAME), prepared.session
    with open_findings(prepared.path, prepared.header, NAME, asked.settings, tables, session=session) as writer:
        if not _is_whole(writer):
            _Trainer(prepared, asked, writer).run()
        writer.update(status="finished")
    return writer.reading()


def _is_whole(writer: FindingsWriter) -> bool:
    """Whether the training came to its end and everything holds what was written; what does not is named."""
    directory = trained_lens(writer.reading())
    if not (directory / "config.json").exists() or writer.missing:
        return False
    try:
        path = damaged_file(directory)
    except ModelError as error:
        _log.warning("%s The lens is trained again.", error)
        return False
    if path is not None:
        _log.warning("%s is damaged: it does not hold what was written; the lens is trained again.", path)
    return path is None


def trained_lens(experiment: Findings) -> Path:
    """Where the lens of a training is: what ``tuned`` and ``--tuned`` take."""
    return experiment.directory / "lens"


@dataclass(frozen=True)
class _Asked:
    recipe: Recipe
    step_tokens: int
    block: int | None
    limit: int | None

    @property
    def settings(self) -> dict[str, Any]:
        """What changes a number."""
        return {"optimizer": "SGD, Nesterov", **vars(self.recipe), "step_tokens": self.step_tokens} | {
            "block_length": self.block,
            "limit": self.limit,
        }


def _asked(
    prepared: Prepared, steps: int, step_tokens: int, learning_rate: float, blocks: bool | None, length: int | None
) -> _Asked:
    for option, value in (("--steps", steps), ("--step-tokens", step_tokens)):
        if value < 1:
            raise UsageError(f"{option} must be at least 1; got {value}.")
    if not 0 < learning_rate < float("inf"):
        raise UsageError(f"--learning-rate must be above 0 and finite; got {learning_rate:g}.")
    recipe = Recipe(steps=steps, learning_rate=learning_rate)
    return _Asked(recipe, step_tokens, block_length(prepared, blocks, length), prepared.options.limit)


class _Trainer:
    """One training from where it is to its end."""

    def __init__(self, prepared: Prepared, asked: _Asked, writer: FindingsWriter) -> None:
        self.prepared, self.asked, self.writer = prepared, asked, writer
        self.model: IdentifiedModel = prepared.models[0]
        self.source = prepared.sources[0]
        self.reading = None if asked.block is None else BlockReading(prepared, asked.block)
        self.directory = trained_lens(writer.reading())

    def run(self) -> None:
        first = next(self.prompts(0))  # no text at all is said before the model is loaded
        subject = loaded(self.model, "unembedding")
        training = Training(subject, self.asked.recipe)
        row = self.restored(training, first.row)
        prompts, saved = self.prompts(row), time.monotonic()
        title = f"tuned lens: {Path(self.model.name).name} on {self.source.name}"
        left = self.asked.recipe.steps - training.done
        with progress_bar(title, left, shown=self.prepared.options.progress) as progress:
            while training.done < self.asked.recipe.steps:
                own = self.step(prompts)
                self.learn(training, subject, own)
                progress.tokens(sum(map(len, own)))
                progress.rows(1)
                if time.monotonic() - saved >= SECONDS:
                    self.save(training, own[-1].row + 1)
                    saved = time.monotonic()
        self.finish(training, subject)

    def prompts(self, row: int) -> Iterator[Prompt]:
        """Prompts from a row on, and from the first again and again."""
        while True:
            skipped = dict[str, int]()
            kept = 0
            for shard in self.shards(row):
                yield from shard.prompts
                kept += len(shard.prompts)
                for reason, count in skip_counts(shard).items():
                    skipped[reason] = skipped.get(reason, 0) + count
            if row == 0:
                require_prompts(self.source, kept, skipped)
            row = 0

    def shards(self, row: int) -> Iterator[Rows]:
        done = [Window(0, row)] if row else []
        if self.reading is not None:
            return self.reading.shards(self.source, done)
        options = self.prepared.options
        return read_shards(
            self.source, self.prepared.tokenizations[0], limit=options.limit, size=options.shard_rows, done=done
        )

    def step(self, prompts: Iterator[Prompt]) -> list[Prompt]:
        """The prompts of one step."""
        own, tokens = list[Prompt](), 0
        while tokens < self.asked.step_tokens:
            own.append(next(prompts))
            tokens += len(own[-1])
        return own

    def learn(self, training: Training, subject: Subject, own: Sequence[Prompt]) -> None:
        how = state_batches(subject, self.prepared.options)
        total = sum(map(len, own))
        for batch in batches(own, token_budget=how.token_budget, batch_size=how.batch_size, same_side_of=how.switch):
            training.add(flat_states(subject, batch), total)
        training.step()

    def restored(self, training: Training, first: int) -> int:
        """Go on from the snapshot, if there is one; the row that comes next."""
        path = self.directory / UNFINISHED
        if not path.exists():
            return first
        try:
            snapshot = load_safetensors(path.read_bytes())
            training.restore(snapshot)
        except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
            raise RunError(f"{path} cannot be read ({error}). Remove it to train from the beginning.") from error
        return int(snapshot["row"])

    def save(self, training: Training, row: int) -> None:
        with os_errors_as_run_errors(self.directory):
            self.directory.mkdir(exist_ok=True)
        snapshot: dict[str, Tensor] = {name: values.cpu().contiguous() for name, values in training.snapshot().items()}
        write_whole(self.directory / UNFINISHED, to_safetensors({**snapshot, "row": torch.tensor(row)}))
        self.write_losses(training)

    def finish(self, training: Training, subject: Subject) -> None:
        """Write the lens; config.json is last and says that it is whole."""
        self.write_losses(training)
        head: Any = subject.parts.unembedding
        revision = self.model.commit if self.model.revision == "main" else self.model.revision
        config = {
            "base_model_name_or_path": self.model.name,
            "d_model": subject.model.config.get_text_config(decoder=True).hidden_size,
            "num_hidden_layers": len(subject.parts.blocks),
            "bias": True,
            "base_model_revision": None if self.model.revision == "local" else revision,
            "unembed_hash": unembedding_hash(head.weight),
            "lens_type": "linear_tuned_lens",
            "base_model_weights": self.model.weights,
        }
        with os_errors_as_run_errors(self.directory):
            save_tuned(self.directory, config, training.tensors)
            (self.directory / UNFINISHED).unlink(missing_ok=True)

    def write_losses(self, training: Training) -> None:
        key = {"model": self.model.name, "revision": self.model.revision, "data": self.source.name}
        rows = [
            {**key, "step": step, "state": state, "kl": loss}
            for step, own in enumerate(training.losses)
            for state, loss in enumerate(own)
        ]
        self.writer.write_table("training", pl.DataFrame(rows, infer_schema_length=None))

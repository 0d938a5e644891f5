"""Train a tuned lens for a model that has none: steps over the data, resumed where they stopped, to the same bits."""

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from thalweg.capture import Subject
from thalweg.engines import passing, progress_bar
from thalweg.errors import ModelError, NotMeasured, RunError
from thalweg.experiments._lens.measure import flat_states, state_batches
from thalweg.experiments._lens.tables import TRAINING_TABLES, trained_lens
from thalweg.experiments._over_prompts import BlockReading, loaded, skip_counts
from thalweg.experiments._prepare import Prepared
from thalweg.lenses import Recipe, Training, damaged_file, save_tuned, unembedding_hash
from thalweg.prompts import Prompt, Window, batches, read_shards, require_prompts
from thalweg.prompts import Shard as Rows
from thalweg.store import Findings, FindingsWriter, os_errors_as_run_errors, write_whole
from thalweg.validated import Says, validated

NAME = "tuned_lens"
UNFINISHED, CHECKSUM = "unfinished.safetensors", "sha256"
SECONDS = 60.0
"""Between two snapshots: of a large model they are gigabytes."""
_log = logging.getLogger("thalweg.store")


@validated
class Schedule:
    """How a tuned lens is trained: tokens of a step, and of a block, None where rows are read one by one."""

    recipe: Recipe
    tokens: Annotated[int, Field(ge=1), Says("--step-tokens must be at least 1; got {got}.")]
    block: int | None


def trained(prepared: Prepared, schedule: Schedule) -> Findings:
    """Train what is not trained yet, for one model on one data set."""
    (data,) = prepared.header.data
    settings = {
        **prepared.key,  # the run may hold other models
        "data": data.model_dump(exclude={"given"}),
        "max_length": prepared.options.max_length if schedule.block is None else None,
        "optimizer": "SGD, Nesterov",
        **vars(schedule.recipe),
        "step_tokens": schedule.tokens,
        "block_length": schedule.block,
        "limit": prepared.options.limit,
    }
    with prepared.opened(NAME, settings, TRAINING_TABLES) as writer:
        trainer = _Trainer(prepared, schedule, writer)
        if not _is_whole(writer):
            trainer.run()
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


def _checksum(tensors: Mapping[str, Tensor]) -> Tensor:
    """Of names, types, shapes and values, whatever their order."""
    known = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        known.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        known.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return torch.tensor(list(known.digest()), dtype=torch.uint8)


class _Trainer:
    """One training from where it is to its end."""

    def __init__(self, prepared: Prepared, schedule: Schedule, writer: FindingsWriter) -> None:
        self.prepared, self.schedule, self.writer = prepared, schedule, writer
        self.model, self.source = prepared.model, prepared.sources[0]
        self.reading = None if schedule.block is None else BlockReading(prepared, schedule.block)
        self.directory = trained_lens(writer.reading())

    def run(self) -> None:
        first = next(self.prompts(0))  # no text at all is said before the model is loaded
        subject = loaded(self.model, "unembedding")
        training = Training(subject, self.schedule.recipe)
        row = self.restored(training, first.row)
        prompts, saved = self.prompts(row), time.monotonic()
        title = f"tuned lens: {Path(self.model.name).name} on {self.source.name}"
        left = self.schedule.recipe.steps - training.done
        with progress_bar(title, left, shown=self.prepared.options.progress) as progress:
            while training.done < self.schedule.recipe.steps:
                step = self.step(prompts)
                self.learn(training, subject, step)
                progress.tokens(sum(map(len, step)))
                progress.rows(1)
                if time.monotonic() - saved >= SECONDS:
                    self.save(training, step[-1].row + 1)
                    saved = time.monotonic()
        self.finish(training, subject)

    def prompts(self, row: int) -> Iterator[Prompt]:
        """Prompts from a row on, and from the first again and again."""
        while True:
            skipped, kept = Counter[str](), 0
            for shard in self.shards(row):
                yield from shard.prompts
                kept += len(shard.prompts)
                skipped.update(skip_counts(shard))
            if row == 0:
                require_prompts(self.source, kept, skipped)
            row = 0

    def shards(self, row: int) -> Iterator[Rows]:
        done = [Window(0, row)] if row else []
        if self.reading is not None:
            return self.reading.shards(self.source, done)
        how, options = self.prepared.tokenizations[0], self.prepared.options
        return read_shards(self.source, how, limit=options.limit, size=options.shard_rows, done=done)

    def step(self, prompts: Iterator[Prompt]) -> list[Prompt]:
        """The prompts of one step."""
        step, tokens = list[Prompt](), 0
        while tokens < self.schedule.tokens:
            step.append(next(prompts))
            tokens += len(step[-1])
        return step

    def learn(self, training: Training, subject: Subject, step: Sequence[Prompt]) -> None:
        how = state_batches(subject, self.prepared.options)
        total = sum(map(len, step))
        for batch in batches(step, token_budget=how.token_budget, batch_size=how.batch_size, same_side_of=how.switch):
            try:
                training.add(flat_states(subject, batch), total)
            except Exception as error:
                if reason := passing(error):
                    raise NotMeasured(
                        f"{reason} in step {training.done} of the training. Its last snapshot stays. Run the same "
                        "command again; if this is said again, with a smaller --batch-tokens."
                    ) from error
                raise
        training.step()

    def restored(self, training: Training, first: int) -> int:
        """Go on from the snapshot, if there is one; the row that comes next."""
        path = self.directory / UNFINISHED
        if not path.exists():
            return first
        try:
            snapshot = load_safetensors(path.read_bytes())
            if not torch.equal(snapshot.pop(CHECKSUM), _checksum(snapshot)):
                raise ValueError("it does not hold what was written")
            training.restore(snapshot)
        except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
            raise RunError(f"{path} cannot be read ({error}). Remove it to train from the beginning.") from error
        return int(snapshot["row"])

    def save(self, training: Training, row: int) -> None:
        with os_errors_as_run_errors(self.directory):
            self.directory.mkdir(exist_ok=True)
        tensors = {name: tensor.cpu().contiguous() for name, tensor in training.snapshot().items()}
        tensors["row"] = torch.tensor(row)
        write_whole(self.directory / UNFINISHED, to_safetensors({**tensors, CHECKSUM: _checksum(tensors)}))
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
        key = {**self.prepared.key, "data": self.source.name}
        rows = [
            {**key, "step": step, "state": state, "kl": loss}
            for step, losses in enumerate(training.losses)
            for state, loss in enumerate(losses)
        ]
        self.writer.write_table("training", pl.DataFrame(rows, infer_schema_length=None))

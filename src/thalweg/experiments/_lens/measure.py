"""Lenses: what every state predicts, of text, all states from one forward pass (the paper, Figs. 8 and 28)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from thalweg import metrics
from thalweg.capture import IdentifiedModel, Subject, watch_states
from thalweg.engines import BatchOptions
from thalweg.experiments._lens.blocks import BlockReading, block_length
from thalweg.experiments._measure import refuse_overflow, token_batch
from thalweg.experiments._options import SurveyOptions
from thalweg.experiments._over_prompts import batching, loaded, measure_prompts, unfinished
from thalweg.experiments._prepare import Prepared
from thalweg.lenses import Lens, LogitLens, TunedFiles, read_tuned, tuned_lens
from thalweg.prompts import Prompt
from thalweg.store import Findings, FindingsWriter, experiment_schema, open_findings, tables_of

NAME = "lens"
STATES = 2**31
"""Bytes that the states of one batch may take, unless a single prompt takes more."""

QUANTITIES = tuple(name.removesuffix("_sum") for name in experiment_schema(NAME, NAME) if name.endswith("_sum"))


@dataclass(frozen=True)
class Asked:
    """Which lens, and how the data is read.

    Attributes:
        tuned: the tuned lens, compared with the model; None for the logit lens.
        final_norm: whether the logit lens has it.
        block: tokens of a block; None where rows are read one by one.
    """

    tuned: TunedFiles | None
    final_norm: bool
    block: int | None

    @property
    def settings(self) -> dict[str, Any]:
        """What changes a number."""
        own = {"lens": "logit", "final_norm": self.final_norm, "block_length": self.block}
        return own if self.tuned is None else {**own, "lens": "tuned", "translators": self.tuned.digest[:16]}


def lensed(prepared: Prepared, asked: Asked) -> Findings:
    """The same for a model that is identified already."""
    reading = None if asked.block is None else BlockReading(prepared, asked.block)
    tables, session = tables_of(NAME), prepared.session
    with open_findings(prepared.path, prepared.header, NAME, asked.settings, tables, session=session) as writer:
        if unfinished(prepared, writer, reading):
            decoder = _decoder(prepared.models[0], asked)
            measure_prompts(
                prepared,
                writer,
                decoder.subject,
                decoder.rows,
                _tables,
                title="lens",
                reading=reading,
                nonfinite=lambda results: sum(int(rows["kl_sum"].is_nan().sum()) for rows in results),
                batches=state_batches(decoder.subject, prepared.options),
            )
        _write_curves(writer)
        writer.update(status="finished")
    return writer.reading()


def state_batches(subject: Subject, options: SurveyOptions) -> BatchOptions:
    """As for any experiment, but so few tokens that the states of a batch, which are all held, stay small."""
    usual = batching(subject, options)
    width = subject.model.config.get_text_config(decoder=True).hidden_size
    token = (len(subject.parts.blocks) + 1) * width * subject.model.dtype.itemsize
    return (
        usual if options.batch_tokens else replace(usual, token_budget=max(1, min(usual.token_budget, STATES // token)))
    )


@torch.no_grad()
def flat_states(subject: Subject, batch: Sequence[Prompt], *, dropped: int = 0) -> list[Tensor]:
    """Run one batch through the body of the model once and keep its states: for each state the rows of all prompts.

    Args:
        subject: the model.
        batch: the prompts.
        dropped: how many tokens at the end of every prompt are left out.

    Raises:
        ModelError: a token has no row in the model's embedding.
        OverflowInFloat16: a float16 state holds an Inf.
    """
    kept = list[Tensor]()

    def see(index: int, state: Tensor) -> None:
        for prompt, padded in zip(batch, state, strict=True):
            refuse_overflow(index, padded[: len(prompt)])
        rows = [padded[: len(prompt) - dropped] for prompt, padded in zip(batch, state, strict=True)]
        kept.append(torch.cat(rows).detach())  # a copy: blocks may add to their input in place

    tokens = token_batch(subject, batch)
    with watch_states(subject, see):
        subject.parts.body(input_ids=tokens, use_cache=False)
    return kept


@dataclass(frozen=True)
class Decoder:
    """A loaded model and a lens on it.

    Attributes:
        subject: the model.
        model: what the model itself says, at state L.
        lens: what is read at every state.
        same: whether the lens reads state L as the model does, so that it is read once.
    """

    subject: Subject
    model: LogitLens
    lens: Lens
    same: bool = True

    @torch.no_grad()
    def rows(self, batch: Sequence[Prompt]) -> pl.DataFrame:
        """Sums of one batch by prompt and state."""
        states = flat_states(self.subject, batch, dropped=1)
        targets = torch.tensor([token for prompt in batch for token in prompt.tokens[1:]])
        lengths = [len(prompt) - 1 for prompt in batch]
        pieces = [self._piece(states, targets, place) for place in self._places(len(targets))]
        shape = len(states), len(QUANTITIES), 0
        values = torch.cat(pieces, -1) if pieces else torch.zeros(shape, dtype=torch.float64)
        sums = torch.stack([own.sum(-1) for own in values.split(lengths, -1)])
        index = [(prompt.row, state) for prompt in batch for state in range(len(states))]
        columns = {f"{name}_sum": sums[:, :, place].flatten().tolist() for place, name in enumerate(QUANTITIES)}
        return pl.DataFrame(
            {
                "prompt": [row for row, _ in index],
                "state": [state for _, state in index],
                "scored": [length for length in lengths for _ in states],
                **columns,
            }
        )

    def _places(self, count: int) -> list[slice]:
        step = self.model.rows_at_once
        return [slice(first, first + step) for first in range(0, count, step)]

    def _piece(self, states: Sequence[Tensor], targets: Tensor, place: slice) -> Tensor:
        """Every quantity of some tokens at all states: state x quantity x token, float64.

        Logits are held of two states: the last and the one at hand.
        """
        end = len(states) - 1
        last = metrics.log_probabilities(self.model.logits(end, states[end][place]))
        own = targets[place].to(last.device)
        found = list[Tensor]()
        for index, state in enumerate(states):
            read = (
                last if self.same and index == end else metrics.log_probabilities(self.lens.logits(index, state[place]))
            )
            values = {
                "loss": metrics.token_loss(read, own),
                "output_entropy": metrics.output_entropy(read),
                "agreement": metrics.agreement(read, last),
                "kl": metrics.kl_to_last(read, last),
            }
            found.append(torch.stack([values[name] for name in QUANTITIES]))
        return torch.stack(found).cpu().double()


def _decoder(model: IdentifiedModel, asked: Asked) -> Decoder:
    """Load the model, prove what is needed of it, and put the lens on it."""
    subject = loaded(model, "unembedding")
    own = LogitLens(subject)
    if asked.tuned is not None:
        return Decoder(subject, own, tuned_lens(subject, asked.tuned, model))
    if asked.final_norm:
        return Decoder(subject, own, own)
    return Decoder(subject, own, LogitLens(subject, final_norm=False), same=False)


def _asked(
    prepared: Prepared, tuned: str | Path | None, final_norm: bool, blocks: bool | None, length: int | None
) -> Asked:
    """What was asked, compared with the model before its weights are loaded."""
    block = block_length(prepared, blocks, length)
    files = None if tuned is None else read_tuned(tuned, prepared.models[0])
    return Asked(files, final_norm, block)


def _tables(_: Sequence[Prompt], results: list[pl.DataFrame], key: dict[str, str]) -> dict[str, pl.DataFrame]:
    if not results:
        return {NAME: pl.DataFrame(schema=experiment_schema(NAME, NAME))}
    return {NAME: pl.concat(results).with_columns(pl.lit(value).alias(name) for name, value in key.items())}


def _write_curves(writer: FindingsWriter) -> None:
    """The averages over everything that is measured."""
    writer.update()
    writer.write_table("curves", metrics.lens_curves(writer.reading().table(NAME)))

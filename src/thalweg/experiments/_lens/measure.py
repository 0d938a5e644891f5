"""Lenses: what every state predicts, of text, all states from one forward pass (the paper, Figs. 8 and 28)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl
import torch
from torch import Tensor

from thalweg import metrics
from thalweg.capture import IdentifiedModel, Subject
from thalweg.engines import BatchOptions
from thalweg.experiments._lens.curves import lens_curves
from thalweg.experiments._lens.tables import TABLES
from thalweg.experiments._options import SurveyOptions
from thalweg.experiments._over_prompts import BlockReading, batching, loaded, measure_prompts, unfinished
from thalweg.experiments._pass import Reduced, StateSeen, read
from thalweg.experiments._prepare import Prepared
from thalweg.lenses import Lens, LensChoice, LogitLens
from thalweg.prompts import Prompt
from thalweg.store import Findings, FindingsWriter

NAME = "lens"
STATES = 2**31
"""Bytes that the states of one batch may take, unless a single prompt takes more."""

QUANTITIES = tuple(name.removesuffix("_sum") for name in TABLES[NAME].schema if name.endswith("_sum"))


def lensed(prepared: Prepared, choice: LensChoice, block: int | None) -> Findings:
    """Measure what is missing, and average.

    Args:
        prepared: one model, its data and where the run is.
        choice: which lens.
        block: tokens of a block; None where rows are read one by one.
    """
    reading = None if block is None else BlockReading(prepared, block)
    settings = {**choice.settings, "final_norm": choice.final_norm, "block_length": block}
    with prepared.opened(NAME, settings, TABLES) as writer:
        if unfinished(prepared, writer, reading):
            decoder = _decoder(prepared.model, choice)
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

    def flat(_: int, seen: StateSeen) -> Tensor:
        return torch.cat([rows[: len(rows) - dropped] for rows in seen.prompts])  # a copy: blocks may add in place

    states = Reduced(flat)
    read(subject, batch, states)
    return states.rows


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
        sums = torch.stack([prompt.sum(-1) for prompt in values.split(lengths, -1)])
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
        wanted = targets[place].to(last.device)
        values = list[Tensor]()
        for index, state in enumerate(states):
            is_last = self.same and index == end
            said = last if is_last else metrics.log_probabilities(self.lens.logits(index, state[place]))
            values.append(_quantities(said, wanted, last))
        return torch.stack(values).cpu().double()


def _quantities(said: Tensor, wanted: Tensor, last: Tensor) -> Tensor:
    """Quantity x token of what is read at one state, against the tokens that come and the last state."""
    values = {
        "loss": metrics.token_loss(said, wanted),
        "output_entropy": metrics.output_entropy(said),
        "agreement": metrics.agreement(said, last),
        "kl": metrics.kl_to_last(said, last),
    }
    return torch.stack([values[name] for name in QUANTITIES])


def _decoder(model: IdentifiedModel, choice: LensChoice) -> Decoder:
    """Load the model, prove what is needed of it, and put the lens on it."""
    subject = loaded(model, "unembedding")
    logit = LogitLens(subject)
    if choice.tuned is None and choice.final_norm:
        return Decoder(subject, logit, logit)
    return Decoder(subject, logit, choice.on(subject, model), same=choice.tuned is not None)


def _tables(_: Sequence[Prompt], results: list[pl.DataFrame], key: dict[str, str]) -> dict[str, pl.DataFrame]:
    if not results:
        return {NAME: pl.DataFrame(schema=TABLES[NAME].schema)}
    return {NAME: pl.concat(results).with_columns(pl.lit(value).alias(name) for name, value in key.items())}


def _write_curves(writer: FindingsWriter) -> None:
    """The averages over everything that is measured."""
    writer.update()
    writer.write_table("curves", lens_curves(writer.reading().table(NAME)))

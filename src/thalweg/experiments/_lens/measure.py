"""Lenses: what every state predicts, of text, all states from one forward pass (the paper, Figs. 8 and 28)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from torch import Tensor

from thalweg import metrics
from thalweg.averages import KEYS, ratio_of_sums
from thalweg.capture import Subject
from thalweg.engines import BatchOptions
from thalweg.experiments._lens.tables import TABLES
from thalweg.experiments._options import SurveyOptions
from thalweg.experiments._over_prompts import BlockReading, batching, loaded, measure_prompts, unfinished
from thalweg.experiments._pass import Reduced, StateSeen, read
from thalweg.experiments._prepare import Prepared
from thalweg.lenses import Lens, LensChoice, LogitLens
from thalweg.prompts import Prompt
from thalweg.store import Findings

NAME = "lens"
COLUMNS = list(TABLES["curves"].schema)
STATES = 2**31
"""Bytes that the states of one batch may take, unless a single prompt takes more."""

QUANTITIES = ("loss", "output_entropy", "agreement", "kl")


def lensed(prepared: Prepared, choice: LensChoice, block: int | None) -> Findings:
    """Measure what is missing, and average; ``block`` is None where rows are read one by one."""
    reading = None if block is None else BlockReading(prepared, block)
    longest = prepared.options.max_length if block is None else None
    settings = {**choice.settings, "final_norm": choice.final_norm, "block_length": block, "max_length": longest}
    with prepared.opened(NAME, settings, TABLES) as writer:
        if unfinished(prepared, writer, reading):
            subject = loaded(prepared.model, "unembedding")
            model, plain = LogitLens(subject), choice.tuned is None and choice.final_norm
            lens = model if plain else choice.on(subject, prepared.model)
            decoder = Decoder(subject, model, lens, same=plain or choice.tuned is not None)
            measure_prompts(
                prepared,
                writer,
                subject,
                decoder.rows,
                _tables,
                title="lens",
                reading=reading,
                nonfinite=lambda results: sum(int(rows["kl_sum"].is_nan().sum()) for rows in results),
                batches=state_batches(subject, prepared.options),
            )
        writer.update()
        writer.write_table("curves", lens_curves(writer.reading().table(NAME)))
        writer.update(status="finished")
    return writer.reading()


def state_batches(subject: Subject, options: SurveyOptions) -> BatchOptions:
    """As for any experiment, but so few tokens that the states of a batch, which are all held, stay small."""
    usual = batching(subject, options)
    if options.batch_tokens:
        return usual
    width = subject.model.config.get_text_config(decoder=True).hidden_size
    token = (len(subject.parts.blocks) + 1) * width * subject.model.dtype.itemsize
    return replace(usual, token_budget=max(1, min(usual.token_budget, STATES // token)))


def flat_states(subject: Subject, batch: Sequence[Prompt], *, dropped: int = 0) -> list[Tensor]:
    """Run one batch through the body of the model once: by state the rows of all prompts, without their last tokens."""

    def flat(_: int, seen: StateSeen) -> Tensor:
        return torch.cat([rows[: len(rows) - dropped] for rows in seen.prompts])  # a copy: blocks may add in place

    states = Reduced(flat)
    read(subject, batch, states)
    return states.rows


@dataclass(frozen=True)
class Decoder:
    """A loaded model, what it says itself, and a lens; ``same`` where the lens reads state L as the model does."""

    subject: Subject
    model: LogitLens
    lens: Lens
    same: bool = True

    @torch.no_grad()
    def rows(self, batch: Sequence[Prompt]) -> pl.DataFrame:
        """Sums of one batch by prompt and state."""
        states = flat_states(self.subject, batch, dropped=1)
        place = self.model.unembedding.device
        targets = torch.tensor([token for prompt in batch for token in prompt.tokens[1:]]).to(place)
        lengths = [len(prompt) - 1 for prompt in batch]
        step = self.model.rows_at_once
        places = [slice(first, first + step) for first in range(0, len(targets), step)]
        nothing = torch.zeros(len(states), len(QUANTITIES), 0, device=place)
        values = torch.cat([nothing, *(self._piece(states, targets, place) for place in places)], -1).cpu().double()
        sums = torch.stack([prompt.sum(-1) for prompt in values.split(lengths, -1)])
        index = [(prompt.row, state, len(prompt) - 1) for prompt in batch for state in range(len(states))]
        columns = {f"{name}_sum": sums[:, :, place].flatten().tolist() for place, name in enumerate(QUANTITIES)}
        return pl.DataFrame(index, ("prompt", "state", "scored"), orient="row").with_columns(
            pl.Series(name, values) for name, values in columns.items()
        )

    def _piece(self, states: Sequence[Tensor], targets: Tensor, place: slice) -> Tensor:
        """Every quantity of some tokens at all states: state x quantity x token.

        Logits are held of two states: the last and the one at hand.
        """
        end = len(states) - 1
        last = metrics.log_probabilities(self.model.logits(end, states[end][place]))
        wanted = targets[place]
        values = list[Tensor]()
        for index, state in enumerate(states):
            is_last = self.same and index == end
            said = last if is_last else metrics.log_probabilities(self.lens.logits(index, state[place]))
            of_last = metrics.agreement(said, last), metrics.kl_to_last(said, last)
            values.append(torch.stack([metrics.token_loss(said, wanted), metrics.output_entropy(said), *of_last]))
        return torch.stack(values)


def _tables(_: Sequence[Prompt], results: list[pl.DataFrame], key: dict[str, str]) -> dict[str, pl.DataFrame]:
    if not results:
        return {NAME: pl.DataFrame(schema=TABLES[NAME].schema)}
    return {NAME: pl.concat(results).with_columns(pl.lit(value).alias(name) for name, value in key.items())}


def lens_curves(rows: pl.LazyFrame) -> pl.DataFrame:
    """Table ``curves`` from table ``lens``: every token counts once, so a long prompt counts more than a short one.

    Loss, output entropy, agreement and KL are sum over sum; perplexity is exp(loss), and so are the ends of its
    interval (:func:`thalweg.averages.ratio_of_sums`). ``scored`` and ``n`` count what entered.

    Example:
        Prompts of 1 and 3 tokens with loss sums 2 and 3: loss 5 / 4, perplexity exp(1.25) = 3.49.
    """
    table, place = rows.filter(pl.col("scored") > 0).collect(), [*KEYS, "state"]
    curves = [
        {**dict(zip(place, key, strict=True)), **row}
        for key, prompts in table.group_by(place, maintain_order=True)
        for row in _curve(prompts)
    ]
    return pl.DataFrame(curves, infer_schema_length=None).select(COLUMNS) if curves else pl.DataFrame(schema=COLUMNS)


def _curve(prompts: pl.DataFrame) -> list[dict[str, str | float | int]]:
    counts = prompts["scored"].to_numpy().astype(np.float64)
    rows = [{"metric": name, **ratio_of_sums(prompts[f"{name}_sum"].to_numpy(), counts)} for name in QUANTITIES]
    with np.errstate(over="ignore"):
        powers = {name: float(np.exp(rows[0][name])) for name in ("value", "low", "high")}
    return [rows[0], {**rows[0], **powers, "metric": "perplexity"}, *rows[1:]]

"""One batch of prompts under an intervention, to rows: the survey's own formulas, those that verdicts need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl
import torch
from torch import Tensor

from thalweg import metrics
from thalweg.capture import AttentionSeen, IdentifiedModel, Subject, Unembedding, unembedding_of
from thalweg.experiments._over_prompts import loaded
from thalweg.experiments._pass import StateSeen, lengths_of, read
from thalweg.interventions import Intervention
from thalweg.prompts import Prompt
from thalweg.store import Thresholds

LOGITS = 2**24
"""Numbers of a piece of the logits, so that tokens x vocabulary is never held whole."""
STATE = ("entropy", "entropy_normalized", "sink_norm", "rest_norm", "norm_ratio", "row_ratio", "row_position")

Rows = dict[str, pl.DataFrame]
"""By table: states, blocks, losses."""


@dataclass(frozen=True)
class OnDemand:
    """A model that is loaded, and proved, when something of it is first needed."""

    model: IdentifiedModel

    @property
    def subject(self) -> Subject:
        """Its parts, additive ones included."""
        return self._proved[0]

    @property
    def unembedding(self) -> Unembedding:
        """From X(L) to logits."""
        return self._proved[1]

    @cached_property
    def _proved(self) -> tuple[Subject, Unembedding]:
        """Both at once: a model without a loss is refused now, not after what comes before the first one."""
        subject = loaded(self.model, "additive parts")
        return subject, unembedding_of(subject)


def intervened(
    model: OnDemand, batch: Sequence[Prompt], thresholds: Thresholds, interventions: Sequence[Intervention] = ()
) -> Rows:
    """Run one batch through the body of the model once, changed, and reduce everything on the way.

    Returns:
        Rows of ``states``, ``blocks`` and ``losses``, without model, revision and data.

    Raises:
        ModelError: a token has no row in the model's embedding.
        OverflowInFloat16: a float16 state holds an Inf.
    """
    states, losses = _StateRows(batch, thresholds), _Losses(batch, model)
    blocks = _BlockRows(batch, thresholds)
    read(model.subject, batch, states, losses, blocks, interventions=interventions)
    rows = {"states": states.rows, "blocks": blocks.rows, "losses": losses.rows}
    return {name: pl.DataFrame(records, infer_schema_length=None) for name, records in rows.items()}


def joined(parts: Sequence[Rows], literals: Mapping[str, Any] | None = None) -> Rows:
    """The same tables, one after the other, with columns that are the same in every row."""
    columns = [pl.lit(value).alias(name) for name, value in (literals or {}).items()]
    return {
        name: pl.concat([tables[name] for tables in parts], how="vertical_relaxed").with_columns(columns)
        for name in parts[0]
    }


class _StateRows:
    """What verdicts need of every state."""

    def __init__(self, batch: Sequence[Prompt], thresholds: Thresholds) -> None:
        self.batch, self.thresholds = batch, thresholds
        self.rows = list[dict[str, Any]]()

    def state(self, index: int, seen: StateSeen, /) -> None:
        sink, ratio = self.thresholds.sink_position, self.thresholds.massive_ratio
        for prompt, rows in zip(self.batch, seen.prompts, strict=True):
            measured = metrics.measure_state(rows, sink_position=sink, massive_ratio=ratio).metrics
            self.rows.append({"prompt": prompt.row, "state": index, **{name: measured[name] for name in STATE}})


class _Losses:
    """The last state, read as a prediction while it is there."""

    def __init__(self, batch: Sequence[Prompt], model: OnDemand) -> None:
        self.batch, self.unembedding = batch, model.unembedding
        self.last = len(model.subject.parts.blocks)
        self.rows = list[dict[str, Any]]()

    def state(self, index: int, seen: StateSeen, /) -> None:
        if index == self.last:
            for prompt, rows in zip(self.batch, seen.prompts, strict=True):
                loss = _loss(self.unembedding, rows, prompt)
                self.rows.append({"prompt": prompt.row, "loss": loss, "tokens": len(prompt) - 1})


class _BlockRows:
    """How much the heads of every block sink."""

    def __init__(self, batch: Sequence[Prompt], thresholds: Thresholds) -> None:
        self.batch, self.lengths, self.thresholds = batch, lengths_of(batch), thresholds
        self.rows = list[dict[str, Any]]()

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        mass, tau = seen.statistics.column_mass, self.thresholds.tau
        lengths, sink = self.lengths.to(mass.device), self.thresholds.sink_position
        scores = metrics.sink_score(mass, lengths=lengths, sink_position=sink)
        scores = scores.float()  # as precise as the survey's tables hold them
        rates = metrics.sink_rate(scores, tau).tolist()
        means = scores.double().nanmean(-1).tolist()
        for prompt, rate, mean in zip(self.batch, rates, means, strict=True):
            short = metrics.sink_uniform(len(prompt)) >= tau
            row = {"prompt": prompt.row, "block": block, "sink_rate": torch.nan if short else rate, "sink_score": mean}
            self.rows.append(row)


def _loss(unembedding: Unembedding, state: Tensor, prompt: Prompt) -> float:
    """Mean next-token loss of one prompt; NaN for a prompt of one token."""
    weight: Any = unembedding.head.weight
    size = max(1, LOGITS // len(weight))
    targets = torch.tensor(prompt.tokens[1:])
    losses = list[Tensor]()
    for rows, wanted in zip(state[:-1].split(size), targets.split(size), strict=True):
        if len(wanted):
            logits = unembedding.logits(rows[None])[0]
            losses.append(metrics.next_token_loss(logits, wanted.to(logits.device)).double().cpu())
    return float(torch.cat(losses).mean()) if losses else torch.nan

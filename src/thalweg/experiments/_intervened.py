"""One batch of prompts under an intervention, to rows: the survey's own formulas, those that verdicts need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl
import torch
from torch import Tensor

from thalweg import metrics
from thalweg.capture import AttentionSeen, IdentifiedModel, Subject, Unembedding, observe, unembedding_of
from thalweg.experiments._measure import refuse_overflow, token_batch
from thalweg.experiments._over_prompts import loaded
from thalweg.interventions import Intervention, intervene
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


@torch.no_grad()
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
    tokens = token_batch(model.subject, batch)
    lengths = torch.tensor([len(prompt) for prompt in batch])
    reducer = _Reducer(model.unembedding, batch, lengths, thresholds, len(model.subject.parts.blocks))
    with intervene(model.subject, *interventions, lengths=lengths), observe(model.subject, reducer, lengths):
        model.subject.parts.body(input_ids=tokens, use_cache=False)
    return {name: pl.DataFrame(rows, infer_schema_length=None) for name, rows in reducer.rows.items()}


def joined(parts: Sequence[Rows], literals: Mapping[str, Any] | None = None) -> Rows:
    """The same tables, one after the other, with columns that are the same in every row."""
    columns = [pl.lit(value).alias(name) for name, value in (literals or {}).items()]
    return {
        name: pl.concat([one[name] for one in parts], how="vertical_relaxed").with_columns(columns) for name in parts[0]
    }


class _Reducer:
    """Receives states and attention, leaves rows; the last state is read as a prediction while it is there."""

    def __init__(
        self, unembedding: Unembedding, batch: Sequence[Prompt], lengths: Tensor, thresholds: Thresholds, last: int
    ) -> None:
        self.unembedding, self.last = unembedding, last
        self.batch, self.lengths, self.thresholds = batch, lengths, thresholds
        self.rows: dict[str, list[dict[str, Any]]] = {"states": [], "blocks": [], "losses": []}

    def state(self, index: int, state: Tensor, /) -> None:
        for prompt, padded in zip(self.batch, state, strict=True):
            own = padded[: len(prompt)]
            refuse_overflow(index, own)
            measured = metrics.measure_state(
                own, sink_position=self.thresholds.sink_position, massive_ratio=self.thresholds.massive_ratio
            ).metrics
            self.rows["states"].append(
                {"prompt": prompt.row, "state": index, **{name: measured[name] for name in STATE}}
            )
            if index == self.last:
                loss = _loss(self.unembedding, own, prompt)
                self.rows["losses"].append({"prompt": prompt.row, "loss": loss, "tokens": len(prompt) - 1})

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        mass = seen.statistics.column_mass
        scores = metrics.sink_score(
            mass, lengths=self.lengths.to(mass.device), sink_position=self.thresholds.sink_position
        )
        scores = scores.float()  # as precise as the survey's tables hold them
        rates = metrics.sink_rate(scores, self.thresholds.tau).tolist()
        means = scores.double().nanmean(-1).tolist()
        for prompt, rate, mean in zip(self.batch, rates, means, strict=True):
            short = metrics.sink_uniform(len(prompt)) >= self.thresholds.tau
            row = {"prompt": prompt.row, "block": block, "sink_rate": torch.nan if short else rate, "sink_score": mean}
            self.rows["blocks"].append(row)


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

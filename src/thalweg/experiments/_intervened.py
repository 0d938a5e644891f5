"""One batch of prompts under an intervention, to rows by the survey's formulas; and what the sink's row is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl
import torch
from torch import Tensor

from thalweg import metrics
from thalweg.capture import AttentionSeen, IdentifiedModel, Subject, Unembedding, unembedding_of
from thalweg.engines import run_shards
from thalweg.experiments._over_prompts import batching, loaded
from thalweg.experiments._pass import SinkRows, StateSeen, lengths_of, read
from thalweg.experiments._prepare import Prepared
from thalweg.interventions import Intervention
from thalweg.prompts import Prompt, read_shards
from thalweg.store import Thresholds

LOGITS = 2**24
"""Numbers of a piece of the logits, so that tokens x vocabulary is never held whole."""
STATE = ("entropy", "entropy_normalized", "sink_norm", "rest_norm", "norm_ratio", "row_ratio", "row_position")

Rows = dict[str, pl.DataFrame]
"""By table, ``states``, ``blocks`` and ``losses``, without model, revision and data."""


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
        return (subject := loaded(self.model, "additive parts")), unembedding_of(subject)


def intervened(
    model: OnDemand, batch: Sequence[Prompt], thresholds: Thresholds, interventions: Sequence[Intervention] = ()
) -> Rows:
    """Run one batch through the body of the model once, changed, and reduce everything on the way."""
    states, blocks = _StateRows(batch, thresholds, model), _BlockRows(batch, thresholds)
    read(model.subject, batch, states, blocks, interventions=interventions)
    rows = {"states": states.rows, "blocks": blocks.rows, "losses": states.losses}
    return {name: pl.DataFrame(records, infer_schema_length=None) for name, records in rows.items()}


def joined(parts: Sequence[Rows], literals: Mapping[str, Any] | None = None) -> Rows:
    """The same tables, one after the other, with columns that are the same in every row."""
    columns = [pl.lit(value).alias(name) for name, value in (literals or {}).items()]
    return {
        name: pl.concat([tables[name] for tables in parts], how="vertical_relaxed").with_columns(columns)
        for name in parts[0]
    }


class _StateRows:
    """What verdicts need of every state; the last one is read as a prediction while it is there."""

    def __init__(self, batch: Sequence[Prompt], thresholds: Thresholds, model: OnDemand) -> None:
        self.batch, self.thresholds, self.unembedding = batch, thresholds, model.unembedding
        self.last = len(model.subject.parts.blocks)
        self.rows, self.losses = list[dict[str, Any]](), list[dict[str, Any]]()

    def state(self, index: int, seen: StateSeen, /) -> None:
        sink, ratio = self.thresholds.sink_position, self.thresholds.massive_ratio
        for prompt, rows in zip(self.batch, seen.prompts, strict=True):
            measured = metrics.measure_state(rows, sink_position=sink, massive_ratio=ratio).metrics
            self.rows.append({"prompt": prompt.row, "state": index, **{name: measured[name] for name in STATE}})
            if index == self.last:
                loss = _loss(self.unembedding, rows, prompt)
                self.losses.append({"prompt": prompt.row, "loss": loss, "tokens": len(prompt) - 1})


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


ROWS = 64
"""Under a causal mask the first token's row is the same in every prompt that begins with it."""


def scanned(prepared: Prepared, loading: OnDemand) -> metrics.SinkCoordinates:
    """The massive coordinates of the sink's row on one data set, over its first 64 rows whatever the limit."""
    options, subject = prepared.options, loading.subject
    shards = read_shards(prepared.sources[0], prepared.tokenizations[0], limit=ROWS, size=ROWS)
    rows, stand_out = list[Tensor](), list[list[metrics.SinkRow]]()

    def measure(batch: Sequence[Prompt]) -> _Scanned:
        scan = _Scanned(options.sink_position)
        read(subject, batch, scan)
        return scan

    def keep(_: object, scans: list[_Scanned]) -> None:
        for scan in scans:
            for number in range(len(scan.rows[0])):
                row, states = scan.of(number)
                rows.append(row)
                stand_out.append(states)

    run_shards(shards, measure=measure, finish=keep, options=batching(subject, options))
    return metrics.sink_coordinates(rows, stand_out, massive_ratio=options.massive_ratio)


class _Scanned(SinkRows):
    """The sink's rows as a measurement has them, to the last bit: a row clamped to its peak is then the row itself."""

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        """Nothing of it is asked for, but with it the pass is that of the measurement."""

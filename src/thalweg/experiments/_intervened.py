"""One batch of prompts under an intervention, to rows by the survey's formulas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl
import torch
from torch import Tensor

from thalweg import metrics
from thalweg.capture import AttentionSeen, IdentifiedModel, Subject, Unembedding, unembedding_of
from thalweg.experiments._columns import INTERVENED_STATE
from thalweg.experiments._over_prompts import loaded
from thalweg.experiments._pass import StateSeen, lengths_of, read
from thalweg.experiments._planned import SegmentRows
from thalweg.interventions import Intervention
from thalweg.prompts import Prompt
from thalweg.store import Thresholds

LOGITS = 2**24
"""Numbers of a piece of the logits, so that tokens x vocabulary is never held whole."""

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
    model: OnDemand,
    batch: Sequence[Prompt],
    thresholds: Thresholds,
    sinks: SegmentRows,
    interventions: Sequence[Intervention] = (),
) -> Rows:
    """Run one batch through the body of the model once, changed, and reduce everything on the way.

    What is the sink at a state, and for the block that reads it, ``sinks`` say. The entropy without massive rows is a
    reference, and measured where nothing is changed.
    """
    states = _States(batch, thresholds, sinks, model, changed=bool(interventions))
    blocks = _BlockRows(batch, thresholds, sinks)
    read(model.subject, batch, states, blocks, interventions=interventions)
    rows = {"blocks": blocks.rows, "losses": states.losses}
    tables = {name: pl.DataFrame(records, infer_schema_length=None) for name, records in rows.items()}
    return {"states": states.rows()} | tables


def joined(parts: Sequence[Rows], literals: Mapping[str, Any] | None = None) -> Rows:
    """The same tables, one after the other, with columns that are the same in every row."""
    columns = [pl.lit(value).alias(name) for name, value in (literals or {}).items()]
    return {
        name: pl.concat([tables[name] for tables in parts], how="vertical_relaxed").with_columns(columns)
        for name in parts[0]
    }


class _States:
    """What verdicts need of every state; the last one is read as a prediction while it is there."""

    def __init__(
        self, batch: Sequence[Prompt], thresholds: Thresholds, sinks: SegmentRows, model: OnDemand, *, changed: bool
    ) -> None:
        self.batch, self.sinks, self.unembedding = batch, sinks, model.unembedding
        self.reduced = metrics.StatesOfBatch(
            lengths_of(batch), massive_ratio=thresholds.massive_ratio, without_massive=[not changed] * len(batch)
        )
        self.last = len(model.subject.parts.blocks)
        self.losses, self.at = list[dict[str, Any]](), list[Tensor]()

    def state(self, index: int, seen: StateSeen, /) -> None:
        self.at.append(self.sinks.at(index))
        self.reduced.see(seen.padded, self.at[-1])
        if index == self.last:
            for prompt, rows in zip(self.batch, seen.prompts, strict=True):
                loss = _loss(self.unembedding, rows, prompt)
                self.losses.append({"prompt": prompt.row, "loss": loss, "tokens": len(prompt) - 1})

    def rows(self) -> pl.DataFrame:
        """A row for every state and prompt."""
        found = self.reduced.measured()
        medians = torch.tensor(found.columns["median_norm"], dtype=torch.float64).view(len(self.at), -1, 1)
        columns = found.columns | _ratios(found.row_norms / medians, torch.stack(self.at), self.reduced.tokens)
        keys = {"prompt": [prompt.row for prompt in self.batch] * len(self.at)}
        keys["state"] = torch.arange(len(self.at)).repeat_interleave(len(self.batch)).tolist()
        return pl.DataFrame(keys | {column.name: columns[column.name] for column in INTERVENED_STATE}, strict=False)


def _ratios(ratios: Tensor, sink: Tensor, tokens: Tensor) -> dict[str, list[Any]]:
    """How far the sink's row stands out, and the largest one of the others; ``ratios``: state x batch x token."""
    position = torch.arange(ratios.shape[-1])
    others = ratios.masked_fill((position == sink[..., None]) | (position >= tokens[:, None]), -torch.inf)
    largest, where = others.max(-1)
    known = largest.isfinite()
    own = ratios.gather(-1, sink.clamp_min(0)[..., None])[..., 0]
    return {
        "own_ratio": own.masked_fill(sink < 0, torch.nan).flatten().tolist(),
        "other_ratio": largest.masked_fill(~known, torch.nan).flatten().tolist(),
        "other_position": [
            place if there else None
            for place, there in zip(where.flatten().tolist(), known.flatten().tolist(), strict=True)
        ],
    }


class _BlockRows:
    """How much the heads of every block sink, where, and how widely they look."""

    def __init__(self, batch: Sequence[Prompt], thresholds: Thresholds, sinks: SegmentRows) -> None:
        self.batch, self.lengths, self.tau, self.sinks = batch, lengths_of(batch), thresholds.tau, sinks
        self.rows = list[dict[str, Any]]()

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        mass = seen.statistics.column_mass
        lengths, at = self.lengths.to(mass.device), self.sinks.at(block).to(mass.device)
        # as precise as the survey's tables hold them
        scores = metrics.sink_score(mass, lengths=lengths, sink_position=at).float()
        top = metrics.top_score(mass, lengths=lengths).float()
        elsewhere = torch.where(metrics.top_position(mass, lengths=lengths) == at[:, None], 0.0, top)
        row_entropy, visible = seen.statistics.row_entropy, seen.statistics.visible
        mixing = metrics.mixing_normalized(row_entropy, visible=visible, lengths=lengths)
        rates = {
            "sink_rate": scores,
            "top_rate": top,
            "elsewhere_rate": elsewhere.masked_fill(at[:, None] < 0, torch.nan),
        }
        means = {"sink_score": scores, "top_score": top, "mixing_normalized": mixing}
        columns = {name: metrics.sink_rate(heads, self.tau).tolist() for name, heads in rates.items()}
        columns |= {name: heads.double().nanmean(-1).tolist() for name, heads in means.items()}
        for number, prompt in enumerate(self.batch):
            short = metrics.sink_uniform(len(prompt)) >= self.tau
            row = {name: torch.nan if short and name in rates else values[number] for name, values in columns.items()}
            self.rows.append({"prompt": prompt.row, "block": block, **row})


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

"""One batch of prompts under an intervention, to rows by the survey's formulas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from thalweg import metrics
from thalweg.capture import AttentionSeen, IdentifiedModel, Subject, Unembedding, precise, unembedding_of
from thalweg.experiments._columns import INTERVENED_STATE
from thalweg.experiments._over_prompts import loaded
from thalweg.experiments._pass import StateSeen, lengths_of, read
from thalweg.experiments._planned import SegmentRows
from thalweg.interventions import Intervention
from thalweg.prompts import Prompt
from thalweg.shapes import Float, Int
from thalweg.store import Thresholds

KEPT, KEPT_THERE = 2**18, 2**26
"""Numbers of attention that wait to be reduced: on a processor what fits a cache, on a device few and large ones."""
RATES = ("sink_rate", "top_rate", "elsewhere_rate")
MEANS = ("sink_score", "top_score", "mixing_normalized")
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
    return {"states": states.rows(), "blocks": blocks.rows(), "losses": states.losses()}


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
        self.last, self.at = len(model.subject.parts.blocks), list[Tensor]()
        self.of_tokens: Tensor | None = None

    def state(self, index: int, seen: StateSeen, /) -> None:
        self.at.append(self.sinks.at(index))
        self.reduced.see(seen.padded, self.at[-1])
        if index == self.last:
            self.of_tokens = _losses(self.unembedding, seen.padded, self.batch)

    def losses(self) -> pl.DataFrame:
        """The mean next-token loss of every prompt; NaN for a prompt of one token."""
        tokens = [len(prompt) - 1 for prompt in self.batch]
        every = torch.empty(0) if self.of_tokens is None else self.of_tokens.cpu().double()
        means = [float(own.mean()) if len(own) else torch.nan for own in every.split(tokens)]
        return pl.DataFrame({"prompt": [prompt.row for prompt in self.batch], "loss": means, "tokens": tokens})

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
    """How much the heads of every block sink, where, and how widely they look.

    Of each block vectors of length T are kept; many blocks are reduced at once, each with its prompts beside the
    others', when the pass is over or enough numbers have come together.
    """

    def __init__(self, batch: Sequence[Prompt], thresholds: Thresholds, sinks: SegmentRows) -> None:
        self.batch, self.lengths, self.tau, self.sinks = batch, lengths_of(batch), thresholds.tau, sinks
        self.kept, self.found = list[tuple[Tensor, ...]](), list[Tensor]()
        self.waiting, self.blocks = list[int](), list[int]()

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        vectors = seen.statistics.column_mass, seen.statistics.row_entropy, seen.statistics.visible
        if self.kept and _kinds(self.kept[0]) != _kinds(vectors):
            self.reduce()  # another number of heads, or another device
        self.kept.append(vectors)
        self.waiting.append(block)
        most = KEPT if vectors[0].device.type == "cpu" else KEPT_THERE
        if len(self.kept) * sum(one.numel() for one in vectors) > most:
            self.reduce()

    def reduce(self) -> None:
        """Every column of the blocks that are kept: column x block x batch."""
        if not self.kept:
            return
        mass, row_entropy, visible = (torch.cat(each) for each in zip(*self.kept, strict=True))
        limits = torch.stack([self.lengths.repeat(len(self.kept)), torch.cat([*map(self.sinks.at, self.waiting)])])
        columns = _columns(mass, row_entropy, visible, limits.to(mass.device), self.tau)
        self.found.append(columns.unflatten(1, (len(self.kept), -1)))
        self.blocks += self.waiting
        self.kept, self.waiting = [], []

    def rows(self) -> pl.DataFrame:
        """A row for every block and prompt."""
        self.reduce()
        if not self.blocks:
            return pl.DataFrame()
        first = self.found[0].device
        found = torch.cat([one.to(first) for one in self.found], 1).cpu()
        short = torch.tensor([metrics.sink_uniform(len(prompt)) >= self.tau for prompt in self.batch])
        found[: len(RATES)] = found[: len(RATES)].masked_fill(short, torch.nan)
        columns = dict(zip((*RATES, *MEANS), found.flatten(1).numpy(), strict=True))
        prompts = [prompt.row for prompt in self.batch]
        keys = {"prompt": prompts * len(self.blocks), "block": np.repeat(self.blocks, len(prompts))}
        return pl.DataFrame(keys | columns)


def _kinds(vectors: Sequence[Tensor]) -> list[tuple[torch.Size, torch.device]]:
    return [(one.shape, one.device) for one in vectors]


def _columns(
    mass: Tensor, row_entropy: Tensor, visible: Tensor, limits: Int[Tensor, "2 batch"], tau: float
) -> Float[Tensor, "column batch"]:
    """Rates, then means, over the heads of each prompt; ``limits`` are its length and its sink."""
    lengths, at = limits
    # as precise as the survey's tables hold them
    scores = metrics.sink_score(mass, lengths=lengths, sink_position=at).float()
    top = metrics.top_score(mass, lengths=lengths).float()
    elsewhere = torch.where(metrics.top_position(mass, lengths=lengths) == at[:, None], 0.0, top)
    mixing = metrics.mixing_normalized(row_entropy, visible=visible, lengths=lengths)
    rates = scores, top, elsewhere.masked_fill(at[:, None] < 0, torch.nan)
    means = [precise(heads).nanmean(-1) for heads in (scores, top, mixing)]
    return torch.stack([*(precise(metrics.sink_rate(heads, tau)) for heads in rates), *means])


def _losses(
    unembedding: Unembedding, state: Float[Tensor, "batch token width"], batch: Sequence[Prompt]
) -> Float[Tensor, " scored"]:
    """Next-token loss of every token that has a next one, prompt after prompt."""
    starts = [number * state.shape[1] for number in range(len(batch))]
    rows = [first + place for first, prompt in zip(starts, batch, strict=True) for place in range(len(prompt) - 1)]
    targets = [token for prompt in batch for token in prompt.tokens[1:]]
    wanted = torch.tensor([rows, targets], dtype=torch.long).to(unembedding.device)
    flat, losses = state.flatten(0, 1), [torch.zeros(0, device=unembedding.device)]
    for own, following in (each.unbind() for each in wanted.split(unembedding.rows_at_once, 1)):
        if len(own):
            given = flat.index_select(0, own.to(flat.device)).to(unembedding.device)
            losses.append(metrics.next_token_loss(unembedding.logits(given[None])[0], following))
    return torch.cat(losses)

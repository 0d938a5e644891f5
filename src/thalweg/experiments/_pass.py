"""One way to pass prompts through a model: each batch once, read by as many readers as there are.

A reader is an object with one or more of four methods, and what it has decides what the pass computes: ``state`` alone
costs the pass itself, ``attention`` runs the streamed attention of :func:`thalweg.capture.observe`, ``contribution``
watches what attention and MLP of a block add, ``middle`` what lies between the two. A reader leaves what it read as its
``rows``.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from thalweg import metrics
from thalweg.capture import (
    AttentionSeen,
    Chosen,
    RowsAt,
    Subject,
    Summand,
    brought,
    contributions,
    observe,
    watch_middles,
    watch_states,
)
from thalweg.errors import ModelError, OverflowInFloat16
from thalweg.interventions import Intervention, intervene
from thalweg.prompts import Prompt, padded
from thalweg.shapes import Bool, Float, Int


@dataclass(frozen=True)
class StateSeen:
    """One state of a batch: what the model holds, padded on the right, which must not be kept.

    ``lengths`` are where the state is, ``tokens`` the same for whoever must not wait for a device.
    """

    padded: Float[Tensor, "batch token width"]
    lengths: Int[Tensor, " batch"]
    tokens: tuple[int, ...]

    @property
    def prompts(self) -> tuple[Float[Tensor, "token width"], ...]:
        """Views of each prompt's own rows, real tokens only."""
        return tuple(rows[:length] for rows, length in zip(self.padded, self.tokens, strict=True))


@runtime_checkable
class StateReader(Protocol):
    """Reads states."""

    def state(self, index: int, seen: StateSeen, /) -> None:
        """X(index), 0..L in order, before the final norm."""


@runtime_checkable
class AttentionReader(Protocol):
    """Reads attention, while its block is running."""

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        """The attention of a block that has softmax attention; padded on the right, must not be kept."""


@runtime_checkable
class ContributionReader(Protocol):
    """Reads what a block adds, before the state that it leaves."""

    def contribution(self, block: int, part: Summand, rows: Float[Tensor, "batch chosen width"], /) -> None:
        """What one part of a block adds to the rows at the chosen positions, on the part's device."""


@runtime_checkable
class MiddleReader(Protocol):
    """Reads what lies between attention and MLP, in blocks in which something does."""

    def middle(self, block: int, seen: StateSeen, /) -> None:
        """X(block) plus what the attention of the block adds."""


Reader = StateReader | AttentionReader | ContributionReader | MiddleReader


@torch.no_grad()
def read(
    subject: Subject,
    batch: Sequence[Prompt],
    *readers: Reader,
    interventions: Sequence[Intervention] = (),
    positions: Chosen = (0,),
) -> None:
    """Run one batch through the body of the model once and show it to every reader.

    Readers see the model as the interventions change it; contributions are read at the rows of ``positions``, the same
    for every prompt or a row for each. At its end a pass is refused in which a block left something else than its input
    plus what it adds, or a state held an Inf of float16.

    A reader leaves what it keeps on the device, and brings it to the processor when the pass is over: whoever waits for
    a device in the middle of a pass lets it stand idle.
    """
    tokens, lengths = token_batch(subject, batch), lengths_of(batch)
    shown = _Shown(readers, lengths, subject.device)
    with ExitStack() as stack:
        stack.enter_context(intervene(subject, *interventions, lengths=lengths))
        for watching in _watching(subject, shown, positions):
            stack.enter_context(watching)
        subject.parts.body(input_ids=tokens, use_cache=False)
    shown.refuse_overflow()


def lengths_of(batch: Sequence[Prompt]) -> Int[Tensor, " batch"]:
    """Tokens of each prompt."""
    return torch.tensor([len(prompt) for prompt in batch])


def token_batch(subject: Subject, batch: Sequence[Prompt]) -> Int[Tensor, "batch token"]:
    """The batch's tokens, padded on the right, where the model takes them in; the model has to have a row for each."""
    tokens = torch.from_numpy(padded(batch))
    embedding: Any = subject.model.get_input_embeddings()
    rows = embedding.weight.shape[0]
    if int(tokens.max()) >= rows:
        raise ModelError(
            f"the tokenizer gives token {int(tokens.max())}, but the model's embedding has {rows} rows. "
            "Check that the tokenizer belongs to the model."
        )
    return tokens.to(subject.device)


class RowNorms:
    """Keeps the row norms of states."""

    def __init__(self, lengths: Int[Tensor, " batch"]) -> None:
        self.lengths, self.kept = lengths, list[Tensor]()

    def see(self, state: Float[Tensor, "batch token width"]) -> None:
        """Keep those of one more."""
        self.kept.append(metrics.row_norms(state))

    @cached_property
    def pads(self) -> Bool[Tensor, "batch token"]:
        """Where no token is."""
        return torch.arange(self.kept[0].shape[1]) >= self.lengths[:, None]

    @cached_property
    def every(self) -> Float[Tensor, "state batch token"]:
        """All of them on the processor, 0 at pads."""
        return brought(self.kept).masked_fill(self.pads, 0.0)


class EachState:
    """Calls a function with every state."""

    def __init__(self, see: Callable[[int, StateSeen], None]) -> None:
        self.see = see

    def state(self, index: int, seen: StateSeen, /) -> None:
        self.see(index, seen)


class Reduced:
    """Keeps what a function makes of every state, where it was made."""

    def __init__(self, reduce: Callable[[int, StateSeen], Tensor]) -> None:
        self.reduce = reduce
        self.rows = list[Tensor]()

    def state(self, index: int, seen: StateSeen, /) -> None:
        self.rows.append(self.reduce(index, seen))


class SinkRows:
    """Keeps chosen rows of every state, by prompt, and how they stand out; -1, and NaN, where a prompt has none."""

    def __init__(self, batch: Sequence[Prompt], positions: Int[Tensor, "batch chosen"]) -> None:
        self.positions, self.chosen = positions, RowsAt(positions)
        self.kept = list[Float[Tensor, "batch chosen width"]]()
        self.lengths = lengths_of(batch)
        self.norms = RowNorms(self.lengths)

    def state(self, _: int, seen: StateSeen, /) -> None:
        self.kept.append(self.chosen.of(seen.padded))
        self.norms.see(seen.padded)

    @cached_property
    def rows(self) -> Float[Tensor, "state batch chosen width"]:
        """All of them on the processor."""
        return brought(self.kept).double()

    def of(self, number: int, place: int = 0) -> tuple[Float[Tensor, "state width"], list[metrics.SinkRow]]:
        """One row of one prompt, by their places in the batch and among the chosen."""
        return self.rows[:, number, place], self.standing_out(self.norms, number, place)

    def standing_out(self, norms: RowNorms, number: int, place: int) -> list[metrics.SinkRow]:
        """How it stands out wherever row norms were seen."""
        own = norms.every[:, number]
        tokens, sink = (vector.expand(len(own)) for vector in (self.lengths[number], self.positions[number, place]))
        return metrics.sink_rows(own, tokens, sink=sink)


class _Shown:
    """Hands what is seen on to the readers that want it."""

    def __init__(self, readers: Sequence[Reader], lengths: Tensor, entrance: torch.device) -> None:
        self.tokens = tuple(lengths.tolist())
        self.lengths = lengths.to(entrance)  # from where they reach other devices without anybody waiting
        self.there = {entrance: self.lengths}
        self.overflown = list[Tensor]()
        self.of_states = [reader for reader in readers if isinstance(reader, StateReader)]
        self.of_attention = [reader for reader in readers if isinstance(reader, AttentionReader)]
        self.of_contributions = [reader for reader in readers if isinstance(reader, ContributionReader)]
        self.of_middles = [reader for reader in readers if isinstance(reader, MiddleReader)]

    def seen(self, state: Tensor) -> StateSeen:
        if state.device not in self.there:
            self.there[state.device] = self.lengths.to(state.device)
        return StateSeen(state, self.there[state.device], self.tokens)

    def state(self, index: int, state: Tensor, /) -> None:
        seen = self.seen(state)
        if state.dtype == torch.float16:
            real = torch.arange(state.shape[1], device=state.device) < seen.lengths[:, None]
            self.overflown.append((state.isinf().any(-1) & real).any())
        for reader in self.of_states:
            reader.state(index, seen)

    def refuse_overflow(self) -> None:
        if self.overflown and (states := brought(self.overflown).nonzero().flatten().tolist()):
            raise OverflowInFloat16(
                f"state {states[0]} holds an Inf: float16 ends at 65504. Run again with --dtype bfloat16 or float32."
            )

    def middle(self, block: int, state: Tensor, /) -> None:
        seen = self.seen(state)
        for reader in self.of_middles:
            reader.middle(block, seen)

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        for reader in self.of_attention:
            reader.attention(block, seen)

    def contribution(self, block: int, part: Summand, rows: Tensor, /) -> None:
        for reader in self.of_contributions:
            reader.contribution(block, part, rows)


class _WithoutStates:
    """For contributions where the states are shown with the attention."""

    def __init__(self, shown: _Shown) -> None:
        self.contribution = shown.contribution

    def state(self, index: int, state: Tensor, /) -> None:
        """Shown already."""


def _watching(subject: Subject, shown: _Shown, positions: Chosen) -> Iterator[AbstractContextManager[None]]:
    """As little as the readers need, every state being shown once."""
    if shown.of_contributions:  # before attention, so that what does not add up is refused before its state is shown
        yield contributions(subject, _WithoutStates(shown) if shown.of_attention else shown, positions)
    if shown.of_middles:
        yield watch_middles(subject, shown.middle)
    if shown.of_attention:
        yield observe(subject, shown, shown.lengths)
    if not shown.of_contributions and not shown.of_attention:
        yield watch_states(subject, shown.state)

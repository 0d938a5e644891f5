"""What is kept of every prompt's state until its batch has passed, and how it is taken from states on a processor.

Conventions: those of ``_view``; vectors have one row for each state and prompt, the prompts of the first state first.
-1 and NaN stand for what is undefined. ``_kept_there`` takes the same from states on other devices.
"""

# torch.linalg and Tensor.tolist carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from thalweg.catalogue import METRICS
from thalweg.metrics import _spectrum
from thalweg.metrics._eigenvalues import Eigenvalues, eigenvalues
from thalweg.metrics._norms import LIMIT
from thalweg.metrics._theory import Span, massive_columns, span_of, theorem_columns
from thalweg.metrics._view import StateView
from thalweg.shapes import Bool, Float, Int

VARIANTS = tuple(row.name for row in METRICS if row.variant)
WITHOUT_MASSIVE = ("entropy_without_massive", "entropy_without_massive_normalized")
ROUNDING, NOISE = 1e-10, 1e-5
"""By how much a bound may be missed, where eigenvalues came from float64 and from float32."""
Entries = Sequence[tuple[int, int, float]]
"""Position, dimension and value of massive entries, largest magnitude first."""


@dataclass(frozen=True, slots=True)
class Kept:
    """On the device of the states, float64 where nothing else is said.

    Attributes:
        row_sq: squared row norms, 0 at pads.
        inner: inner products of the rows with the sink's.
        spectrum: descending, zeros beyond min(T, d).
        shares: of the span of the massive rows, zeros beyond its dimension.
        exact: whether eigenvalues are float64 throughout.
        others: the columns that take spectra of their own; None where they were not asked for.
        entries: the first massive entries of each.
    """

    row_sq: Float[Tensor, "states token"]
    inner: Float[Tensor, "states token"]
    spectrum: Float[Tensor, "states rank"]
    shares: Float[Tensor, "states massive"]
    median_norm: Float[Tensor, " states"]
    peak_value: Float[Tensor, " states"]
    peak_position: Int[Tensor, " states"]
    peak_dim: Int[Tensor, " states"]
    median_abs: Float[Tensor, " states"]
    massive_row_count: Int[Tensor, " states"]
    massive_rank: Int[Tensor, " states"]
    massive_entry_count: Int[Tensor, " states"]
    exact: Bool[Tensor, " states"]
    others: Mapping[str, Sequence[float | None]]
    entries: Sequence[Entries]


def joined(parts: Sequence[Kept]) -> Kept:
    """Of several runs of states one."""
    if len(parts) == 1:
        return parts[0]

    def together(name: str) -> object:
        values = [getattr(part, name) for part in parts]
        if isinstance(values[0], Mapping):
            return {key: [one for value in values for one in value[key]] for key in values[0]}
        if not isinstance(values[0], Tensor):
            return [one for value in values for one in value]
        if len({value.device for value in values}) > 1:
            values = [value.cpu() for value in values]
        width = max(value.shape[-1] for value in values)
        if values[0].ndim == 2:
            values = [torch.nn.functional.pad(value, (0, width - value.shape[1])) for value in values]
        return torch.cat(values)

    together_by_name: dict[str, object] = {each.name: together(each.name) for each in fields(Kept)}
    return Kept(**together_by_name)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, slots=True)
class _One:
    """The same of one prompt's state."""

    row_sq: Tensor
    inner: Tensor
    spectrum: Tensor
    shares: Tensor
    others: Mapping[str, float]
    median_norm: float = math.nan
    peak_value: float = math.nan
    peak_position: int = -1
    peak_dim: int = -1
    median_abs: float = math.nan
    massive_row_count: int = -1
    massive_rank: int = -1
    massive_entry_count: int = -1
    exact: bool = True
    entries: Entries = field(default=())


class KeptHere:
    """Takes states on the processor prompt by prompt: nothing is spent on pads, and a state fits a cache."""

    def __init__(
        self, tokens: Int[Tensor, " batch"], *, massive_ratio: float, without_massive: Sequence[bool], variants: bool
    ) -> None:
        self.tokens, self.massive_ratio, self.variants = tokens.tolist(), massive_ratio, variants
        self.without_massive = without_massive
        self.found = list[_One]()

    def see(self, state: Float[Tensor, "batch token width"], sinks: Int[Tensor, " batch"], /) -> None:
        """Keep what is needed of the next state; -1 for a prompt without sink."""
        prompts = zip(state, self.tokens, sinks.tolist(), self.without_massive, strict=True)
        for rows, tokens, sink, alone in prompts:
            self.found.append(self._of(StateView(rows[:tokens]), sink, alone=alone))

    def kept(self) -> Kept:
        """All that was seen."""

        def every(name: str) -> Tensor:
            values = [getattr(one, name) for one in self.found]
            return pad_sequence(values, batch_first=True) if isinstance(values[0], Tensor) else numbers(values)

        names = WITHOUT_MASSIVE + (VARIANTS if self.variants else ())
        vectors = [each.name for each in fields(Kept) if each.name not in ("others", "entries")]
        return Kept(
            **{name: every(name) for name in vectors},
            others={name: [one.others.get(name) for one in self.found] for name in names},
            entries=[one.entries for one in self.found],
        )

    def _of(self, view: StateView, sink: int, *, alone: bool) -> _One:
        others = other_entropies(view, sink) if self.variants else {}
        if alone:
            others |= dict(zip(WITHOUT_MASSIVE, _spectrum.without_massive_of(view, self.massive_ratio), strict=True))
        if view.undefined:
            unknown = torch.full((view.rank,), math.nan, dtype=torch.float64)
            return _One(view.row_sq, 0 * view.row_sq, unknown, unknown[:1], others)
        inner = view.inner(sink) if sink >= 0 else 0 * view.row_sq
        span = span_of(view, self.massive_ratio)
        spectrum = _confirmed(view, sink, inner, span)
        position, dim, value = view.peak
        return _One(
            row_sq=view.row_sq,
            inner=inner,
            spectrum=spectrum.values,
            shares=span.shares,
            others=others,
            median_norm=view.median_norm,
            peak_value=value,
            peak_position=position,
            peak_dim=dim,
            median_abs=view.median_abs,
            massive_row_count=span.rows,
            massive_rank=int(span.rank),
            massive_entry_count=len(view.massive_entries),
            entries=view.massive_entries[:LIMIT],
            exact=spectrum.exact,
        )


def violations(spectrum: Tensor, columns: Mapping[str, Tensor], tolerance: Tensor | float) -> Tensor:
    """Which of many spectra contradict the theorem, of the columns by name."""
    whole, entropy = spectrum.sum(-1), _spectrum.entropy(spectrum)
    most = entropy - tolerance * entropy.clamp_min(1)
    rank, sums = columns["massive_rank"], spectrum.cumsum(-1)
    leading = torch.where(rank > 0, sums.gather(-1, (rank - 1).clamp_min(0)[..., None])[..., 0], 0.0) / whole
    found = (
        (spectrum[..., 0] < columns["sigma1_sq_bound"] - tolerance * whole)
        | (spectrum[..., 1:].sum(-1) / whole > (1 - columns["alpha"]) * columns["R"] / whole + tolerance)
        | (leading < columns["massive_share"] - tolerance)
    )
    for name in ("entropy_bound", "entropy_bound_weak", "entropy_bound_massive"):
        found = found | (most > columns[name])
    return found


def _confirmed(view: StateView, sink: int, inner: Tensor, span: Span) -> Eigenvalues:
    """The spectrum; in float64 where float32 would contradict the theorem."""
    found = view.eigenvalues
    if found.exact:
        return found
    columns = {
        **theorem_columns(view.row_sq, inner, *view.shape, sink=torch.tensor(sink)),
        **massive_columns(span.shares, span.rank, *view.shape),
        "massive_rank": span.rank,
    }
    if not bool(violations(found.values, columns, NOISE)):
        return found
    return eigenvalues(view.gram, exact=True)


def other_entropies(view: StateView, sink: int) -> dict[str, float]:
    """What others publish as the entropy."""
    if view.undefined:
        return dict.fromkeys(VARIANTS, math.nan)
    options = {"entropy_without_sink": {"sink_position": sink}}
    return {name: getattr(_spectrum, name)(view.state, **options.get(name, {})) for name in VARIANTS}


def numbers(values: float | int | Sequence[float | int]) -> Tensor:
    """As precise as Python's own."""
    return torch.from_numpy(np.array(values))

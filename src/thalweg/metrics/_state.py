"""Every per-state column of one prompt's state, in one pass.

Conventions: those of the other files; here what is shared is computed once, what is undefined is NaN (None for a
position or a count) with the reason in words, and the theorem is checked on every state. Where eigenvalues came from
float32 the tolerance is 1e-5; a state that misses it is computed again in float64, where the tolerance is 1e-10. Safe
to call from several threads; no global setting is touched.
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
from thalweg.metrics._norms import LIMIT, MassiveActivation, massive_among, norms_columns
from thalweg.metrics._theory import MassiveBound, Span, Theorem, massive_columns, span_of, theorem_columns
from thalweg.metrics._view import StateView
from thalweg.options import MASSIVE_RATIO
from thalweg.shapes import Bool, Float, Int

SPECTRAL = tuple(row.name for row in METRICS if row.needs == ("spectrum",))
VARIANTS = tuple(row.name for row in METRICS if row.variant)
WITHOUT_MASSIVE = ("entropy_without_massive", "entropy_without_massive_normalized")
ROUNDING, NOISE = 1e-10, 1e-5
"""By how much a bound may be missed, where eigenvalues came from float64 and from float32."""
Value = float | int | bool | str | None


@dataclass(frozen=True, slots=True)
class StateMeasurement:
    """The columns of one state, its massive rows and entries, and all row norms.

    ``finite`` is False where it holds NaN or Inf.
    """

    metrics: dict[str, Value]
    massive: tuple[MassiveActivation, ...]
    row_norms: Float[Tensor, " token"] = field(compare=False)
    finite: bool = True


@dataclass(frozen=True)
class StatesMeasurement:
    """The same of all states of a batch.

    Attributes:
        columns: by name, a value for each state and prompt; the prompts of the first state come first.
        massive: for each state and prompt.
        row_norms: 0 at pads.
        finite: False where a state holds NaN or Inf.
    """

    columns: dict[str, list[Value]]
    massive: list[tuple[MassiveActivation, ...]]
    row_norms: Float[Tensor, "state batch token"]
    finite: Bool[Tensor, "state batch"]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is kept of one prompt's state; -1 and NaN for what is undefined."""

    row_sq: Tensor
    inner: Tensor
    spectrum: Tensor
    shares: Tensor
    others: dict[str, float]
    undefined: str | None
    median_norm: float = math.nan
    peak_value: float = math.nan
    peak_position: int = -1
    peak_dim: int = -1
    median_abs: float = math.nan
    massive_row_count: int = -1
    massive_rank: int = -1
    massive_entry_count: int = -1
    entries: Sequence[tuple[int, int, float]] = ()
    exact: bool = True


def measure_state(
    state: Float[Tensor, "token width"],
    /,
    *,
    sink_position: int = 0,
    massive_ratio: float = MASSIVE_RATIO,
    without_massive: bool = True,
    variants: bool = False,
) -> StateMeasurement:
    """Every column of the ``layers`` table for one prompt's state, but for its keys.

    Args:
        state: one prompt's state, real tokens only, any float dtype and device, activation units; left untouched.
        sink_position: the position whose row takes the place of the paper's x_0.
        massive_ratio: row norm against the median row norm from which a row is massive.
        without_massive: also compute the entropies without massive rows, which takes another spectrum; None without.
        variants: also compute what others publish as the entropy.

    Returns:
        The columns by name and at most 16 massive rows and entries. A state that is zero or not finite gives NaN (None
        for positions and counts) with the `reason`; nothing is raised for it.

    Raises:
        ValueError: the state has no token or no dimension, or an option is out of its range.

    Example:
        The rows (2, 0), (1, 0), (0, 1) have sigma_1^2 = 5 = M + alpha R, anisotropy 5/6, norm ratio 2.
    """
    states = StatesOfBatch(
        torch.tensor([len(state)]),
        sink_position=sink_position,
        massive_ratio=massive_ratio,
        without_massive=[without_massive],
        variants=variants,
    )
    states.see(state[None])
    found = states.measured()
    metrics = {name: values[0] for name, values in found.columns.items()}
    return StateMeasurement(metrics, found.massive[0], found.row_norms[0, 0], bool(found.finite[0, 0]))


class StatesOfBatch:
    """Every per-state column of every prompt of a batch, whose states are shown one after the other and let go.

    Of each state vectors of length T are kept, its spectrum, and what stands out of it. Whatever follows from these is
    computed at the end, for all states and prompts at once.

    Args:
        lengths: T of each prompt; states are padded on the right.
        sink_position: as in `measure_state`, for all prompts.
        massive_ratio: as there.
        without_massive: as there, for each prompt; for all by default.
        variants: as there.

    Raises:
        ValueError: an option is out of its range.

    Example:
        >>> states = StatesOfBatch(torch.tensor([3]))
        >>> states.see(torch.tensor([[[2.0, 0.0], [1.0, 0.0], [0.0, 1.0]]]))
        >>> states.measured().columns["sigma1_sq_bound"]
        [5.0]
    """

    def __init__(
        self,
        lengths: Int[Tensor, " batch"],
        *,
        sink_position: int = 0,
        massive_ratio: float = MASSIVE_RATIO,
        without_massive: Sequence[bool] | None = None,
        variants: bool = False,
    ) -> None:
        if sink_position < 0:
            raise ValueError(f"`sink_position` counts from 0; got {sink_position}.")
        if not massive_ratio > 1:
            raise ValueError(f"`massive_ratio` compares with the median row and must exceed 1; got {massive_ratio}.")
        self.tokens, self.sink_position, self.massive_ratio = lengths.cpu(), sink_position, massive_ratio
        self.without_massive = without_massive or [True] * len(lengths)
        self.variants = variants
        self.kept, self.sinks, self.width = list[_Kept](), list[Tensor](), 0

    def see(self, state: Float[Tensor, "batch token width"], /, sinks: Int[Tensor, " batch"] | None = None) -> None:
        """Keep what is needed of the next state.

        Args:
            state: padded on the right, any float dtype and device, activation units; left untouched.
            sinks: the sink of each prompt, -1 for none, where it is not at the same position in all.

        Raises:
            ValueError: the state has no token or no dimension.
        """
        if sinks is None:
            sinks = torch.where(self.tokens > self.sink_position, self.sink_position, -1)
        prompts = zip(state, self.tokens.tolist(), sinks.tolist(), self.without_massive, strict=True)
        self.kept += [self._keep(StateView(rows[:tokens]), sink, alone=alone) for rows, tokens, sink, alone in prompts]
        self.sinks.append(sinks.cpu())
        self.width = state.shape[2]

    def measured(self) -> StatesMeasurement:
        """What the states that were shown say: the columns of the ``layers`` table, but for its keys."""
        sink, width = torch.stack(self.sinks), self.width
        tokens = self.tokens.expand(sink.shape)

        def every(name: str) -> Tensor:
            values = [getattr(one, name) for one in self.kept]
            is_vector = isinstance(values[0], Tensor)
            return (pad_sequence(values, batch_first=True) if is_vector else _numbers(values)).unflatten(0, sink.shape)

        row_sq, spectrum = every("row_sq"), every("spectrum")
        norms = row_sq.sqrt()
        columns = {
            **_spectral(spectrum, tokens.clamp_max(width)),
            **norms_columns(norms, every("median_norm"), tokens, sink=sink),
            **{name: every(name) for name in ("peak_value", "peak_position", "peak_dim", "median_abs")},
            **theorem_columns(row_sq, every("inner"), tokens, width, sink=sink),
            **{name: every(name) for name in ("massive_row_count", "massive_rank", "massive_entry_count")},
            **massive_columns(every("shares"), every("massive_rank"), tokens, width),
        }
        columns["bound_violated"] = violations(spectrum, columns, torch.where(every("exact"), ROUNDING, NOISE))
        return StatesMeasurement(
            columns={
                **{name: _listed(values) for name, values in columns.items()},
                **{name: [one.others.get(name) for one in self.kept] for name in self._other_names()},
                "reason": self._reasons(columns),
            },
            massive=self._massive(norms),
            row_norms=norms,
            finite=norms.isfinite().all(-1),
        )

    def _keep(self, view: StateView, sink: int, *, alone: bool) -> _Kept:
        others = _other_entropies(view, sink) if self.variants else {}
        if alone:
            others |= dict(zip(WITHOUT_MASSIVE, _spectrum.without_massive_of(view, self.massive_ratio), strict=True))
        if view.undefined:
            unknown = torch.full((view.rank,), math.nan, dtype=torch.float64)
            return _Kept(view.row_sq, 0 * view.row_sq, unknown, unknown[:1], others, view.undefined)
        inner = view.inner(sink) if sink >= 0 else 0 * view.row_sq
        span = span_of(view, self.massive_ratio)
        spectrum = _confirmed(view, sink, inner, span)
        position, dim, value = view.peak
        return _Kept(
            row_sq=view.row_sq,
            inner=inner,
            spectrum=spectrum.values,
            shares=span.shares,
            others=others,
            undefined=None,
            median_norm=view.median_norm,
            peak_value=value,
            peak_position=position,
            peak_dim=dim,
            median_abs=view.median_abs,
            massive_row_count=span.rows,
            massive_rank=len(span.shares),
            massive_entry_count=len(view.massive_entries),
            entries=view.massive_entries[:LIMIT],
            exact=spectrum.exact,
        )

    def _other_names(self) -> tuple[str, ...]:
        return WITHOUT_MASSIVE + (VARIANTS if self.variants else ())

    def _massive(self, norms: Tensor) -> list[tuple[MassiveActivation, ...]]:
        """The massive rows and entries of each state and prompt."""
        least = self.massive_ratio * _numbers([one.median_norm for one in self.kept])
        rows = norms.flatten(0, 1)
        standing = (rows >= least[:, None]) & (rows > 0)
        places: list[list[int]] = [[] for _ in self.kept]
        for number, position in standing.nonzero().tolist():
            places[number].append(position)
        return [
            tuple(massive_among(own, norm, one.entries)) if own or one.entries else ()
            for own, norm, one in zip(places, rows, self.kept, strict=True)
        ]

    def _reasons(self, columns: Mapping[str, Tensor]) -> list[Value]:
        """Why some columns are NaN, in words; None where none is."""
        rank = self.tokens.clamp_max(self.width)
        said = (
            (self.tokens == 1, "one token: nothing to compare it with"),
            ((self.tokens > 1) & (rank < 3), "min(T, d) = {rank}: no third singular value"),
            (torch.stack(self.sinks) < 0, f"no token at sink position {self.sink_position}"),
            (columns["M"] == 0, "the sink's row is zero"),
            ((columns["R"] == 0) & (self.tokens > 1), "every row but the sink's is zero"),
        )
        found: list[list[str]] = [[] for _ in self.kept]
        for flags, words in said:
            for number in flags.expand(len(self.sinks), -1).flatten().nonzero().flatten().tolist():
                found[number].append(words.format(rank=int(rank[number % len(rank)])))
        return [one.undefined or "; ".join(words) or None for one, words in zip(self.kept, found, strict=True)]


def bound_violated(
    spectrum: Float[Tensor, " rank"], /, *, bounds: Theorem, massive: MassiveBound, tolerance: float
) -> bool:
    """Whether a spectrum contradicts the theorem, which only a mistake can bring about.

    Args:
        spectrum: squared singular values, descending.
        bounds: the theorem's terms for the same state; NaN bounds are not checked.
        massive: the bound for several massive rows.
        tolerance: relative to the squared Frobenius norm; relative to the larger of 1 and H for entropies.

    Returns:
        True where sigma_1^2, its share, the entropy, or the sum of the first k eigenvalues is on the wrong side of a
        bound.

    Example:
        The spectrum (5, 1) of the rows (2, 0), (1, 0), (0, 1) meets them; (3, 3) does not.
    """
    # None, of a state without a number of massive rows, enters no bound
    terms = {each.name: getattr(record, each.name) for record in (bounds, massive) for each in fields(record)}
    columns = {name: _numbers(0 if value is None else value) for name, value in terms.items()}
    return bool(violations(spectrum, columns, torch.tensor(tolerance)))


def violations(spectrum: Tensor, columns: Mapping[str, Tensor], tolerance: Tensor) -> Tensor:
    """The same for many states, of the columns by name."""
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
    rank = torch.tensor(len(span.shares))
    columns = {
        **theorem_columns(view.row_sq, inner, *view.shape, sink=torch.tensor(sink)),
        **massive_columns(span.shares, rank, *view.shape),
        "massive_rank": rank,
    }
    if not bool(violations(found.values, columns, torch.tensor(NOISE))):
        return found
    return eigenvalues(view.gram, exact=True)


def _spectral(spectrum: Tensor, rank: Tensor) -> dict[str, Tensor]:
    """What a spectrum says, of spectra of different lengths with zeros at their ends."""
    columns = {name: getattr(_spectrum, name)(spectrum) for name in SPECTRAL}
    most = torch.where(rank > 1, rank.double().log(), math.nan)
    columns["entropy_normalized"] = (columns["entropy"] / most).clamp_max(1)
    for order in (2, 3):
        column = columns[f"sigma{order}_sq"]
        columns[f"sigma{order}_sq"] = torch.where(rank >= order, column, math.nan)
    return columns


def _other_entropies(view: StateView, sink: int) -> dict[str, float]:
    if view.undefined:
        return dict.fromkeys(VARIANTS, math.nan)
    options = {"entropy_without_sink": {"sink_position": sink}}
    return {name: getattr(_spectrum, name)(view.state, **options.get(name, {})) for name in VARIANTS}


def _numbers(values: float | int | Sequence[float | int]) -> Tensor:
    """As precise as Python's own."""
    return torch.from_numpy(np.array(values))


def _listed(values: Tensor) -> list[Value]:
    """In order, None for a position or a count below 0."""
    listed = values.flatten().tolist()
    return [None if value == -1 else value for value in listed] if values.dtype == torch.int64 else listed

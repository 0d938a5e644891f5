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
from functools import partial

import torch
from torch import Tensor

from thalweg.catalogue import METRICS
from thalweg.metrics import _spectrum
from thalweg.metrics._copies import here
from thalweg.metrics._kept import NOISE, ROUNDING, Entries, KeptHere, joined, numbers, violations
from thalweg.metrics._kept_there import KeptThere
from thalweg.metrics._norms import MassiveActivation, massive_among, norms_columns
from thalweg.metrics._theory import MassiveBound, Theorem, massive_columns, theorem_columns
from thalweg.options import MASSIVE_RATIO
from thalweg.shapes import Bool, Float, Int

SPECTRAL = tuple(row.name for row in METRICS if row.needs == ("spectrum",))
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
        self.kept, self.sinks, self.width = list[KeptHere | KeptThere](), list[Tensor](), 0
        self.place = torch.device("cpu")

    def see(self, state: Float[Tensor, "batch token width"], /, sinks: Int[Tensor, " batch"] | None = None) -> None:
        """Keep what is needed of the next state.

        Args:
            state: padded on the right, any float dtype and device, activation units; left untouched.
            sinks: the sink of each prompt, -1 for none, where it is not at the same position in all.

        Raises:
            ValueError: the state has no token or no dimension.
        """
        if 0 in state.shape:
            raise ValueError(f"A state needs at least one token and one dimension; got shape {tuple(state.shape)}.")
        if sinks is None:
            sinks = torch.where(self.tokens > self.sink_position, self.sink_position, -1)
        sinks = sinks.cpu()
        if not self.kept or state.device != self.place:
            self.place = state.device
            self.kept.append(self._keeper())
        self.kept[-1].see(state, sinks)
        self.sinks.append(sinks)
        self.width = state.shape[2]

    def _keeper(self) -> KeptHere | KeptThere:
        one_by_one = self.place.type in ("cpu", "mps")  # Apple's GPU has no float64
        make = KeptHere if one_by_one else partial(KeptThere, device=self.place)
        return make(
            self.tokens,
            massive_ratio=self.massive_ratio,
            without_massive=self.without_massive,
            variants=self.variants,
        )

    def measured(self) -> StatesMeasurement:
        """What the states that were shown say: the columns of the ``layers`` table, but for its keys."""
        kept, width = joined([each.kept() for each in self.kept]), self.width
        sinks = torch.stack(self.sinks)
        sink, tokens = torch.stack([sinks, self.tokens.expand(sinks.shape)]).to(kept.row_sq.device)

        def every(name: str) -> Tensor:
            return getattr(kept, name).unflatten(0, sink.shape)

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
        norms, *copies = here(norms, *columns.values())
        columns = dict(zip(columns, copies, strict=True))
        return StatesMeasurement(
            columns={
                **{name: _listed(values) for name, values in columns.items()},
                **{name: list(values) for name, values in kept.others.items()},
                "reason": self._reasons(norms, columns),
            },
            massive=self._massive(norms, columns["median_norm"], kept.entries),
            row_norms=norms,
            finite=norms.isfinite().all(-1),
        )

    def _massive(
        self, norms: Tensor, median_norm: Tensor, entries: Sequence[Entries]
    ) -> list[tuple[MassiveActivation, ...]]:
        """The massive rows and entries of each state and prompt."""
        rows = norms.flatten(0, 1)
        standing = (norms >= self.massive_ratio * median_norm[..., None]).flatten(0, 1) & (rows > 0)
        places: list[list[int]] = [[] for _ in rows]
        for number, position in standing.nonzero().tolist():
            places[number].append(position)
        return [
            tuple(massive_among(own, norm, those)) if own or those else ()
            for own, norm, those in zip(places, rows, entries, strict=True)
        ]

    def _reasons(self, norms: Tensor, columns: Mapping[str, Tensor]) -> list[Value]:
        """Why some columns are NaN, in words; None where none is."""
        rank = self.tokens.clamp_max(self.width)
        finite = norms.isfinite().all(-1)
        defined = finite & (norms > 0).any(-1)
        said = (
            (~finite, "the state is not finite"),
            (finite & ~defined, "the state is zero"),
            (defined & (self.tokens == 1), "one token: nothing to compare it with"),
            (defined & (self.tokens > 1) & (rank < 3), "min(T, d) = {rank}: no third singular value"),
            (defined & (torch.stack(self.sinks) < 0), f"no token at sink position {self.sink_position}"),
            (columns["M"] == 0, "the sink's row is zero"),
            ((columns["R"] == 0) & (self.tokens > 1), "every row but the sink's is zero"),
            (defined & (columns["massive_rank"] < 0), "more massive rows than are kept of a state longer than wide"),
        )
        found: list[list[str]] = [[] for _ in finite.flatten()]
        for flags, words in said:
            for number in flags.flatten().nonzero().flatten().tolist():
                found[number].append(words.format(rank=int(rank[number % len(rank)])))
        return ["; ".join(words) or None for words in found]


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
    columns = {name: numbers(0 if value is None else value) for name, value in terms.items()}
    return bool(violations(spectrum, columns, torch.tensor(tolerance)))


def _spectral(spectrum: Tensor, rank: Tensor) -> dict[str, Tensor]:
    """What a spectrum says, of spectra of different lengths with zeros at their ends."""
    columns = {name: getattr(_spectrum, name)(spectrum) for name in SPECTRAL}
    most = torch.where(rank > 1, rank.double().log(), math.nan)
    columns["entropy_normalized"] = (columns["entropy"] / most).clamp_max(1)
    for order in (2, 3):
        column = columns[f"sigma{order}_sq"]
        columns[f"sigma{order}_sq"] = torch.where(rank >= order, column, math.nan)
    return columns


def _listed(values: Tensor) -> list[Value]:
    """In order, None for a position or a count below 0."""
    listed = values.flatten().tolist()
    return [None if value == -1 else value for value in listed] if values.dtype == torch.int64 else listed

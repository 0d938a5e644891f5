"""What ``_kept`` says, taken from states on a device: of all prompts at once, and without waiting for it.

Conventions: those of ``_kept``. Of each state vectors stay on the device, and its Gram matrix. Its products of half
precision are exact in float32, in which they are summed; that leaves up to 2e-6 nats in an entropy. float32 is
multiplied as float64, which no setting makes coarser. Over dimensions a massive row would enter every sum, and the
others would drown in its rounding, so the `MOST` largest rows stay themselves, and their products are added in float64;
where more are massive, what these say is undefined. When the batch has passed, or the matrices fill `SHARE` of the free
memory, spectra are computed for all of them together.
"""

# torch.linalg and Tensor.tolist carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from thalweg.metrics import _spectrum
from thalweg.metrics._copies import here
from thalweg.metrics._kept import NOISE, VARIANTS, WITHOUT_MASSIVE, Entries, Kept, joined, other_entropies, violations
from thalweg.metrics._norms import median_norms
from thalweg.metrics._spectra import spectra
from thalweg.metrics._theory import massive_columns, span_shares, theorem_columns
from thalweg.metrics._vectors import StateVectors, state_vectors
from thalweg.metrics._view import StateView
from thalweg.shapes import Bool, Float, Int

HALF = (torch.bfloat16, torch.float16)
MOST = 64
PIECE = 2**26  # numbers that are float64 at once
NUMBERS = 2**26, 2**29  # of Gram matrices that are kept, at least and at most
SHARE = 1 / 100  # numbers kept, over free bytes: spectra take some twenty bytes a number


@dataclass(slots=True)
class _Run:
    """What is kept of several states until their matrices are reduced; over dimensions `inner` and `largest` too."""

    vectors: list[StateVectors]
    grams: list[Float[Tensor, "batch size size"]]
    sinks: list[Int[Tensor, " batch"]]
    inner: list[Float[Tensor, "batch token"]]
    largest: list[Float[Tensor, "batch row width"]]

    @classmethod
    def empty(cls) -> "_Run":
        return cls([], [], [], [], [])


class KeptThere:
    """Takes states on one device batch by batch."""

    def __init__(
        self,
        tokens: Int[Tensor, " batch"],
        device: torch.device,
        *,
        massive_ratio: float,
        without_massive: Sequence[bool],
        variants: bool,
    ) -> None:
        self.here, self.tokens = tokens, tokens.to(device)
        self.massive_ratio, self.variants = massive_ratio, variants
        self.alone = [number for number, asked in enumerate(without_massive) if asked]
        self.alone_there = torch.tensor(self.alone, dtype=torch.long, device=device)
        self.sinks, self.sinks_there = tokens.new_empty(0), self.tokens
        self.room, self.width = _room(device), 0
        self.run = _Run.empty()
        self.variants_found = list[dict[str, float]]()
        self.parts, self.others = list[Kept](), list[Tensor]()

    def see(self, state: Float[Tensor, "batch token width"], sinks: Int[Tensor, " batch"], /) -> None:
        """Keep what is needed of the next state; -1 for a prompt without sink."""
        state, self.width = state.detach(), state.shape[2]
        if not torch.equal(sinks, self.sinks):
            self.sinks, self.sinks_there = sinks, sinks.to(state.device)
        if self.variants:
            views = (StateView(rows[:tokens]) for rows, tokens in zip(state, self.here.tolist(), strict=True))
            pairs = zip(views, sinks.tolist(), strict=True)
            self.variants_found += [other_entropies(view, sink) for view, sink in pairs]
        vectors, run = state_vectors(state, self.tokens), self.run
        run.vectors.append(vectors)
        run.sinks.append(self.sinks_there)
        if state.shape[1] <= state.shape[2]:
            run.grams.append(_products(state))
        else:
            self._over_dimensions(state, vectors.row_sq)
        if (len(run.grams) + 1) * run.grams[-1].numel() > self.room:
            self._reduce()

    def kept(self) -> Kept:
        """All that was seen, on the device."""
        self._reduce()
        kept, (others,) = joined(self.parts), here(torch.cat(self.others, dim=1))
        found: dict[str, Sequence[float | None]] = {}
        for name, of_states in zip(WITHOUT_MASSIVE, others.tolist(), strict=True):
            by_prompt = [dict(zip(self.alone, values, strict=True)) for values in of_states]
            found[name] = [values.get(number) for values in by_prompt for number in range(len(self.here))]
        if self.variants:
            found |= {name: [one[name] for one in self.variants_found] for name in VARIANTS}
        return replace(kept, others=found)

    def _over_dimensions(self, state: Tensor, row_sq: Tensor) -> None:
        """Inner products with the sink's row, the largest rows, and the Gram matrix of all others."""
        sink = _rows(state, self.sinks_there.clamp_min(0)[:, None]).mT
        if state.dtype in HALF:
            inner = _half_product(state, sink)
        else:
            inner = torch.cat([piece.double() @ sink.double() for piece in _pieces(state)], dim=1)
        positions = row_sq.topk(min(MOST, state.shape[1])).indices
        others = self._real(state.shape[1]).scatter(1, positions, value=False)
        real = (positions < self.tokens[:, None])[..., None]
        self.run.inner.append(inner[..., 0].double())
        self.run.largest.append(torch.where(real, _rows(state, positions), 0.0))
        self.run.grams.append(_products(torch.where(others[..., None], state, 0.0).mT))

    def _real(self, length: int) -> Bool[Tensor, "batch token"]:
        return torch.arange(length, device=self.tokens.device) < self.tokens[:, None]

    def _massive(self, row_sq: Tensor, tokens: Tensor) -> Bool[Tensor, "states token"]:
        norms = row_sq.sqrt()
        return (norms >= self.massive_ratio * median_norms(norms, tokens)[:, None]) & (norms > 0)

    def _dropped(self, row_sq: Tensor, tokens: Tensor) -> Bool[Tensor, "states token"]:
        """The massive rows, the largest where none is."""
        massive = self._massive(row_sq, tokens)
        largest = torch.zeros_like(massive).scatter_(1, row_sq.argmax(1, keepdim=True), value=True)
        return torch.where(massive.any(1, keepdim=True), massive, largest)

    def _reduce(self) -> None:
        """Spectra, and all else that follows from the matrices."""
        if not self.run.vectors:
            return
        run, self.run = self.run, _Run.empty()
        vectors = StateVectors(*(torch.cat(each) for each in zip(*run.vectors, strict=True)))
        row_sq, peaks, dims, median, entry_count, entries = vectors
        states, sinks = len(run.vectors), torch.cat(run.sinks)
        tokens, real = self.tokens.repeat(states), self._real(row_sq.shape[1]).repeat(states, 1)
        defined = row_sq.isfinite().all(-1) & (row_sq.sum(-1) > 0)
        grams, inner, largest = self._matrices(run, sinks, real, defined)
        massive = self._massive(row_sq, tokens) & defined[:, None]
        rows, rank, shares = self._span(row_sq, massive, grams, largest)
        columns = {
            **theorem_columns(row_sq, inner, tokens, self.width, sink=sinks),
            **massive_columns(shares, rank, tokens, self.width),
            "massive_rank": rank,
        }
        self.others.append(self._without_massive(row_sq, defined, grams, largest))
        exact_products = grams.dtype == torch.float64
        if largest is not None:
            grams = torch.baddbmm(grams.double(), largest.mT, largest)
        ranks = tokens.clamp_max(self.width) * defined
        spectrum, exact = spectra(grams, ranks, lambda found: violations(found, columns, NOISE))
        place = peaks.abs().nan_to_num(-1.0).argmax(-1, keepdim=True)
        entries, counts = here(entries, torch.where(defined, entry_count, 0))

        def or_none(values: Tensor) -> Tensor:
            return values.masked_fill(~defined, -1)

        def or_nan(values: Tensor) -> Tensor:
            return values.double().masked_fill(~defined, math.nan)

        self.parts.append(
            Kept(
                row_sq=row_sq[:, : int(self.here.max())],
                inner=torch.where(defined[:, None], inner, 0.0)[:, : int(self.here.max())],
                spectrum=spectrum,
                shares=shares.masked_fill(~defined[:, None], math.nan),
                median_norm=or_nan(median_norms(row_sq.sqrt(), tokens)),
                peak_value=or_nan(peaks.gather(1, place)[:, 0]),
                peak_position=or_none(place[:, 0]),
                peak_dim=or_none(dims.gather(1, place)[:, 0]),
                median_abs=or_nan(median),
                massive_row_count=or_none(rows),
                massive_rank=or_none(rank),
                massive_entry_count=or_none(entry_count),
                exact=exact & exact_products,
                others={},
                entries=[_entries(*each) if each[1] else () for each in zip(entries, counts.tolist(), strict=True)],
            )
        )

    def _matrices(
        self, run: _Run, sinks: Tensor, real: Tensor, defined: Tensor
    ) -> tuple[Tensor, Tensor, Float[Tensor, "states row width"] | None]:
        """Gram matrices, with zeros for pads and undefined states; products with the sink; the largest rows."""
        grams, largest = _emptied(run.grams), _emptied(run.largest) if run.largest else None
        if largest is not None:
            grams.masked_fill_(~defined[:, None, None], 0.0)
            largest = torch.where(defined[:, None, None], largest.double(), 0.0)
            return grams, torch.where(real, torch.cat(run.inner), 0.0), largest
        there = real & defined[:, None]
        grams.masked_fill_(~there[:, None], 0.0).masked_fill_(~there[..., None], 0.0)
        at = sinks.clamp_min(0)[:, None, None].expand(-1, grams.shape[1], 1)
        return grams, grams.gather(2, at)[..., 0].double(), None

    def _span(
        self, row_sq: Tensor, massive: Tensor, grams: Tensor, largest: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """How many rows are massive, the dimension of their span, and the shares in it."""
        rows = massive.sum(-1)
        most = int(rows.max())
        if not most:
            return rows, rows, row_sq[:, :1] * 0
        count = most if largest is None else min(most, largest.shape[1])
        positions = row_sq.masked_fill(~massive, -1.0).topk(count).indices
        there = (torch.arange(count, device=rows.device) < rows[:, None])[:, None]
        if largest is None:
            products = grams.gather(2, positions[:, None].expand(-1, grams.shape[1], -1)).double() * there
            among = products.gather(1, positions[..., None].expand(-1, -1, count)) * there.mT
            through = products.mT @ products
        else:
            own = largest[:, :count] * there.mT  # by their norms, as they were kept
            products = largest @ own.mT
            among, through = own @ own.mT, own @ grams.double() @ own.mT + products.mT @ products
        rank, shares = span_shares(among, through, row_sq.sum(-1))
        unknown = rows > count
        return rows, rank.masked_fill(unknown, -1), shares.masked_fill(unknown[:, None], math.nan)

    def _without_massive(
        self, row_sq: Tensor, defined: Tensor, grams: Tensor, largest: Tensor | None
    ) -> Float[Tensor, "two states alone"]:
        """Entropy without the massive rows, and normalized, of the prompts that want it."""
        states = len(row_sq) // len(self.here)

        def own(values: Tensor) -> Tensor:
            return values.unflatten(0, (states, -1))[:, self.alone_there].flatten(0, 1)

        tokens = self.tokens[self.alone_there].repeat(states)
        dropped = self._dropped(own(row_sq), tokens)
        if largest is None:
            left = (~dropped).to(grams.dtype)
            remaining = own(grams) * left[:, None] * left[..., None]
        else:
            rows = own(largest)
            left = torch.arange(rows.shape[1], device=rows.device) >= dropped.sum(-1, keepdim=True)
            rows = rows * left[..., None]
            remaining = torch.baddbmm(own(grams).double(), rows.mT, rows)
        rank = (tokens - dropped.sum(-1)).clamp(0, self.width) * own(defined)
        if largest is not None:  # rows beyond those that were kept are still in the matrix
            rank = rank.masked_fill(dropped.sum(-1) > largest.shape[1], 0)
        entropy = _spectrum.entropy(spectra(remaining, rank)[0])
        normalized = entropy / torch.where(rank > 1, rank.double().log(), math.nan)
        return torch.stack([entropy, normalized]).unflatten(1, (states, -1))


def _emptied(matrices: list[Tensor]) -> Tensor:
    """All of them as one, and nothing in the list."""
    together = torch.cat(matrices) if matrices else torch.empty(0)
    matrices.clear()
    return together


def _room(device: torch.device) -> int:
    """Numbers of Gram matrices that are kept before they are reduced."""
    least, most = NUMBERS
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    return int(min(most, max(least, SHARE * free)))


def _rows(state: Tensor, positions: Tensor) -> Tensor:
    """Rows of each prompt by their positions."""
    return state.gather(1, positions[..., None].expand(-1, -1, state.shape[2]))


def _pieces(rows: Tensor) -> tuple[Tensor, ...]:
    return rows.split(max(1, PIECE // (len(rows) * rows.shape[2])), dim=1)


def _products(rows: Float[Tensor, "batch row column"]) -> Float[Tensor, "batch row row"]:
    """All inner products of the rows of each matrix."""
    if rows.dtype in HALF:
        return _half_product(rows, rows.mT)
    pieces = [piece.double() for piece in _pieces(rows.mT)]
    return sum((piece.mT @ piece for piece in pieces[1:]), start=pieces[0].mT @ pieces[0])


def _half_product(left: Tensor, right: Tensor) -> Tensor:
    """A product in half precision, summed in float32."""
    if left.device.type == "cuda":
        return torch.bmm(left, right, out_dtype=torch.float32)
    return torch.bmm(left.float(), right.float())


def _entries(found: Float[Tensor, "three entry"], count: int) -> Entries:
    order = np.lexsort((found[1], found[0], -found[2].abs()))
    return [(int(position), int(dim), value) for position, dim, value in found.T[order][:count].tolist()]

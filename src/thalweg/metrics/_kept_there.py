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
from thalweg.metrics._kept import NOISE, VARIANTS, WITHOUT_MASSIVE, Entries, Kept, joined, other_entropies, violations
from thalweg.metrics._medians import median_magnitudes
from thalweg.metrics._norms import LIMIT, median_norms
from thalweg.metrics._spectra import spectra
from thalweg.metrics._theory import massive_columns, span_shares, theorem_columns
from thalweg.metrics._view import ENTRY_FLOOR, ENTRY_RATIO, StateView
from thalweg.shapes import Bool, Float, Int

HALF = (torch.bfloat16, torch.float16)
MOST = 64
PIECE = 2**26  # numbers that are float64 at once
NUMBERS = 2**26, 2**29  # of Gram matrices that are kept, at least and at most
SHARE = 1 / 100  # numbers kept, over free bytes: spectra take some twenty bytes a number


@dataclass(frozen=True, slots=True)
class _Seen:
    """The vectors that stay of one state, rows for its prompts."""

    row_sq: Float[Tensor, "batch token"]
    inner: Float[Tensor, "batch token"]
    peaks: Float[Tensor, "batch token"]
    peak_dims: Int[Tensor, "batch token"]
    median: Float[Tensor, " batch"]
    entry_count: Int[Tensor, " batch"]
    entries: Float[Tensor, "batch three entry"]


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
        self.room, self.width = 0, 0
        self.seen, self.all_sinks = list[_Seen](), list[Tensor]()
        # Gram matrices; over dimensions without the largest rows, and these
        self.grams, self.largest = list[Tensor](), list[Tensor]()
        self.variants_found = list[dict[str, float]]()
        self.parts = list[Kept]()

    def see(self, state: Float[Tensor, "batch token width"], sinks: Int[Tensor, " batch"], /) -> None:
        """Keep what is needed of the next state; -1 for a prompt without sink."""
        state, self.width = state.detach(), state.shape[2]
        if not torch.equal(sinks, self.sinks):
            self.sinks, self.sinks_there = sinks, sinks.to(state.device)
        if self.variants:
            views = (StateView(rows[:tokens]) for rows, tokens in zip(state, self.here.tolist(), strict=True))
            pairs = zip(views, sinks.tolist(), strict=True)
            self.variants_found += [other_entropies(view, sink) for view, sink in pairs]
        if self.here.min() < state.shape[1]:
            pads = torch.arange(state.shape[1], device=state.device) >= self.tokens[:, None]
            state = state.masked_fill(pads[..., None], 0.0)
        if not self.seen:
            self.room = _room(state.device)
        self.seen.append(self._of(state))
        self.all_sinks.append(self.sinks_there)
        if (len(self.grams) + 1) * self.grams[-1].numel() > self.room:
            self._reduce()

    def kept(self) -> Kept:
        """All that was seen."""
        self._reduce()
        kept = joined(self.parts)
        if not self.variants:
            return kept
        variants = {name: [one[name] for one in self.variants_found] for name in VARIANTS}
        return replace(kept, others={**kept.others, **variants})

    def _of(self, state: Tensor) -> _Seen:
        by_token = state.shape[1] <= state.shape[2]
        magnitudes = state.abs()
        peaks, dims = magnitudes.max(-1)
        median = median_magnitudes(magnitudes, self.tokens)
        threshold = (ENTRY_RATIO * median).clamp_min(ENTRY_FLOOR)[:, None, None]
        row_sq = torch.linalg.vector_norm(state, dim=-1, dtype=torch.float64).square()
        self.grams.append(_products(state) if by_token else self._over_dimensions(state, row_sq))
        return _Seen(
            row_sq=row_sq,
            inner=self._inner(state, self.grams[-1] if by_token else None),
            peaks=state.gather(2, dims[..., None])[..., 0],
            peak_dims=dims,
            median=median,
            entry_count=(magnitudes > threshold).sum((1, 2)),
            entries=_largest_entries(state, peaks),
        )

    def _inner(self, state: Tensor, gram: Tensor | None) -> Tensor:
        at = self.sinks_there.clamp_min(0)[:, None]
        if gram is not None:
            return gram.gather(2, at[:, None].expand(-1, gram.shape[1], 1))[..., 0].double()
        sink = _rows(state, at).mT
        if state.dtype in HALF:
            return _half_product(state, sink)[..., 0].double()
        return torch.cat([piece.double() @ sink.double() for piece in _pieces(state)], dim=1)[..., 0]

    def _over_dimensions(self, state: Tensor, row_sq: Tensor) -> Tensor:
        """The Gram matrix of all rows but the largest, which are kept."""
        positions = row_sq.topk(min(MOST, state.shape[1])).indices
        self.largest.append(_rows(state, positions))
        others = torch.ones_like(row_sq, dtype=torch.bool).scatter_(1, positions, value=False)
        return _products(torch.where(others[..., None], state, 0.0).mT)

    def _massive(self, row_sq: Tensor, tokens: Tensor) -> Bool[Tensor, "states token"]:
        norms = row_sq.sqrt()
        return (norms >= self.massive_ratio * median_norms(norms, tokens)[:, None]) & (norms > 0)

    def _dropped(self, row_sq: Tensor, tokens: Tensor) -> Bool[Tensor, "states token"]:
        """The massive rows, the largest where none is."""
        massive = self._massive(row_sq, tokens)
        largest = torch.zeros_like(massive).scatter_(1, row_sq.argmax(1, keepdim=True), value=True)
        return torch.where(massive.any(1, keepdim=True), massive, largest)

    def _reduce(self) -> None:
        """Spectra and all that follows from the matrices, in a few copies to the processor."""
        if not self.seen:
            return
        seen, self.seen = self.seen, []
        states, sinks, self.all_sinks = len(seen), torch.cat(self.all_sinks), []
        grams, largest = _emptied(self.grams), _emptied(self.largest)
        tokens = self.tokens.repeat(states)
        row_sq, inner, peaks = (
            torch.cat([getattr(one, name) for one in seen]) for name in ("row_sq", "inner", "peaks")
        )
        defined = row_sq.isfinite().all(-1) & (row_sq.sum(-1) > 0)
        grams.masked_fill_(~defined[:, None, None], 0.0)
        largest = torch.where(defined[:, None, None], largest.double(), 0.0) if len(largest) else None
        massive = self._massive(row_sq, tokens) & defined[:, None]
        rows, rank, shares = self._span(row_sq, massive, grams, largest)
        columns = {
            **theorem_columns(row_sq, inner, tokens, self.width, sink=sinks),
            **massive_columns(shares, rank, tokens, self.width),
            "massive_rank": rank,
        }
        ranks, exact_products = tokens.clamp_max(self.width) * defined, grams.dtype == torch.float64
        others = self._without_massive(row_sq, defined, grams, largest)
        if largest is not None:
            grams = torch.baddbmm(grams.double(), largest.mT, largest)
        spectrum, exact = spectra(grams, ranks, lambda found: violations(found, columns, NOISE))
        small = [
            torch.cat([one.median for one in seen]),
            torch.cat([one.entry_count for one in seen]),
            rows,
            rank,
            exact & exact_products,
        ]
        self._take(
            defined,
            vectors=torch.stack([row_sq, inner, peaks.double(), torch.cat([one.peak_dims for one in seen]).double()]),
            spectrum=spectrum,
            shares=shares,
            small=torch.stack([each.double() for each in (defined, *small)]),
            others=others,
            entries=torch.cat([one.entries for one in seen]),
        )

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
        entropy = _spectrum.entropy(spectra(remaining, rank)[0])
        normalized = entropy / torch.where(rank > 1, rank.double().log(), math.nan)
        return torch.stack([entropy, normalized]).unflatten(1, (states, -1))

    def _take(
        self, defined: Tensor, *, vectors: Tensor, spectrum: Tensor, shares: Tensor, small: Tensor, others: Tensor,
        entries: Tensor,
    ) -> None:  # fmt: skip
        """Bring everything to the processor."""
        row_sq, inner, peaks, dims = vectors.cpu()
        known, median, entry_count, rows, rank, exact = small.cpu()
        defined = known.bool()
        tokens = int(self.here.max())
        place = peaks.abs().nan_to_num(-1.0).argmax(-1, keepdim=True)
        found, count = entries.cpu(), entry_count.long()

        def or_none(values: Tensor) -> Tensor:
            return values.long().masked_fill(~defined, -1)

        unknown = torch.full_like(median, math.nan)
        states = len(row_sq) // len(self.here)
        alone: dict[str, list[float | None]] = {name: [None] * len(row_sq) for name in WITHOUT_MASSIVE}
        for name, values in zip(WITHOUT_MASSIVE, others.cpu().tolist(), strict=True):
            for state in range(states):
                for number, value in zip(self.alone, values[state], strict=True):
                    alone[name][state * len(self.here) + number] = value
        norms = row_sq.sqrt()
        self.parts.append(
            Kept(
                row_sq=row_sq[:, :tokens],
                inner=torch.where(defined[:, None], inner, 0.0)[:, :tokens],
                spectrum=spectrum.cpu(),
                shares=shares.cpu().masked_fill(~defined[:, None], math.nan),
                median_norm=torch.where(defined, median_norms(norms, self.here.repeat(states)), unknown),
                peak_value=torch.where(defined, peaks.gather(1, place)[:, 0], unknown),
                peak_position=or_none(place[:, 0]),
                peak_dim=or_none(dims.gather(1, place)[:, 0]),
                median_abs=torch.where(defined, median, unknown),
                massive_row_count=or_none(rows),
                massive_rank=or_none(rank),
                massive_entry_count=or_none(count),
                exact=exact.bool(),
                others=alone,
                entries=[
                    _entries(of_one, int(several)) if several > 0 and known else ()
                    for of_one, several, known in zip(found, count, defined, strict=True)
                ],
            )
        )


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


def _largest_entries(state: Tensor, peaks: Tensor) -> Float[Tensor, "batch three entry"]:
    """Position, dimension and value of the largest entries: they lie in the rows with the largest peaks."""
    positions = peaks.topk(min(LIMIT, peaks.shape[1])).indices
    entries = _rows(state, positions).flatten(1)
    places = entries.abs().topk(min(LIMIT, entries.shape[1])).indices
    width = state.shape[2]
    rows = positions.gather(1, places // width)
    return torch.stack([rows.double(), (places % width).double(), entries.gather(1, places).double()], dim=1)


def _entries(found: Float[Tensor, "three entry"], count: int) -> Entries:
    order = np.lexsort((found[1], found[0], -found[2].abs()))
    return [(int(position), int(dim), value) for position, dim, value in found.T[order][:count].tolist()]

"""Every column of one block's heads: where they look, and how large what they read at the sink and write is.

Conventions: the statistics of attention are those of ``_attention``, five vectors of length T for each head instead of
the T x T attention. Norms are Euclidean, in activation units; keys are taken after rotary embedding, values as they are
weighted. Axes are (batch, head, token, ...); prompts are padded on the right, pads may hold anything and enter nothing.
Products are float64, or float32 where it is multiplied as such: no TF32 setting, bfloat16 mode or autocast reaches
them. No loop over prompts, heads or tokens.
"""

# torch.linalg and Tensor.tolist carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from thalweg.kernels import Kernels
from thalweg.metrics import _attention
from thalweg.metrics._copies import here
from thalweg.metrics._padded import Lengths, Numbers, Vectors, at, count, mean, positions, precision, real
from thalweg.shapes import Bool, Float, Int

DORMANT = 0.1
KEPT, KEPT_THERE = 2**18, 2**28
"""Numbers kept before they are reduced: on a processor what fits a cache; more is slower at T = 1024, less at a few
hundred tokens. A device wants few and large operations."""
STATISTICS = ("column_mass", "row_entropy", "diagonal", "previous", "row_sum", "visible")
WIDEST = 256
KERNELS = Kernels("heads", "torch computes what they do")
_TYPES: dict[str, type] = {"top_position": np.int64, "dormant": np.bool_}


def head_metrics(
    *,
    column_mass: Vectors,
    row_entropy: Vectors,
    diagonal: Vectors,
    previous: Vectors,
    row_sum: Vectors,
    visible: Int[Tensor, "batch token"],
    lengths: Lengths,
    sink_position: int = 0,
) -> dict[str, Tensor]:
    """Every attention column of the ``heads`` table that follows from the statistics of one block.

    Args:
        column_mass: C_k.
        row_entropy: h_t, nats, of rows divided by their sums.
        diagonal: A_tt.
        previous: A_t,t-1; not read at t = 0.
        row_sum: s_t.
        visible: n_t.
        lengths: T; at least 1.
        sink_position: s.

    Returns:
        Columns by name, each (batch, head).

    Example:
        A pure sink over 4 tokens: sink score 1, mixing 0, concentration 1, svi 4/5.
    """
    return {
        "sink_score": _attention.sink_score(column_mass, lengths=lengths, sink_position=sink_position),
        "top_position": _attention.top_position(column_mass, lengths=lengths),
        "top_score": _attention.top_score(column_mass, lengths=lengths),
        "mixing": _attention.mixing(row_entropy, lengths=lengths),
        "mixing_normalized": _attention.mixing_normalized(row_entropy, visible=visible, lengths=lengths),
        "mixing_over_log_length": _attention.mixing_over_log_length(row_entropy, lengths=lengths),
        "colsum_concentration": _attention.colsum_concentration(column_mass, lengths=lengths),
        "colsum_floor": _attention.colsum_floor(column_mass, lengths=lengths, sink_position=sink_position),
        "diagonal": _attention.diagonal(diagonal, lengths=lengths),
        "previous": _attention.previous(previous, lengths=lengths),
        "svi": _attention.svi(column_mass, diagonal=diagonal, lengths=lengths, sink_position=sink_position),
        "attended": _attention.attended(row_sum, lengths=lengths),
    }


@dataclass(frozen=True)
class HeadsMeasurement:
    """What is known of every head of the blocks that were shown.

    Attributes:
        columns: by name, a value for each block, prompt and head; the heads of the first prompt come first, and the
            prompts of the first block.
        block, prompt, head: of which, prompts and heads counted from 0.
    """

    columns: dict[str, np.ndarray]
    block: np.ndarray
    prompt: np.ndarray
    head: np.ndarray


class HeadsOfBatch:
    """Every column of the ``heads`` table for a batch, whose blocks are shown one after the other and let go.

    Of each block vectors of length T are kept. What follows from these is computed for many blocks at once, at the end
    or whenever `KEPT` numbers have come together.

    Args:
        lengths: T of each prompt.
        sink_position: s.

    Example:
        >>> heads = HeadsOfBatch(torch.tensor([1]))
        >>> one, vector = torch.ones(1, 1, 1), torch.ones(1, 1, 1, 1)
        >>> statistics = dict.fromkeys(("column_mass", "row_entropy", "diagonal", "previous", "row_sum"), one)
        >>> statistics["visible"] = torch.ones(1, 1, dtype=torch.long)
        >>> heads.see(0, statistics, key=vector, value=vector, outputs=vector, factors=torch.ones(1, 1, 1))
        >>> heads.measured().columns["sink_score"].tolist()
        [1.0]
    """

    def __init__(self, lengths: Lengths, *, sink_position: int = 0) -> None:
        self.lengths, self.sink_position = lengths, sink_position
        self.kept, self.blocks = list[tuple[Tensor, ...]](), list[int]()
        self.there = lengths  # where the blocks are
        self.found = list[_Reduced]()

    def see(
        self,
        block: int,
        statistics: Mapping[str, Tensor],
        *,
        key: Float[Tensor, "batch group token depth"],
        value: Float[Tensor, "batch group token breadth"],
        outputs: Float[Tensor, "batch head token breadth"],
        factors: Float[Tensor, "head rank breadth"],
    ) -> None:
        """Keep what is needed of the next block.

        Args:
            block: its number.
            statistics: the arguments of `head_metrics`, but for lengths and sink.
            key: after rotary embedding.
            value: as they are weighted.
            outputs: attention-weighted values of each head.
            factors: R_h of `write_factors`.
        """
        norms = _row_norms(key), _row_norms(value), _written(outputs, factors)
        vectors = (*(statistics[name] for name in STATISTICS), *norms)
        if self.kept and _alike(self.kept[0]) != _alike(vectors):
            self._reduce()
        if self.there.device != key.device:
            self.there = self.lengths.to(key.device)
        self.kept.append(vectors)
        self.blocks.append(block)
        room = KEPT if key.device.type == "cpu" else KEPT_THERE
        if len(self.kept) * sum(one.numel() for one in vectors) > room:
            self._reduce()

    def measured(self) -> HeadsMeasurement:
        """What the blocks that were shown say."""
        self._reduce()
        if not self.found:
            nothing = np.zeros(0, dtype=np.int64)
            return HeadsMeasurement({}, nothing, nothing, nothing)
        names, prompts = self.found[0].names, len(self.lengths)
        together = [
            here(torch.cat([one.table for one in alike], dim=1))[0].numpy()
            for _, alike in groupby(self.found, _place_of)
        ]
        table = np.concatenate(together, axis=1)
        shapes = [(one.blocks, one.heads) for one in self.found]
        return HeadsMeasurement(
            {name: row.astype(_TYPES.get(name, row.dtype)) for name, row in zip(names, table, strict=True)},
            block=np.concatenate([np.repeat(blocks, prompts * heads) for blocks, heads in shapes]),
            prompt=np.concatenate([np.tile(np.repeat(np.arange(prompts), h), len(b)) for b, h in shapes]),
            head=np.concatenate([np.tile(np.arange(heads), prompts * len(blocks)) for blocks, heads in shapes]),
        )

    def _reduce(self) -> None:
        """Every column of the blocks that are kept, where they are."""
        if not self.kept:
            return
        vectors = [torch.cat(each) for each in zip(*self.kept, strict=True)]
        blocks, self.kept, self.blocks = self.blocks, [], []
        statistics, (key, value, written) = dict(zip(STATISTICS, vectors, strict=False)), vectors[len(STATISTICS) :]
        lengths, sink = self.there.repeat(len(blocks)), self.sink_position
        columns = head_metrics(**statistics, lengths=lengths, sink_position=sink)
        heads = written.shape[1]
        for name, norms in (("value", value), ("key", key)):
            both = _sink_and_rest(norms, lengths, sink)
            for place, column in zip(("sink", "rest"), both, strict=True):
                columns[f"{place}_{name}_norm"] = column.repeat_interleave(heads // column.shape[1], dim=1)
        columns["head_write_norm"] = mean(written, lengths)
        columns["dormant"] = dormant(columns["head_write_norm"])
        table = torch.stack([column.to(precision(written)) for column in columns.values()]).flatten(1)
        self.found.append(_Reduced(tuple(columns), table, blocks, heads))


@dataclass(frozen=True, slots=True)
class _Reduced:
    """Columns of some blocks, where these were."""

    names: tuple[str, ...]
    table: Float[Tensor, "column row"]
    blocks: list[int]
    heads: int


def _place_of(reduced: _Reduced) -> torch.device:
    return reduced.table.device


def _alike(vectors: Sequence[Tensor]) -> list[object]:
    return [vectors[0].device, *(one.shape for one in vectors)]


class SinkAndRest(NamedTuple):
    """A norm at the sink position, and the mean norm at all others."""

    sink: Numbers
    rest: Numbers


def sink_and_rest_norms(
    vectors: Float[Tensor, "batch head token depth"], /, lengths: Lengths, sink_position: int = 0
) -> SinkAndRest:
    """Norms of keys or values at the sink and elsewhere (Guo et al. 2024; Gu et al. 2025).

    A sink whose value is near zero writes nothing: attention paid to it is attention not paid.

    Args:
        vectors: keys after rotary embedding, or values; one for each query head or for each key/value head.
        lengths: T.
        sink_position: s.

    Returns:
        Norm at s, and mean norm over the other real tokens, activation units; NaN for prompts without a token at s, and
        for the rest of one token.

    Example:
        Vectors (3, 4), (0, 1), (0, 3): sink 5, rest 2.
    """
    return _sink_and_rest(_row_norms(vectors), lengths, sink_position)


def _sink_and_rest(norms: Vectors, lengths: Lengths, sink_position: int) -> SinkAndRest:
    sink = at(norms, lengths, sink_position)
    others = real(norms, lengths).masked_fill(positions(norms) == sink_position, 0)
    rest = others.sum(-1) / (count(norms, lengths) - 1)
    return SinkAndRest(sink, torch.where((lengths > sink_position).unsqueeze(-1), rest, math.nan))


def write_factors(slices: Float[Tensor, "head width breadth"], /) -> Float[Tensor, "head rank breadth"]:
    """Small factors R_h with |R_h z| = |W_h z|, W_h the head's slice of the output projection.

    W_h = Q R with orthonormal columns in Q, which change no norm: a d x breadth product for every token becomes a
    breadth x breadth one.

    Args:
        slices: W_h, the columns of the output projection that read head h.

    Returns:
        Upper triangular factors, float64, rank = min(width, breadth).

    Example:
        The column (3, 4) has the factor 5, up to its sign.
    """
    return torch.linalg.qr(slices.detach().to(precision(slices)), mode="r").R


def head_write_norm(
    outputs: Float[Tensor, "batch head token breadth"], /, factors: Float[Tensor, "head rank breadth"], lengths: Lengths
) -> Numbers:
    """Mean norm of what a head adds to the residual stream, before any norm that follows the block (Guo et al. 2024).

    Args:
        outputs: z, attention-weighted values of each head.
        factors: R_h of `write_factors`; |W_h z| = |R_h z|.
        lengths: T.

    Returns:
        Activation units, at least 0.

    Example:
        R = 2, outputs 1 and 3: (2 + 6) / 2 = 4.
    """
    return mean(_written(outputs, factors), lengths)


def _written(outputs: Tensor, factors: Tensor) -> Vectors:
    """Norm of what each head adds at each token."""
    if KERNELS.fit(outputs) and outputs.shape[-1] <= WIDEST:
        from thalweg.metrics._write_kernel import written_norms

        norms = KERNELS.run(written_norms, outputs.detach(), factors)
        if norms is not None:
            return norms
    dtype = _product_dtype(outputs)
    return _row_norms(outputs.detach().to(dtype) @ factors.to(dtype).mT)


def dormant(head_write_norm: Float[Tensor, "*batch head"], /) -> Bool[Tensor, "*batch head"]:
    """Whether a head writes next to nothing on this prompt: less than 0.1 x the mean of its block's heads.

    Args:
        head_write_norm: what each head of one block writes, activation units.

    Returns:
        True where dormant; False where the norm is not known.

    Example:
        The norms 1, 1, 1, 0.01: only the last.
    """
    return head_write_norm < DORMANT * head_write_norm.nanmean(-1, keepdim=True)


def dormant_rate(flags: Bool[Tensor, "*batch head"], /) -> Float[Tensor, "*batch"]:
    """Share of a block's heads that are dormant (Guo et al. 2024).

    Returns:
        In [0, 1].

    Example:
        One dormant head of four: 0.25.
    """
    return flags.double().mean(-1) if flags.device.type != "mps" else flags.float().mean(-1)


def _product_dtype(outputs: Tensor) -> torch.dtype:
    """The cheapest dtype whose products no global switch makes coarser: float32 is five times faster than float64."""
    place = outputs.device.type
    if outputs.dtype == torch.float64 or place not in ("cpu", "cuda") or torch.is_autocast_enabled(place):
        return precision(outputs)
    backend: Any = torch.backends.mkldnn if place == "cpu" else torch.backends.cuda
    # Where PyTorch does not tell the mode, float64 is safe.
    mode = getattr(getattr(backend, "matmul", None), "fp32_precision", "unknown")
    return torch.float32 if mode in ("none", "ieee") else precision(outputs)


def _row_norms(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=-1, dtype=precision(vectors))

"""Which keys a block of query rows may see, made when the block is reached and dropped after it.

Every form of mask is turned into a boolean block: a boolean tensor (True = seen), an additive tensor (its strongly
negative entries are unseen; the others are added to the logits), or a :data:`RowMask`, a function of row and key
indices. Causality and a sliding window are part of the contract and need no mask.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.shapes import Bool, Float

RowMask = Callable[[Tensor, Tensor], Tensor]
"""``(rows, keys) -> seen``: index vectors to a boolean block ``batch|1 head|1 rows keys``."""


@dataclass(frozen=True)
class MaskBlock:
    """What one block of rows sees.

    Attributes:
        keys: range of keys outside of which no row of the block sees anything.
        seen: boolean, ``batch|1 head|1 rows keys``; None where causality alone decides.
        added: what an additive mask adds to the visible logits, in the same layout; None without one.
    """

    keys: slice
    seen: Bool[Tensor, "batch head query key"] | None = None
    added: Float[Tensor, "batch head query key"] | None = None


def mask_block(mask: Tensor | RowMask | None, rows: slice, *, window: int | None, device: torch.device) -> MaskBlock:
    """Everything that limits ``rows``, causality and window included; keys that none of them sees are left out."""
    if mask is None and window is None:
        return MaskBlock(slice(0, rows.stop))
    first = 0 if window is None else max(0, rows.start - window + 1)
    row = torch.arange(rows.start, rows.stop, device=device)
    key = torch.arange(first, rows.stop, device=device)
    seen = (key[None, :] <= row[:, None])[None, None]
    if window is not None:
        seen = seen & (key[None, :] > row[:, None] - window)
    if mask is None:
        return MaskBlock(slice(first, rows.stop), seen)
    if not isinstance(mask, Tensor):
        return _trimmed(first, seen & mask(row, key), None)
    part = mask[..., rows, first : rows.stop]
    if part.dtype == torch.bool:
        return _trimmed(first, seen & part, None)
    unseen = part <= torch.finfo(part.dtype).min / 2
    return _trimmed(first, seen & ~unseen, part.masked_fill(unseen, 0.0))


def _trimmed(first: int, seen: Tensor, added: Tensor | None) -> MaskBlock:
    """Without the leading keys that no row sees: this is what makes a sliding window cheap."""
    used = seen.flatten(0, -2).any(0)
    skipped = int(used.to(torch.uint8).argmax()) if bool(used.any()) else 0
    keys = slice(first + skipped, first + seen.shape[-1])
    return MaskBlock(keys, seen[..., skipped:], None if added is None else added[..., skipped:])

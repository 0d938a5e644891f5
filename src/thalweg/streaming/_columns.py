"""What chosen keys receive from every row, from what attention left behind: O(T) a key, and no map."""

import torch
from torch import Tensor

from thalweg.shapes import Bool, Float, Int
from thalweg.streaming._blockwise import PLAIN, LogitRule, RowMask, split_mask


def attention_to(
    query: Float[Tensor, "batch head token depth"],
    key: Float[Tensor, "batch group token depth"],
    positions: Int[Tensor, "batch chosen"],
    *,
    log_sum_exp: Float[Tensor, "batch head token"],
    row_sum: Float[Tensor, "batch head token"],
    rule: LogitRule = PLAIN,
    mask: Tensor | RowMask | None = None,
    window: int | None = None,
    lengths: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch head chosen token"]:
    """Columns of A: A_tk = s_t exp(logit_tk - log_sum_exp_t) of every row t, for some keys k of each prompt.

    Args:
        query: of the call of :func:`streamed_attention` whose result is at hand.
        key: of that call.
        positions: the keys k.
        log_sum_exp: of its result.
        row_sum: s_t, of its statistics.
        rule: of that call; it says what a dot product becomes, and a sink logit is in ``row_sum`` already.
        mask: of that call.
        window: of that call.
        lengths: of that call.

    Returns:
        Probabilities in [0, 1], at least float32, 0 where a row does not see the key or is padding: their sum over
        rows is the key's column mass.

    Example:
        Two equal tokens: the first gets 1 from itself and 1/2 from the second.
    """
    batch, heads, tokens, depth = query.shape
    groups, precision = key.shape[1], log_sum_exp.dtype
    positions = positions.to(query.device)
    chosen = torch.take_along_dim(key, positions[:, None, :, None], dim=2).to(precision)
    rows = query.to(precision).reshape(batch, groups, -1, depth)
    logits = (rows @ chosen.mT).view(batch, heads, tokens, -1) * (depth**-0.5 if rule.scaling is None else rule.scaling)
    if rule.softcap is not None:
        logits = rule.softcap * torch.tanh(logits / rule.softcap)
    seen, added = _limits(mask, positions, tokens, window)
    if lengths is not None:
        seen = seen & (torch.arange(tokens, device=query.device) < lengths.to(query.device)[:, None])[:, None, :, None]
    for one in (None if rule.bias is None else _at(rule.bias, positions), added):
        logits = logits if one is None else logits + one
    received = row_sum[..., None] * torch.exp(logits - log_sum_exp[..., None])
    return received.masked_fill(~seen, 0.0).mT


def _limits(
    mask: Tensor | RowMask | None, positions: Tensor, tokens: int, window: int | None
) -> tuple[Bool[Tensor, "batch head query chosen"], Tensor | None]:
    """Which rows see the keys, causality and window included, and what an additive mask adds."""
    row, key = torch.arange(tokens, device=positions.device)[:, None], positions[:, None, None, :]
    seen = (key <= row) & (row - key < (window or tokens))
    if mask is None:
        return seen, None
    if isinstance(mask, Tensor):
        own, added = split_mask(_at(mask, positions))
    else:
        place = torch.arange(positions.numel(), device=positions.device).view_as(positions)
        own, added = _at(mask(row[:, 0], positions.flatten()), place), None
    return seen & own, added


def _at(table: Tensor, positions: Tensor) -> Tensor:
    """Columns of what is ``batch|1 head|1 query|1 key``."""
    return torch.take_along_dim(table, positions[:, None, None, :], dim=3)

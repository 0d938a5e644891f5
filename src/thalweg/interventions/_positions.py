"""Which tokens a forward pass holds: with a cache only the new ones, with padding on the left not from the first."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.errors import UsageError
from thalweg.interventions._edits import Positions
from thalweg.shapes import Bool, Int

_suspended = ContextVar("suspended", default=False)


@contextmanager
def suspended() -> Iterator[None]:
    """No intervention changes anything in here."""
    token = _suspended.set(True)
    try:
        yield
    finally:
        _suspended.reset(token)


class Tokens:
    """Follows a model's body from call to call, and knows the positions of the tokens in hand.

    Attributes:
        positions: of the tokens of the pass that is running, counted over real tokens; -1 for padding.
    """

    def __init__(self, lengths: Tensor | None) -> None:
        self.lengths = lengths
        self.positions: Int[Tensor, "batch token"] | None = None

    def enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A forward pre-hook of the body."""
        given = args[0] if args else kwargs.get("input_ids")
        tokens: Tensor = given if given is not None else kwargs["inputs_embeds"]
        batch, count = tokens.shape[:2]
        cache = kwargs.get("past_key_values")
        seen = int(cache.get_seq_length()) if cache is not None else 0
        mask = kwargs.get("attention_mask")
        if isinstance(mask, Tensor) and mask.ndim == 2:
            real = mask.to(tokens.device).bool()
            held = (real.cumsum(-1) - 1).masked_fill(~real, -1)[:, seen : seen + count]
        else:
            held = torch.arange(seen, seen + count, device=tokens.device).expand(batch, count)
        if self.lengths is not None and len(self.lengths) == batch:
            held = held.masked_fill(held >= self.lengths.to(held.device)[:, None], -1)
        self.positions = held

    @property
    def real(self) -> Bool[Tensor, "batch token"]:
        """Which tokens of the pass are no padding."""
        if self.positions is None:
            raise UsageError("a block ran outside the model's body; interventions need a forward pass of the model.")
        return self.positions >= 0


def rows_at(tokens: Tokens, wanted: Positions) -> Bool[Tensor, "batch token"]:
    """Which rows of the running pass are at the wanted positions.

    Raises:
        UsageError: positions for another number of prompts than the pass has.
    """
    real, held = tokens.real, tokens.positions
    assert held is not None
    if _suspended.get():
        return torch.zeros_like(real)
    chosen = torch.as_tensor(wanted, dtype=torch.long, device=held.device)
    if chosen.ndim == 1:
        chosen = chosen.expand(len(held), -1)
    if len(chosen) != len(held):
        raise UsageError(f"positions for {len(held)} prompts expected, one row each; got {len(chosen)} rows.")
    return (held[:, :, None] == chosen[:, None, :]).any(-1) & real

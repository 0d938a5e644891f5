"""What is kept of every token of the prompt: its rows, the attention that it receives, and where it looks."""

import numpy as np
import polars as pl
import torch
from torch import Tensor

from thalweg.capture import AttentionSeen, brought, precise
from thalweg.experiments._pass import StateSeen
from thalweg.metrics import row_norms, top_position
from thalweg.shapes import Float, Int


class TokenRows:
    """Reads one prompt alone: of each state the norm and the largest coordinate of every row, of each block C_k / T."""

    def __init__(self) -> None:
        self.rows, self.received = dict[int, Tensor](), dict[int, Tensor]()

    def state(self, index: int, seen: StateSeen, /) -> None:
        (rows,) = seen.prompts
        dims = rows.abs().argmax(1, keepdim=True)  # the first of equal ones, and a NaN before all
        norms = row_norms(rows)
        self.rows[index] = torch.stack([norms, rows.gather(1, dims)[:, 0].to(norms), dims[:, 0].to(norms)])

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        mass = precise(seen.statistics.column_mass[0])
        self.received[block] = mass.mean(0) / mass.shape[-1]

    @property
    def states(self) -> pl.DataFrame:
        """A row for every state and token."""
        frames = list[pl.DataFrame]()
        for state, (norms, values, dims) in zip(self.rows, brought([*self.rows.values()]).numpy(), strict=True):
            found = {"norm": norms, "dim": dims.astype(np.int64), "value": values}
            frames.append(pl.DataFrame(found).with_row_index("position").with_columns(state=pl.lit(state)))
        known = pl.when(pl.col("value").is_not_nan()).then("dim")
        return pl.concat(frames).with_columns(dim=known)

    @property
    def blocks(self) -> pl.DataFrame:
        """A row for every block with attention and every token."""
        frames = [
            pl.DataFrame({"received": own}).with_row_index("position").with_columns(block=pl.lit(block))
            for block, own in zip(self.received, brought([*self.received.values()]).numpy(), strict=True)
        ]
        return pl.concat(frames)


def looks_at(attention: Float[Tensor, "head query key"]) -> Int[Tensor, "head query"]:
    """Of each query of a map the key that gets most: the top position of a head of this one query."""
    heads, tokens, _ = attention.shape
    return top_position(attention * tokens, lengths=torch.full((heads,), tokens, device=attention.device))

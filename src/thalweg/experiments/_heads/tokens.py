"""What is kept of every token of the prompt: its rows, the attention that it receives, and where it looks."""

import numpy as np
import polars as pl
import torch
from torch import Tensor

from thalweg.capture import AttentionSeen
from thalweg.experiments._pass import StateSeen
from thalweg.metrics import row_norms, top_position
from thalweg.shapes import Float


class TokenRows:
    """Reads one prompt alone: of each state the norm and the largest coordinate of every row, of each block C_k / T."""

    def __init__(self) -> None:
        self.states, self.blocks = list[pl.DataFrame](), list[pl.DataFrame]()

    def state(self, index: int, seen: StateSeen, /) -> None:
        (rows,) = seen.prompts
        own = rows.detach().cpu().double().numpy()
        dims = np.abs(own).argmax(1)  # the first of equal ones, and a NaN before all
        values = np.take_along_axis(own, dims[:, None], 1)[:, 0]
        found = {"norm": row_norms(rows).numpy(), "dim": dims, "value": values}
        frame = pl.DataFrame(found).with_row_index("position").with_columns(state=pl.lit(index))
        self.states.append(frame.with_columns(dim=pl.when(pl.col("value").is_not_nan()).then("dim")))

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        mass = seen.statistics.column_mass[0]
        received = mass.cpu().double().mean(0) / mass.shape[-1]
        frame = pl.DataFrame({"received": received.numpy()})
        self.blocks.append(frame.with_row_index("position").with_columns(block=pl.lit(block)))


def looks_at(attention: Float[Tensor, "query key"]) -> pl.DataFrame:
    """Of each query of a map the key that gets most, by position: the top position of a head of this one query."""
    tokens = len(attention)
    found = top_position(attention[None] * tokens, lengths=torch.tensor([tokens], device=attention.device))
    return pl.DataFrame({"looks_at": found[0].cpu().numpy()}).with_row_index("position")

"""What heads on one prompt add to a run: every column of its tables, and how a map is kept.

A map holds the square root of each probability as a byte, 255 for 1: what is small keeps more digits than on a linear
scale. A byte b stands for (b / 255)^2, off from A by at most sqrt(A) / 255 + 4e-6.
"""

import numpy as np
import polars as pl

import thalweg.experiments._columns as shared
from thalweg.experiments._columns import FLAG, NUMBER, TEXT, TEXTS, WHOLE, metrics
from thalweg.store import Column, Table, Tables

STEPS = 255
PATTERNS = {
    "diffuse": "mixing_normalized",
    "sink": "sink_score",
    "identity": "diagonal",
    "previous token": "previous",
    "sink elsewhere": "top_score",
}
"""By pattern, what the head that comes nearest to it has most of."""
ELSEWHERE = "sink elsewhere"

HEAD = (*shared.KEY, shared.BLOCK, shared.HEAD)
POSITION = Column("position", WHOLE, "which token, from 0", "token")
NUMBERS = (
    "sink_score top_score mixing mixing_normalized mixing_over_log_length colsum_concentration colsum_floor diagonal "
    "previous svi attended"
)

TABLES = Tables(
    wholes={
        "heads": Table(
            "one chosen head on the prompt",
            (
                *HEAD,
                Column(
                    "phase", TEXT, "mix, compress, refine or wave, of the state that the block reads; null if unknown"
                ),
                Column(
                    "patterns",
                    TEXTS,
                    "what it comes nearest to of all heads of the phase; empty for one that was named",
                ),
                *metrics(WHOLE, "top_position"),
                *metrics(NUMBER, NUMBERS),
            ),
        ),
        "maps": Table(
            "one of these heads",
            (
                *HEAD,
                shared.TOKENS,
                Column("truncated", FLAG, "whether tokens were cut off at the end"),
                Column(
                    "map",
                    pl.Binary(),
                    "T x T bytes, row by row, a row a query: 255 times the square root of the attention, rounded; so "
                    "the attention is (byte / 255)^2, to within its square root / 255 + 4e-6",
                ),
            ),
        ),
        "tokens": Table(
            "one token of the prompt",
            (
                *shared.KEY,
                POSITION,
                Column("token_id", WHOLE, "its id"),
                Column("token", TEXT, "its text"),
            ),
        ),
        "token_states": Table(
            "one token of the prompt at a state",
            (
                *shared.KEY,
                shared.STATE,
                POSITION,
                Column("norm", NUMBER, "norm of its row; NaN or infinite where the row is", "activation units"),
                Column("dim", WHOLE, "its coordinate largest in magnitude, the first if tied; null where that is NaN"),
                Column("value", NUMBER, "of that coordinate, signed", "activation units"),
            ),
        ),
        "token_blocks": Table(
            "one token of the prompt at a block with softmax attention",
            (
                *shared.KEY,
                shared.BLOCK,
                POSITION,
                Column(
                    "received",
                    NUMBER,
                    "attention that it receives: C_k / T, the mean of its column, averaged over all heads of the "
                    "block; at the sink position this is their mean sink score",
                    "share of attention",
                ),
            ),
        ),
        "token_heads": Table(
            "one token of the prompt in a chosen head",
            (
                *HEAD,
                POSITION,
                Column("looks_at", WHOLE, "position to which it pays most attention, the lowest within 1e-6", "token"),
            ),
        ),
    },
    main="heads",
)


def attention_of(kept: bytes, tokens: int) -> np.ndarray:
    """The map of a head as it was kept, T x T, a row a query."""
    return (np.frombuffer(kept, np.uint8).reshape(tokens, tokens) / STEPS) ** 2

"""One batch of prompts to what wrote their sink token's rows: vectors of the model's width, never whole states."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import polars as pl
import torch
from torch import Tensor

from thalweg import metrics
from thalweg.capture import Subject, Summand
from thalweg.experiments._attribute.tables import TABLES
from thalweg.experiments._pass import SinkRows, read
from thalweg.prompts import Prompt

Parts = Sequence[tuple[int | None, str]]
"""Block and part of what is added to the sink's row, in the order in which it is."""


def sink_frames(
    subject: Subject, batch: Sequence[Prompt], *, sink_position: int, ranks: int
) -> list[dict[str, pl.DataFrame]]:
    """Run one batch through the body of the model once and attribute each prompt's sink row to its parts.

    Returns:
        For each prompt its rows of ``states``, ``contributions`` and ``dimensions``, without model, revision and data.

    Raises:
        ModelError: a token has no row in the model's embedding.
        OverflowInFloat16: a float16 state holds an Inf.
        ProofError: a block leaves something else than its input plus attention plus MLP.
    """
    sink = _WrittenRows(sink_position)
    read(subject, batch, sink, positions=[sink_position])
    return [
        {name: frame.with_columns(prompt=pl.lit(prompt.row)) for name, frame in sink.frames(number, ranks).items()}
        for number, prompt in enumerate(batch)
    ]


def sink_row_tables(frames: Sequence[dict[str, pl.DataFrame]], key: Mapping[str, str]) -> dict[str, pl.DataFrame]:
    """The tables of a shard from the rows of its prompts."""
    tables = dict[str, pl.DataFrame]()
    for name in TABLES.parts:
        rows = [prompt[name] for prompt in frames]
        literals = {column: pl.lit(value) for column, value in key.items()}
        empty = pl.DataFrame(schema=TABLES[name].schema)
        tables[name] = pl.concat(rows, how="vertical_relaxed").with_columns(**literals) if rows else empty
    return tables


class _WrittenRows(SinkRows):
    """The sink's row of every state and what is added to it; of the other rows norms alone."""

    def __init__(self, sink_position: int) -> None:
        super().__init__(sink_position)
        self.added = dict[tuple[int, str], Tensor]()

    def contribution(self, block: int, part: Summand, rows: Tensor, /) -> None:
        self.added[block, part] = rows[:, 0]

    def frames(self, number: int, ranks: int) -> dict[str, pl.DataFrame]:
        """One prompt's rows."""
        blocks = range(len(self.rows) - 1)
        parts = [(block, part) for block in blocks for part in ("attention", "mlp")]
        added = torch.stack([self.added[part][number] for part in parts]).unflatten(0, (-1, 2))
        rows, stand_out = self.of(number)
        ratios = torch.tensor([state.norm_ratio for state in stand_out], dtype=torch.float64)
        written = metrics.attribution(added, rows=rows, norm_ratio=ratios, ranks=ranks)
        return {
            "states": _states(written, stand_out),
            "contributions": _contributions(written, [(None, "embedding"), *parts]),
            "dimensions": _dimensions(written, [(None, "embedding"), *parts]),
        }


def _states(written: metrics.Attribution, stand_out: Sequence[metrics.SinkRow]) -> pl.DataFrame:
    rows = pl.DataFrame([asdict(state) for state in stand_out], infer_schema_length=None)
    return rows.with_columns(
        pl.Series("state", range(len(stand_out))),
        pl.Series("along", written.state_along.numpy()),
        pl.Series("sum_error", written.sum_error.numpy()),
    )


def _contributions(written: metrics.Attribution, parts: Parts) -> pl.DataFrame:
    return pl.DataFrame(
        {
            **_names(parts),
            **{name: getattr(written, name).numpy() for name in ("norm", "along", "share", "cosine", "before")},
        }
    ).with_columns(
        pl.lit(written.reference_state, pl.Int64).alias("reference_state"),
        pl.lit(written.reason, pl.String).alias("reason"),
    )


def _dimensions(written: metrics.Attribution, parts: Parts) -> pl.DataFrame:
    """What is not finite has no largest dimension and no row."""
    ranks = written.dims.shape[1]
    rows = pl.DataFrame(
        {
            **_names([part for part in parts for _ in range(ranks)]),
            "rank": list(range(ranks)) * len(parts),
            "dim": written.dims.flatten().numpy(),
            "value": written.values.flatten().numpy(),
        }
    )
    return rows.filter(pl.col("value").is_finite())


def _names(parts: Parts) -> dict[str, pl.Series]:
    return {
        "block": pl.Series([block for block, _ in parts], dtype=pl.Int64),
        "part": pl.Series([part for _, part in parts], dtype=pl.String),
    }

"""One batch of prompts to what wrote their sink token's rows: vectors of the model's width, never whole states."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import polars as pl
import torch
from torch import Tensor

from thalweg import metrics
from thalweg.capture import Subject, Summand, contributions
from thalweg.experiments._measure import refuse_overflow, token_batch
from thalweg.prompts import Prompt
from thalweg.store import EXPERIMENTS, experiment_schema


@torch.no_grad()
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
    sink = _SinkRows(batch, sink_position)
    with contributions(subject, sink, [sink_position]):
        subject.parts.body(input_ids=token_batch(subject, batch), use_cache=False)
    return [sink.frames(number, ranks) for number in range(len(batch))]


def sink_row_tables(frames: Sequence[dict[str, pl.DataFrame]], key: Mapping[str, str]) -> dict[str, pl.DataFrame]:
    """The tables of a shard from the rows of its prompts."""
    tables = dict[str, pl.DataFrame]()
    for name in EXPERIMENTS["attribution"].parts:
        rows = [one[name] for one in frames]
        literals = {column: pl.lit(value) for column, value in key.items()}
        empty = pl.DataFrame(schema=experiment_schema("attribution", name))
        tables[name] = pl.concat(rows, how="vertical_relaxed").with_columns(**literals) if rows else empty
    return tables


class _SinkRows:
    """Keeps the sink's row of every state and what is added to it; of the other rows it keeps norms."""

    def __init__(self, batch: Sequence[Prompt], sink_position: int) -> None:
        self.batch, self.sink_position = batch, sink_position
        self.stand_out: list[list[metrics.SinkRow]] = []
        self.rows = list[Tensor]()
        self.added = dict[tuple[int, str], Tensor]()

    def state(self, index: int, state: Tensor, /) -> None:
        owns = [own[: len(prompt)] for prompt, own in zip(self.batch, state, strict=True)]
        for own in owns:
            refuse_overflow(index, own)
        self.stand_out.append([metrics.sink_row(own, sink_position=self.sink_position) for own in owns])
        rows = torch.full((len(owns), state.shape[-1]), torch.nan, dtype=torch.float64)
        there = [self.sink_position < len(own) for own in owns]
        if any(there):
            rows[there] = state[there, self.sink_position].cpu().double()
        self.rows.append(rows)

    def contribution(self, block: int, part: Summand, rows: Tensor, /) -> None:
        self.added[block, part] = rows[:, 0]

    def frames(self, number: int, ranks: int) -> dict[str, pl.DataFrame]:
        """One prompt's rows."""
        blocks = range(len(self.rows) - 1)
        parts = [(block, part) for block in blocks for part in ("attention", "mlp")]
        added = torch.stack([self.added[part][number] for part in parts]).unflatten(0, (-1, 2))
        stand_out = [state[number] for state in self.stand_out]
        ratios = torch.tensor([one.norm_ratio for one in stand_out], dtype=torch.float64)
        rows = torch.stack([state[number] for state in self.rows])
        found = metrics.attribution(added, rows=rows, norm_ratio=ratios, ranks=ranks)
        prompt = pl.lit(self.batch[number].row).alias("prompt")
        frames = {
            "states": _states(found, stand_out),
            "contributions": _contributions(found, [(None, "embedding"), *parts]),
            "dimensions": _dimensions(found, [(None, "embedding"), *parts]),
        }
        return {name: frame.with_columns(prompt) for name, frame in frames.items()}


Named = Sequence[tuple[int | None, str]]


def _states(found: metrics.Attribution, stand_out: Sequence[metrics.SinkRow]) -> pl.DataFrame:
    rows = pl.DataFrame([asdict(one) for one in stand_out], infer_schema_length=None)
    return rows.with_columns(
        pl.Series("state", range(len(stand_out))),
        pl.Series("along", found.state_along.numpy()),
        pl.Series("sum_error", found.sum_error.numpy()),
    )


def _contributions(found: metrics.Attribution, parts: Named) -> pl.DataFrame:
    return pl.DataFrame(
        {
            **_names(parts),
            **{name: getattr(found, name).numpy() for name in ("norm", "along", "share", "cosine", "before")},
        }
    ).with_columns(
        pl.lit(found.reference_state, pl.Int64).alias("reference_state"),
        pl.lit(found.reason, pl.String).alias("reason"),
    )


def _dimensions(found: metrics.Attribution, parts: Named) -> pl.DataFrame:
    """What is not finite has no largest dimension and no row."""
    ranks = found.dims.shape[1]
    rows = pl.DataFrame(
        {
            **_names([part for part in parts for _ in range(ranks)]),
            "rank": list(range(ranks)) * len(parts),
            "dim": found.dims.flatten().numpy(),
            "value": found.values.flatten().numpy(),
        }
    )
    return rows.filter(pl.col("value").is_finite())


def _names(parts: Named) -> dict[str, pl.Series]:
    return {
        "block": pl.Series([block for block, _ in parts], dtype=pl.Int64),
        "part": pl.Series([part for _, part in parts], dtype=pl.String),
    }

"""One batch of prompts to rows of the survey's tables: what a pass shows is reduced by metrics and nothing is kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg import metrics
from thalweg.capture import AttentionSeen, Subject
from thalweg.experiments._pass import StateSeen, lengths_of, read
from thalweg.experiments._survey.tables import tables
from thalweg.options import MASSIVE_RATIO
from thalweg.prompts import Prompt
from thalweg.store import RunHeader

WITHOUT_MASSIVE = 16
"""Of the first rows that are read, so many, the states are measured without their massive rows too."""


@dataclass(frozen=True)
class MeasureOptions:
    """The thresholds that enter a row; rows before ``without_massive`` are measured without their massive rows too."""

    sink_position: int = 0
    massive_ratio: float = MASSIVE_RATIO
    variants: bool = False
    without_massive: int = WITHOUT_MASSIVE


@dataclass(frozen=True)
class BatchRows:
    """Rows of one batch: ``massive`` as records, ``layers`` and ``heads`` as columns."""

    layers: dict[str, Any]
    massive: list[dict[str, Any]]
    row_norms: list[pl.DataFrame]
    heads: dict[str, np.ndarray]
    nonfinite_states: int


def measure_batch(subject: Subject, batch: Sequence[Prompt], options: MeasureOptions) -> BatchRows:
    """Run one batch through the body of the model once and reduce everything on the way."""
    states, heads = _States(batch, options), _Heads(batch, options)
    read(subject, batch, states, heads)
    found, of_heads = states.reduced.measured(), heads.reduced.measured()
    norms, rows = found.row_norms.numpy(), np.array([prompt.row for prompt in batch])
    head_key = {"prompt": rows[of_heads.prompt], "block": of_heads.block, "head": of_heads.head}
    key = {
        "prompt": np.tile(rows, len(norms)),
        "state": np.arange(len(norms)).repeat(len(batch)),
        "tokens": [len(prompt) for prompt in batch] * len(norms),
    }
    return BatchRows(
        layers=key | found.columns,
        massive=list(_massive_rows(batch, found.massive)),
        row_norms=[
            _standing_out(prompt.row, norms[:, number, : len(prompt)], options.massive_ratio / 2)
            for number, prompt in enumerate(batch)
        ],
        heads=head_key | of_heads.columns if of_heads.columns else {},
        nonfinite_states=int((~found.finite).sum()),
    )


class _States:
    """The metrics of every state, and its massive rows and entries."""

    def __init__(self, batch: Sequence[Prompt], options: MeasureOptions) -> None:
        self.reduced = metrics.StatesOfBatch(
            lengths_of(batch),
            sink_position=options.sink_position,
            massive_ratio=options.massive_ratio,
            without_massive=[prompt.row < options.without_massive for prompt in batch],
            variants=options.variants,
        )

    def state(self, _: int, seen: StateSeen, /) -> None:
        self.reduced.see(seen.padded)


def _massive_rows(
    batch: Sequence[Prompt], found: Sequence[Sequence[metrics.MassiveActivation]]
) -> Iterator[dict[str, Any]]:
    for place, activations in enumerate(found):
        state, number = divmod(place, len(batch))
        for one in activations:
            key = {"prompt": batch[number].row, "state": state, "token_id": batch[number].tokens[one.position]}
            yield key | {name: getattr(one, name) for name in one.__slots__}


def _standing_out(prompt: int, norms: np.ndarray, ratio: float) -> pl.DataFrame:
    """``norms``: state x token."""
    written = norms[1:][np.isfinite(norms[1:]).all(axis=1)]
    standing = written.max(axis=1, initial=0) >= ratio * np.median(written, axis=1) if len(written) else []
    positions = np.unique(written[standing].argmax(axis=1)) if len(written) else np.empty(0, dtype=int)
    states = len(norms)
    return pl.DataFrame(
        {
            "prompt": np.full(len(positions) * states, prompt),
            "position": positions.repeat(states),
            "state": np.tile(np.arange(states), len(positions)),
            "norm": norms[:, positions].T.flatten(),
        }
    )


class _Heads:
    """The metrics of every head."""

    def __init__(self, batch: Sequence[Prompt], options: MeasureOptions) -> None:
        self.reduced = metrics.HeadsOfBatch(lengths_of(batch), sink_position=options.sink_position)

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        own = {"key": seen.key, "value": seen.value, "outputs": seen.outputs, "factors": seen.factors}
        self.reduced.see(block, vars(seen.statistics), **own)


def frames(
    results: Sequence[BatchRows], prompts: Sequence[Prompt], key: dict[str, str], tokenizer: Any, header: RunHeader
) -> dict[str, pl.DataFrame]:
    """The tables of a shard from the rows of its batches; ``header`` says which columns they have."""
    massive = [{**row, "token": tokenizer.decode([row["token_id"]])} for result in results for row in result.massive]
    rows = {
        "layers": [pl.DataFrame(result.layers, strict=False) for result in results],
        "heads": [_with_gaps(pl.DataFrame(result.heads)) for result in results if result.heads],
        "massive": [pl.DataFrame(massive, infer_schema_length=None)] if massive else [],
        "row_norms": [frame for result in results for frame in result.row_norms],
        "prompts": [pl.DataFrame([_prompt_row(prompt, keep_text=header.keep_text) for prompt in prompts])],
    }
    literals = {name: pl.lit(value) for name, value in key.items()}
    columns = tables(variants=header.variants, keep_text=header.keep_text)
    return {
        table: pl.concat(parts, how="vertical_relaxed").with_columns(**literals)
        if parts and prompts
        else pl.DataFrame(schema=columns[table].schema)
        for table, parts in rows.items()
    }


def _with_gaps(heads: pl.DataFrame) -> pl.DataFrame:
    """Positions and flags that are undefined become null; tensors have no such value."""
    return heads.with_columns(
        pl.when(pl.col("top_position") >= 0).then("top_position"),
        pl.when(pl.col("head_write_norm").is_not_nan()).then("dormant"),
    )


def _prompt_row(prompt: Prompt, *, keep_text: bool) -> dict[str, Any]:
    row = {
        "prompt": prompt.row,
        "tokens": len(prompt),
        "first_token": prompt.tokens[0],
        "truncated": prompt.truncated,
        "sink_uniform": metrics.sink_uniform(len(prompt)),
        "sha256": prompt.sha256,
    }
    return {**row, "text": prompt.text} if keep_text else row

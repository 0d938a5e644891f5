"""One batch of prompts to rows of the survey's tables: what a pass shows is reduced by metrics and nothing is kept."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

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
    """Rows of one batch: ``layers`` and ``massive`` as records, ``heads`` as columns a block."""

    layers: list[dict[str, Any]]
    massive: list[dict[str, Any]]
    row_norms: list[pl.DataFrame]
    heads: list[dict[str, np.ndarray]]
    nonfinite_states: int

    def head_columns(self) -> dict[str, np.ndarray]:
        """All blocks' columns, one after the other."""
        names = self.heads[0] if self.heads else {}
        return {name: np.concatenate([block[name] for block in self.heads]) for name in names}


def measure_batch(subject: Subject, batch: Sequence[Prompt], options: MeasureOptions) -> BatchRows:
    """Run one batch through the body of the model once and reduce everything on the way."""
    states, heads = _StateRows(batch, options), _HeadRows(batch, options.sink_position)
    read(subject, batch, states, heads)
    return BatchRows(states.rows, states.massive, states.standing_out(), heads.rows, states.nonfinite)


class _StateRows:
    """The metrics of every state, and its massive rows and entries."""

    def __init__(self, batch: Sequence[Prompt], options: MeasureOptions) -> None:
        self.batch, self.options = batch, options
        self.rows = list[dict[str, Any]]()
        self.massive = list[dict[str, Any]]()
        self.norms: list[list[Tensor]] = [[] for _ in batch]
        self.nonfinite = 0

    def state(self, index: int, seen: StateSeen, /) -> None:
        for prompt, rows, norms in zip(self.batch, seen.prompts, self.norms, strict=True):
            alone = prompt.row < self.options.without_massive
            measured = metrics.measure_state(rows, **vars(self.options) | {"without_massive": alone})
            norms.append(measured.row_norms)
            key = {"prompt": prompt.row, "state": index}
            self.rows.append({**key, "tokens": len(prompt), **measured.metrics})
            self.nonfinite += not measured.finite
            for massive in measured.massive:
                self.massive.append({**key, **asdict(massive), "token_id": prompt.tokens[massive.position]})

    def standing_out(self) -> list[pl.DataFrame]:
        """Of each prompt the norms, at every state, of the rows that are the largest of a state and half massive."""
        return [
            _standing_out(prompt.row, torch.stack(norms).numpy(), self.options.massive_ratio / 2)
            for prompt, norms in zip(self.batch, self.norms, strict=True)
        ]


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


class _HeadRows:
    """The metrics of every head, as columns a block."""

    def __init__(self, batch: Sequence[Prompt], sink_position: int) -> None:
        self.batch, self.lengths, self.sink_position = batch, lengths_of(batch), sink_position
        self.rows = list[dict[str, np.ndarray]]()

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        columns = self._columns(seen)
        prompts, heads = columns["sink_score"].shape
        key = {
            "prompt": np.repeat([prompt.row for prompt in self.batch], heads),
            "block": np.full(prompts * heads, block),
            "head": np.tile(np.arange(heads), prompts),
        }
        self.rows.append(key | {name: column.flatten().cpu().numpy() for name, column in columns.items()})

    def _columns(self, seen: AttentionSeen) -> dict[str, Tensor]:
        """Every metric, prompt x head."""
        vectors, sink = seen.statistics, self.sink_position
        lengths = self.lengths.to(vectors.column_mass.device)
        columns = metrics.head_metrics(**vars(vectors), lengths=lengths, sink_position=sink)
        heads = columns["sink_score"].shape[1]
        for name, vector in (("value", seen.value), ("key", seen.key)):
            norms = metrics.sink_and_rest_norms(vector, lengths=lengths, sink_position=sink)
            shared = heads // norms.sink.shape[1]
            columns[f"sink_{name}_norm"] = norms.sink.repeat_interleave(shared, dim=1)
            columns[f"rest_{name}_norm"] = norms.rest.repeat_interleave(shared, dim=1)
        written = metrics.head_write_norm(seen.outputs, factors=seen.factors, lengths=lengths)
        return columns | {"head_write_norm": written, "dormant": metrics.dormant(written)}


def frames(
    results: Sequence[BatchRows], prompts: Sequence[Prompt], key: dict[str, str], tokenizer: Any, header: RunHeader
) -> dict[str, pl.DataFrame]:
    """The tables of a shard from the rows of its batches; ``header`` says which columns they have."""
    massive = [{**row, "token": tokenizer.decode([row["token_id"]])} for result in results for row in result.massive]
    rows = {
        "layers": [pl.DataFrame(result.layers, infer_schema_length=None) for result in results],
        "heads": [_with_gaps(pl.DataFrame(result.head_columns())) for result in results if result.heads],
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

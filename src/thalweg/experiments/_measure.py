"""One batch of prompts to rows of the tables: what capture shows is reduced by metrics and nothing is kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from thalweg import metrics
from thalweg.capture import AttentionSeen, Subject, observe
from thalweg.errors import ModelError, OverflowInFloat16
from thalweg.prompts import Prompt, padded
from thalweg.store import RunHeader, schema


@dataclass(frozen=True)
class MeasureOptions:
    """The thresholds that enter a row."""

    sink_position: int = 0
    massive_ratio: float = 10.0
    variants: bool = False


@dataclass
class BatchRows:
    """Rows of one batch: ``layers`` and ``massive`` as records, ``heads`` as columns a block."""

    layers: list[dict[str, Any]] = field(default_factory=list)
    massive: list[dict[str, Any]] = field(default_factory=list)
    heads: list[dict[str, np.ndarray]] = field(default_factory=list)
    nonfinite_states: int = 0

    def head_columns(self) -> dict[str, np.ndarray]:
        """All blocks' columns, one after the other."""
        names = self.heads[0] if self.heads else {}
        return {name: np.concatenate([block[name] for block in self.heads]) for name in names}


@torch.no_grad()
def measure_batch(subject: Subject, batch: Sequence[Prompt], options: MeasureOptions) -> BatchRows:
    """Run one batch through the body of the model once and reduce everything on the way.

    Raises:
        ModelError: a token has no row in the model's embedding.
        OverflowInFloat16: a float16 state holds an Inf.
    """
    tokens = token_batch(subject, batch)
    lengths = torch.tensor([len(prompt) for prompt in batch])
    reducer = _Reducer(batch, lengths, options)
    with observe(subject, reducer, lengths):
        subject.parts.body(input_ids=tokens, use_cache=False)
    return reducer.rows


def token_batch(subject: Subject, batch: Sequence[Prompt]) -> Tensor:
    """The batch's tokens, padded on the right, where the model takes them in.

    Raises:
        ModelError: a token has no row in the model's embedding.
    """
    tokens = torch.from_numpy(padded(batch))
    embedding: Any = subject.model.get_input_embeddings()
    rows = embedding.weight.shape[0]
    if int(tokens.max()) >= rows:
        raise ModelError(
            f"the tokenizer gives token {int(tokens.max())}, but the model's embedding has {rows} rows. "
            "Check that the tokenizer belongs to the model."
        )
    return tokens.to(subject.device)


def refuse_overflow(index: int, state: Tensor) -> None:
    """Stop at the first Inf of a float16 state, real tokens only.

    Raises:
        OverflowInFloat16: it holds one.
    """
    if state.dtype == torch.float16 and state.isinf().any():
        raise OverflowInFloat16(
            f"state {index} holds an Inf: float16 ends at 65504. Run again with --dtype bfloat16 or float32."
        )


class _Reducer:
    """Receives states and attention, leaves rows."""

    def __init__(self, batch: Sequence[Prompt], lengths: Tensor, options: MeasureOptions) -> None:
        self.batch, self.lengths, self.options = batch, lengths, options
        self.rows = BatchRows()

    def state(self, index: int, state: Tensor, /) -> None:
        for prompt, own in zip(self.batch, state, strict=True):
            refuse_overflow(index, own[: len(prompt)])
            measured = metrics.measure_state(
                own[: len(prompt)],
                sink_position=self.options.sink_position,
                massive_ratio=self.options.massive_ratio,
                variants=self.options.variants,
            )
            key = {"prompt": prompt.row, "state": index}
            self.rows.layers.append({**key, "tokens": len(prompt), **measured.metrics})
            self.rows.nonfinite_states += not measured.finite
            for one in measured.massive:
                found = {"kind": one.kind, "position": one.position, "dim": one.dim, "value": one.value}
                token = prompt.tokens[one.position]
                self.rows.massive.append({**key, **found, "token_id": token, "row_norm": one.row_norm})

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        vectors, sink = seen.statistics, self.options.sink_position
        lengths = self.lengths.to(vectors.column_mass.device)
        columns = metrics.head_metrics(
            column_mass=vectors.column_mass,
            row_entropy=vectors.row_entropy,
            diagonal=vectors.diagonal,
            previous=vectors.previous,
            row_sum=vectors.row_sum,
            visible=vectors.visible,
            lengths=lengths,
            sink_position=sink,
        )
        prompts, heads = columns["sink_score"].shape
        for name, read in (("value", seen.value), ("key", seen.key)):
            norms = metrics.sink_and_rest_norms(read, lengths=lengths, sink_position=sink)
            shared = heads // norms.sink.shape[1]
            columns[f"sink_{name}_norm"] = norms.sink.repeat_interleave(shared, dim=1)
            columns[f"rest_{name}_norm"] = norms.rest.repeat_interleave(shared, dim=1)
        written = metrics.head_write_norm(seen.outputs, factors=seen.factors, lengths=lengths)
        columns |= {"head_write_norm": written, "dormant": metrics.dormant(written)}
        flat = {name: column.flatten().cpu().numpy() for name, column in columns.items()}
        self.rows.heads.append(
            {
                "prompt": np.repeat([prompt.row for prompt in self.batch], heads),
                "block": np.full(prompts * heads, block),
                "head": np.tile(np.arange(heads), prompts),
                **flat,
            }
        )


def frames(
    results: Sequence[BatchRows], prompts: Sequence[Prompt], key: dict[str, str], tokenizer: Any, header: RunHeader
) -> dict[str, pl.DataFrame]:
    """The four tables of a shard from the rows of its batches; ``header`` says which columns they have."""
    massive = [{**row, "token": tokenizer.decode([row["token_id"]])} for result in results for row in result.massive]
    rows = {
        "layers": [pl.DataFrame(result.layers, infer_schema_length=None) for result in results],
        "heads": [_with_gaps(pl.DataFrame(result.head_columns())) for result in results if result.heads],
        "massive": [pl.DataFrame(massive, infer_schema_length=None)] if massive else [],
        "prompts": [pl.DataFrame([_prompt_row(prompt, keep_text=header.keep_text) for prompt in prompts])],
    }
    literals = {name: pl.lit(value) for name, value in key.items()}
    return {
        table: pl.concat(parts, how="vertical_relaxed").with_columns(**literals)
        if parts and prompts
        else pl.DataFrame(schema=schema(table, variants=header.variants, keep_text=header.keep_text))
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

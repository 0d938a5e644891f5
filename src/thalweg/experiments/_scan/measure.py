"""The rows of first tokens, many in one pass: each is a prompt of one token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from torch import Tensor

from thalweg.averages import birth_and_death
from thalweg.capture import (
    IdentifiedModel,
    Subject,
    brought,
    load_model,
    plain_subject,
    proved_states,
    watch_states,
)
from thalweg.engines import BatchOptions, progress_bar, require_all, run_shards
from thalweg.errors import ModelError, OverflowInFloat16, UsageError
from thalweg.experiments._prepare import Prepared
from thalweg.experiments._scan import TABLES
from thalweg.metrics import row_norms
from thalweg.prompts import Prompt, Shard
from thalweg.store import Findings

NAME = "scan"
ALL, AUTO = "all", "auto"
TOGETHER, FEW = 4096, 256
"""Tokens of a pass: of one that is reduced on the way, and of one whose states are held to be proved."""
RANKS = 4


def scanned(prepared: Prepared, asked: Sequence[str], top: int) -> Findings:
    """Measure if it was not, and give what was found."""
    model, first = prepared.model, prepared.tokenizations[0].bos.token
    if asked == [AUTO]:
        asked = [ALL] if first is None else [first]
    named = dict.fromkeys(_first_token(model, text) for text in asked) if asked != [ALL] else _every(model)
    ids = list(named)
    settings = {**prepared.key, "first_tokens": ALL if asked == [ALL] else ids, "top": top}
    with prepared.opened(NAME, settings, TABLES) as writer:
        if writer.missing:
            subject, shown = plain_subject(load_model(_from_disk(model))), prepared.options.progress
            kept = ids if len(ids) <= top else _longest(subject, ids, top, shown=shown)
            key = [pl.lit(value).alias(name) for name, value in prepared.key.items()]
            for table, frame in _tables(model, _followed(subject, kept, shown=shown), len(ids)).items():
                writer.write_table(table, frame.with_columns(key))
        writer.update(status="finished")
    return writer.reading()


def _every(model: IdentifiedModel) -> list[int]:
    """The tokens that the tokenizer and the embedding both know."""
    rows = model.config.get_text_config(decoder=True).vocab_size
    return sorted(token for token in set(model.tokenizer.get_vocab().values()) if token < rows)


def _first_token(model: IdentifiedModel, text: str) -> int:
    known = model.tokenizer.get_vocab().get(text)  # as a special token is written
    tokens = model.tokenizer.encode(text, add_special_tokens=False) if known is None else [known]
    if not tokens:
        raise UsageError(f"--first-tokens {text!r} gives no token. Name words, all, or leave it out.")
    return tokens[0]


def _from_disk(model: IdentifiedModel) -> IdentifiedModel:
    """The same, read block by block where its weights are plain and on the disk, and nobody asked for a device."""
    options = model.options
    plain = model.given is None and model.gguf is None and model.adapter is None and model.quantization is None
    if not plain or options.allow_pickle or options.device is not None or options.device_map is not None:
        return model
    return replace(model, options=replace(options, device_map="disk"))


Measure = Callable[[Tensor, list[int]], None]
"""Given tokens, batch x 1, and their places among all."""


def _passed(subject: Subject, ids: Sequence[int], measure: Measure, together: int, *, shown: bool) -> None:
    """Tokens in passes of so many; one that does not fit into memory is halved."""

    def measured(batch: Sequence[Prompt]) -> None:
        tokens = torch.tensor([prompt.tokens for prompt in batch], device=subject.device)
        measure(tokens, [prompt.row for prompt in batch])
        progress.rows(len(batch))

    prompts = tuple(Prompt(place, (token,), "", "", truncated=False) for place, token in enumerate(ids))
    shard = Shard(0, len(ids), prompts, ())
    with progress_bar("scan", len(ids), shown=shown) as progress:
        run_shards([shard], measure=measured, finish=lambda done, _: require_all(done), options=BatchOptions(together))


@torch.no_grad()
def _longest(subject: Subject, ids: Sequence[int], top: int, *, shown: bool) -> list[int]:
    """The tokens whose rows become longest, the first of equal ones; what is not finite is the first of all."""
    peaks = np.zeros(len(ids))

    def measure(tokens: Tensor, places: list[int]) -> None:
        norms = list[Tensor]()
        with watch_states(subject, lambda _, state: norms.append(row_norms(state[:, 0]))):
            subject.parts.body(input_ids=tokens, use_cache=False)
        peaks[places] = brought(norms).amax(0).numpy()

    _passed(subject, ids, measure, TOGETHER, shown=shown)
    return [ids[place] for place in np.argsort(-np.nan_to_num(peaks, nan=np.inf), kind="stable")[:top]]


@dataclass(frozen=True)
class _Followed:
    """Tokens, the longest row first: norms, token x state, and the largest coordinates, token x state x rank."""

    ids: list[int]
    norms: np.ndarray
    dims: np.ndarray
    values: np.ndarray


def _followed(subject: Subject, ids: Sequence[int], *, shown: bool = False) -> _Followed:
    """Tokens through the model, in passes that prove the states to be its own."""
    shape = (len(ids), len(subject.parts.blocks) + 1)
    norms, dims, values = np.empty(shape), np.empty((*shape, RANKS), dtype=np.int64), np.empty((*shape, RANKS))

    def measure(tokens: Tensor, places: list[int]) -> None:
        for state, rows in enumerate(brought([padded[:, 0] for padded in proved_states(subject, tokens)])):
            _require_finite(rows, state)
            largest = rows.abs().topk(RANKS).indices
            norms[places, state] = row_norms(rows).numpy()
            dims[places, state] = largest.numpy()
            values[places, state] = rows.gather(1, largest).double().numpy()

    _passed(subject, ids, measure, FEW, shown=shown)
    order = np.argsort(-norms.max(1), kind="stable")
    return _Followed([ids[place] for place in order], norms[order], dims[order], values[order])


def _require_finite(rows: Tensor, state: int) -> None:
    if rows.isfinite().all():
        return
    if rows.dtype == torch.float16:
        raise OverflowInFloat16(f"state {state} is beyond float16. Run again with --dtype bfloat16 or float32.")
    raise ModelError(f"state {state} is not finite: a weight is NaN or infinite. `thalweg verify` names it.")


def _tables(model: IdentifiedModel, found: _Followed, every: int) -> dict[str, pl.DataFrame]:
    rows = [
        {
            "id": token,
            "token": model.tokenizer.decode([token]),
            "rank": place + 1,
            "scanned": every,
            "peak_norm": float(own.max()),
            "peak_state": int(own.argmax()),
            **birth_and_death(own),
        }
        for place, (token, own) in enumerate(zip(found.ids, found.norms, strict=True))
    ]
    return {
        "tokens": pl.DataFrame(rows, schema={name: TABLES["tokens"].schema[name] for name in rows[0]}),
        "norms": _long(found.ids, {"norm": found.norms}),
        "coordinates": _long(found.ids, {"dim": found.dims, "value": found.values}),
    }


def _long(ids: Sequence[int], columns: dict[str, np.ndarray]) -> pl.DataFrame:
    """One row for each token, state and, where there is one, rank."""
    first = next(iter(columns.values()))
    places = np.indices(first.shape).reshape(first.ndim, -1)
    names = ("id", "state", "rank")[: first.ndim]
    frame = pl.DataFrame(dict(zip(names, places, strict=True)))
    frame = frame.with_columns(pl.Series("id", np.asarray(ids)[places[0]]))
    return frame.with_columns(pl.Series(name, column.ravel()) for name, column in columns.items())

"""The rows of first tokens, many in one pass: each is a prompt of one token."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from thalweg.capture import IdentifiedModel, Subject, load_model, plain_subject, watch_states
from thalweg.engines import BatchOptions, progress_bar, require_all, run_shards
from thalweg.errors import ProofError, UsageError
from thalweg.experiments._prepare import Prepared
from thalweg.experiments._scan import TABLES
from thalweg.metrics import row_norms
from thalweg.prompts import Prompt, Shard
from thalweg.store import Findings

NAME = "scan"
ALL, AUTO = "all", "auto"
TOGETHER = 4096
"""Tokens of a pass."""
RANKS = 4
SAME = 1e-4
"""How near the model's own states have to be, relative to the row, in float32; the final norm is left out."""


def scanned(prepared: Prepared, asked: Sequence[str], top: int) -> Findings:
    """Measure if it was not, and give what was found."""
    model, first = prepared.model, prepared.tokenizations[0].bos.token
    if asked == [AUTO]:
        asked = [ALL] if first is None else [first]
    ids = _every(model) if asked == [ALL] else [_first_token(model, text) for text in asked]
    settings = {**prepared.key, "first_tokens": ALL if asked == [ALL] else ids, "top": top}
    with prepared.opened(NAME, settings, TABLES) as writer:
        if writer.missing:
            subject = plain_subject(load_model(_from_disk(model)))
            norms = _norms(subject, ids, shown=prepared.options.progress)
            order = np.argsort(-np.nan_to_num(norms.max(1), nan=-1.0), kind="stable")[:top]
            kept = [ids[place] for place in order]
            key = [pl.lit(value).alias(name) for name, value in prepared.key.items()]
            rows = {
                "tokens": _tokens(model, kept, norms[order], len(ids)),
                "norms": _long(kept, {"norm": norms[order]}),
                "coordinates": _coordinates(subject, kept),
            }
            for table, frame in rows.items():
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


@torch.no_grad()
def _rows(subject: Subject, ids: Sequence[int], see: Any) -> None:
    """One pass of these tokens, each alone; the model's own states have to be those that are seen."""
    seen = list[Tensor]()

    def keep(index: int, state: Tensor) -> None:
        seen.append(state[:1, 0].double().cpu())
        see(index, state[:, 0])

    with watch_states(subject, keep):
        tokens = torch.tensor(ids, device=subject.device)[:, None]
        output = subject.parts.body(input_ids=tokens, use_cache=False, output_hidden_states=True, return_dict=True)
    own = [state[:1, 0].double().cpu() for state in output.hidden_states or ()]
    if len(seen) != len(subject.parts.blocks) + 1 or not own:
        raise ProofError(f"{type(subject.model).__name__} shows {len(seen)} states; `thalweg verify` says more.")
    for index, (one, other) in enumerate(zip(seen[:-1], own[:-1], strict=True)):
        limit = SAME * float(other.norm()) if subject.model.dtype in (torch.float32, torch.float64) else math.inf
        if float((one - other).norm()) > limit:
            raise ProofError(
                f"state {index} of {type(subject.model).__name__} is not the model's own; `thalweg verify` says more."
            )


def _norms(subject: Subject, ids: Sequence[int], *, shown: bool = False) -> np.ndarray:
    """Tokens x states; a pass that does not fit into memory is halved."""
    prompts = tuple(Prompt(place, (token,), "", "", truncated=False) for place, token in enumerate(ids))
    every = np.full((len(ids), len(subject.parts.blocks) + 1), np.nan)

    def measure(batch: Sequence[Prompt]) -> None:
        norms = list[np.ndarray]()
        _rows(subject, [prompt.tokens[0] for prompt in batch], lambda _, rows: norms.append(row_norms(rows).numpy()))
        every[[prompt.row for prompt in batch]] = np.stack(norms, axis=1)
        progress.rows(len(batch))

    shard = Shard(0, len(ids), prompts, ())
    with progress_bar("scan", len(ids), shown=shown) as progress:
        run_shards([shard], measure=measure, finish=lambda done, _: require_all(done), options=BatchOptions(TOGETHER))
    return every


def _tokens(model: IdentifiedModel, ids: Sequence[int], norms: np.ndarray, every: int) -> pl.DataFrame:
    rows = [
        {
            "id": token,
            "token": model.tokenizer.decode([token]),
            "rank": place + 1,
            "scanned": every,
            "peak_norm": float(own.max()),
            "peak_state": int(own.argmax()),
            **course(own),
        }
        for place, (token, own) in enumerate(zip(ids, norms, strict=True))
    ]
    return pl.DataFrame(rows, schema={name: TABLES["tokens"].schema[name] for name in rows[0]})


def course(norms: np.ndarray) -> dict[str, float | int | None]:
    """Birth and death of a row: where its norm rises most, and where it falls most after that.

    Example:
        Norms 1, 2, 200, 190, 3: born at state 2 (x 100), dead at state 4 (x 0.0158).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.diff(np.log(norms))
    steps[~np.isfinite(steps)] = 0.0
    birth = int(steps.argmax()) if steps.size and steps.max() > 0 else None
    after = steps[birth + 1 :] if birth is not None else steps[:0]
    death = birth + 1 + int(after.argmin()) if birth is not None and after.size and after.min() < 0 else None
    return {
        "birth": None if birth is None else birth + 1,
        "rise": math.nan if birth is None else math.exp(steps[birth]),
        "death": None if death is None else death + 1,
        "fall": math.nan if death is None else math.exp(steps[death]),
    }


def _coordinates(subject: Subject, ids: Sequence[int]) -> pl.DataFrame:
    dims, values = list[np.ndarray](), list[np.ndarray]()

    def see(_: int, rows: Tensor) -> None:
        largest = rows.double().cpu().abs().topk(min(RANKS, rows.shape[1])).indices
        dims.append(largest.numpy())
        values.append(rows.double().cpu().gather(1, largest).numpy())

    _rows(subject, ids, see)
    return _long(ids, {"dim": np.stack(dims, axis=1), "value": np.stack(values, axis=1)})


def _long(ids: Sequence[int], columns: dict[str, np.ndarray]) -> pl.DataFrame:
    """One row for each token, state and, where there is one, rank."""
    first = next(iter(columns.values()))
    places = np.indices(first.shape).reshape(first.ndim, -1)
    names = ("id", "state", "rank")[: first.ndim]
    frame = pl.DataFrame(dict(zip(names, places, strict=True)))
    frame = frame.with_columns(pl.Series("id", np.asarray(ids)[places[0]]))
    return frame.with_columns(pl.Series(name, column.ravel()) for name, column in columns.items())

"""Tables of lenses, multiple choice, probes and MTEB made up from known numbers, added to a run."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tests.synthetic_run import PLANTED, Plant, add_findings, header

from thalweg.averages import birth_and_death
from thalweg.experiments import tables_of
from thalweg.experiments._mteb.measure import task_means
from thalweg.experiments._probe.measure import accuracy
from thalweg.store import Shard

TYPES = {"STS12": "STS", "STS13": "STS", "Banking77Classification": "Classification"}
NAN = math.nan


def _write(run: Path, plant: Plant, name: str, settings: dict[str, Any], tables: dict[str, list[dict[str, Any]]]):
    asked = {"model": plant.name, "revision": plant.revision, **settings}
    facts = header((plant,), ())
    with add_findings(run, facts, name, asked, joins="models") as writer:
        for table, rows in tables.items():
            schema = tables_of(name)[table].schema
            key = {"model": plant.name, "revision": plant.revision}
            every = [{column: (key | row).get(column) for column in schema} for row in rows]
            writer.write_table(table, pl.DataFrame(every, schema=schema))
        writer.update(status="finished")


def with_mteb(run: Path, scores: dict[str, list[float]], *, plant: Plant = PLANTED, pooling: str = "mean") -> Path:
    """Add main scores, by task and state."""
    rows = [
        {"task": task, "type": TYPES.get(task, "STS"), "metric": "accuracy", "state": state, "score": score}
        for task, own in scores.items()
        for state, score in enumerate(own)
    ]
    key = {"model": plant.name, "revision": plant.revision}
    schema = tables_of("mteb")["tasks"].schema
    means = task_means(pl.DataFrame([key | row for row in rows], schema=schema).drop("metric"))
    settings = {"tasks": [*scores], "languages": ["eng"], "pooling": pooling, "max_length": 1024}
    places = [{**row, "split": "test", "subset": "default", "data_revision": "1"} for row in rows]
    _write(run, plant, "mteb", settings, {"scores": places, "tasks": rows, "means": means.to_dicts()})
    return run


def with_probe(
    run: Path,
    test: list[float],
    validation: list[float] | None = None,
    *,
    n: int = 400,
    unconverged: tuple[int, ...] = (),
    pooling: str = "mean",
) -> Path:
    """Add accuracies of a linear probe by state; the first so many answers of each state are right."""
    rows = [
        {"data": "sst2", "split": split, "state": state, "loss": 0.5, "converged": state not in unconverged}
        | vars(accuracy(round(share * n), n))
        for split, own in (("train", test), ("validation", validation or []), ("test", test))
        for state, share in enumerate(own)
    ]
    answers = [
        {"data": "sst2", "split": "test", "row": row, "right": [row < round(share * n) for share in test]}
        for row in range(n)
    ]
    splits = [
        {"data": "sst2", "split": split, "source": "here", "examples": n, "chance": 0.5, "majority": 0.5}
        for split in dict.fromkeys(row["split"] for row in rows)
    ]
    recipe = {"classifier": "linear", "learning_rate": 5e-4, "epochs": 1, "batch": 32, "seed": 123}
    recipe |= {"standardize": False}
    tables = {"splits": splits, "answers": answers, "accuracy": rows}
    _write(run, PLANTED, "probe", {**recipe, "pooling": pooling, "pair": False}, tables)
    return run


def with_mcq(run: Path, scores: dict[str, list[float]], *, lens: str = "logit", shots: int = 0, n: int = 2000) -> Path:
    """Add accuracies of multiple choice, by task and state; the first so many answers of each state are right."""
    rows = [
        {
            "lens": lens,
            "task": task,
            "group": False,
            "shots": shots,
            "state": state,
            "metric": metric,
            "value": value / (2 if metric == "acc_norm" else 1),
            "stderr": math.sqrt(value * (1 - value) / n),
            "n": n,
            "chance": 0.25,
            "truncated": 0,
            "version": "1",
        }
        for task, own in scores.items()
        for state, value in enumerate(own)
        for metric in ("acc", "acc_norm")
    ]
    settings = {"tasks": [*scores], "num_fewshot": shots, "lens": lens, "limit": None, "max_length": 1024}
    answers = [
        {"lens": lens, "task": task, "metric": "acc", "row": row, "right": [float(row < round(v * n)) for v in own]}
        for task, own in scores.items()
        for row in range(n)
    ]
    _write(run, PLANTED, "mcq", settings, {"scores": rows, "answers": answers})
    return run


OF_PERPLEXITY = {
    "loss": math.log,
    "perplexity": float,
    "output_entropy": lambda value: math.log(value) + 0.5,
    "agreement": lambda value: 40 / value,
    "kl": lambda value: math.log(value / 40),
}
"""What else a lens measures, made up from its perplexity; at 40 it says what the model says."""


def with_lens(
    run: Path,
    perplexities: list[float],
    *,
    data: str = "words",
    prompts: list[tuple[int, list[float]]] | None = None,
    **settings: Any,
) -> Path:
    """Add averages of a lens, the logit lens by default, on a data set of the run, by state.

    ``prompts``: tokens and sums of losses by state, one a prompt.
    """
    asked = {"lens": "logit", "final_norm": True, "block_length": None, **settings}
    key = {"model": PLANTED.name, "revision": PLANTED.revision, "data": data}
    ends = {"low": NAN, "high": NAN, "scored": 1090, "n": 2}
    rows = [
        {**key, "state": state, "metric": metric, "value": made(value), **ends}
        for metric, made in OF_PERPLEXITY.items()
        for state, value in enumerate(perplexities)
    ]
    sums = dict.fromkeys(("output_entropy_sum", "agreement_sum", "kl_sum"), 0.0)
    parts = [
        {**key, "prompt": prompt, "state": state, "scored": scored, "loss_sum": loss, **sums}
        for prompt, (scored, losses) in enumerate(prompts or [])
        for state, loss in enumerate(losses)
    ]
    with add_findings(run, header((PLANTED,), (data,)), "lens", asked) as writer:
        if parts:
            place = Shard(PLANTED.name, PLANTED.revision, data, 0, len(prompts or []))
            writer.write_part(place, {"lens": pl.DataFrame(parts, schema=tables_of("lens")["lens"].schema)})
        writer.write_table("curves", pl.DataFrame(rows, schema=tables_of("lens")["curves"].schema))
        writer.update(status="finished")
    return run


def with_training(run: Path, losses: list[list[float]], *, data: str = "words", status: Any = "finished") -> Path:
    """Add a training of a tuned lens: KL by step and state."""
    key = {"model": PLANTED.name, "revision": PLANTED.revision, "data": data}
    rows = [
        {**key, "step": step, "state": state, "kl": loss}
        for step, own in enumerate(losses)
        for state, loss in enumerate(own)
    ]
    with add_findings(run, header((PLANTED,), (data,)), "tuned_lens", {"steps": len(losses)}) as writer:
        writer.write_table("training", pl.DataFrame(rows, schema=tables_of("tuned_lens")["training"].schema))
        writer.update(status=status)
    return run


def with_maps(run: Path, *, data: str = "words", tokens: int = 6, heads: int = 3) -> Path:
    """Add maps of some heads of block 1 on one prompt: the first a sink, the second an identity, others uniform."""
    ways = np.tri(tokens) / np.arange(1, tokens + 1)[:, None]
    every = [np.eye(1, tokens).repeat(tokens, 0), np.eye(tokens), *[ways] * heads][:heads]
    key = {"model": PLANTED.name, "revision": PLANTED.revision, "data": data, "prompt": 0}
    place = [{**key, "block": 1, "head": head} for head in range(heads)]
    numbers = dict.fromkeys(("sink_score", "top_score", "mixing_normalized", "diagonal", "previous", "svi"), 0.5)
    patterns = [["sink"], ["identity", "previous token"], []]
    rows = {
        "heads": [
            {**own, **numbers, "phase": "mix", "patterns": of, "top_position": 0}
            for own, of in zip(place, patterns, strict=False)
        ],
        "maps": [
            {**own, "tokens": tokens, "truncated": False, "map": np.uint8(np.round(255 * np.sqrt(each))).tobytes()}
            for own, each in zip(place, every, strict=True)
        ],
        "tokens": [{**key, "position": at, "token_id": at, "token": f" <{at}>\n"} for at in range(tokens)],
        "token_states": [
            {**key, "state": state, "position": at, "norm": 900.0 if at == 0 and state in (2, 3) else 1.0 + state + at}
            for state in range(PLANTED.blocks + 1)
            for at in range(tokens)
        ],
        "token_blocks": [
            {**key, "block": block, "position": at, "received": share}
            for block in range(PLANTED.blocks)
            for at, share in enumerate(np.mean(every, axis=(0, 1)))
        ],
        "token_heads": [
            {**own, "position": at, "looks_at": int(each[at].argmax())}
            for own, each in zip(place, every, strict=True)
            for at in range(tokens)
        ],
    }
    with add_findings(run, header((PLANTED,), (data,)), "maps", {"prompt": 0, "heads": "auto"}) as writer:
        for table, own in rows.items():
            schema = tables_of("maps")[table].schema
            whole = [{column: row.get(column) for column in schema} for row in own]
            writer.write_table(table, pl.DataFrame(whole, schema=schema))
        writer.update(status="finished")
    return run


def with_scan(run: Path, norms: dict[str, list[float]]) -> Path:
    """Add a scan of first tokens: norms by token and state."""
    every = sorted(norms, key=lambda token: -max(norms[token]))
    rows = [
        {"id": place, "token": token, "rank": place + 1, "scanned": len(norms), "peak_norm": max(norms[token])}
        | {"peak_state": norms[token].index(max(norms[token]))}
        | birth_and_death(np.array(norms[token]))
        for place, token in enumerate(every)
    ]
    states = [(place, state, norm) for place, token in enumerate(every) for state, norm in enumerate(norms[token])]
    named = [{"id": place, "state": state, "norm": norm} for place, state, norm in states]
    largest = [{"id": place, "state": state, "rank": 0, "dim": 3, "value": -norm} for place, state, norm in states]
    tables = {"tokens": rows, "norms": named, "coordinates": largest}
    _write(run, PLANTED, "scan", {"first_tokens": "all", "top": 20}, tables)
    return run

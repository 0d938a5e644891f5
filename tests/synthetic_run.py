"""A run made up from matrices whose truth is known: one model with a planted massive activation, one without.

Every number in ``layers`` is computed from a small random state by the plain formula, so that the tables are
consistent with one another; sinks are planted in chosen heads.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from thalweg import averages
from thalweg.experiments import tables_of
from thalweg.experiments._survey.tables import tables as survey_tables
from thalweg.store import (
    DataFacts,
    Findings,
    FindingsWriter,
    ModelFacts,
    PartCounts,
    Run,
    RunHeader,
    Session,
    Shard,
    open_findings,
    open_run,
)

NAN = float("nan")
WIDTH = 48
TAU = 0.3


@dataclass(frozen=True)
class Plant:
    """What is true of a synthetic model: in states first..last row 0 carries `value` in `dims`."""

    name: str
    blocks: int
    heads: int
    first: int | None = None
    last: int | None = None
    dims: tuple[int, ...] = ()
    value: float = 0.0
    sinks: tuple[int, ...] = ()
    revision: str = "main"

    def is_massive(self, state: int) -> bool:
        return self.first is not None and self.first <= state <= (self.last or 0)


PLANTED = Plant("lab/planted", blocks=8, heads=4, first=2, last=7, dims=(12, 40), value=1498.0, sinks=(1, 3))
PLAIN = Plant("lab/plain", blocks=6, heads=4)
LENGTHS = (24, 7, 16, 31, 12, 40, 24, 9)


def header(models=(PLANTED, PLAIN), data=("words", "sums"), **options) -> RunHeader:
    return RunHeader(
        models=tuple(
            ModelFacts(
                name=model.name,
                revision=model.revision,
                weights=f"sha256:{model.name}",
                dtype="float32",
                attention="sdpa",
                positions="rope",
                blocks=model.blocks,
                heads=model.heads,
                width=WIDTH,
                vocabulary=500,
                bos_token="<s>",
            )
            for model in models
        ),
        data=tuple(DataFacts(name=name, hash=f"sha256:{name}", template="{text}") for name in data),
        **options,
    )


def session(models=(PLANTED, PLAIN), **changes) -> Session:
    said = {
        "command": ("thalweg", "survey", *(model.name for model in models)),
        "resolved": {"limit": len(LENGTHS), "dtype": "float32"},
        "versions": {"thalweg": "0.1.0", "torch": "2.13.0"},
        "hardware": {"cpu": "two cores"},
    }
    return Session(**{**said, **changes})


def open_survey(path: Path, asked: RunHeader, said: Session | None = None, *, grown: bool = False) -> FindingsWriter:
    """The survey of a run, for writing."""
    tables = survey_tables(variants=asked.variants, keep_text=asked.keep_text)
    said = session(asked.models) if said is None else said
    return open_findings(path, asked, "survey", {}, tables, session=said, joins="grown" if grown else "whole")


def add_findings(
    path: Path, asked: RunHeader, experiment: str, settings: dict, *, joins="part", **said_by
) -> FindingsWriter:
    """One of thalweg's own experiments in a run, for writing."""
    said = session(asked.models, **said_by)
    return open_findings(path, asked, experiment, settings, tables_of(experiment), session=said, joins=joins)


def schema(table: str, *, variants: bool = False, keep_text: bool = False) -> dict:
    """The columns of one table of a survey."""
    return survey_tables(variants=variants, keep_text=keep_text)[table].schema


def part_tables(
    model: Plant, data: str, rows: range, *, lengths=LENGTHS, token: str = "<s>"
) -> dict[str, pl.DataFrame]:
    layers, heads, massive, prompts = [], [], [], []
    for row in rows:
        tokens = lengths[row % len(lengths)]
        key = {"model": model.name, "revision": model.revision, "data": data, "prompt": row}
        random = np.random.default_rng([row, len(data), model.blocks])
        layers += [key | _layer(model, state, tokens, random) for state in range(model.blocks + 1)]
        heads += [
            key | _head(model, block, head, tokens, random)
            for block in range(model.blocks)
            for head in range(model.heads)
        ]
        massive += [key | entry for state in range(model.blocks + 1) for entry in _massive(model, state, token)]
        prompts.append(key | _prompt(tokens))
    standing = [
        {name: layer[name] for name in ("model", "revision", "data", "prompt", "state")}
        | {"position": 0, "norm": layer["sink_norm"]}
        for layer in layers
        if model.first is not None
    ]
    rows_of = {"layers": layers, "heads": heads, "massive": massive, "row_norms": standing, "prompts": prompts}
    return {table: pl.DataFrame(found, schema=schema(table)) for table, found in rows_of.items()}


def write_parts(
    writer: FindingsWriter,
    models=(PLANTED, PLAIN),
    data=("words", "sums"),
    *,
    prompts: int = 8,
    step: int = 4,
    **options,
):
    for model in models:
        for name in data:
            for first in range(0, prompts, step):
                shard = Shard(model.name, model.revision, name, first, min(first + step, prompts))
                tables = part_tables(model, name, range(shard.first_row, shard.stop_row), **options)
                short = tables["prompts"].filter(pl.col("sink_uniform") >= TAU).height
                writer.write_part(shard, tables, counts=PartCounts(short_prompts=short))


def write_aggregates(writer: FindingsWriter, models=(PLANTED, PLAIN), data=("words", "sums")) -> None:
    profile = pl.concat([_profile(writer.reading(), model, name) for model in models for name in data])
    writer.write_table("profile", profile)
    layers, heads, massive, rows, prompts = (
        writer.reading().table(name) for name in ("layers", "heads", "massive", "row_norms", "prompts")
    )
    claims = averages.claims(layers, heads, prompts)
    of_pairs = pl.DataFrame([(m.name, m.revision, d) for m in models for d in data], schema=averages.KEYS, orient="row")
    for name, table in {
        "phases": averages.phases(layers, profile, claims),
        "segments": averages.segments(layers, rows, massive.filter(kind="row")),
        "claims": claims,
    }.items():
        writer.write_table(name, of_pairs.join(table, on=averages.KEYS, maintain_order="left_right"))
    rows = [_coupling(model, name) for model in models for name in data]
    coupling = pl.DataFrame(rows, schema=schema("coupling"))
    writer.write_table("coupling", coupling)


def build_run(path: Path, models=(PLANTED, PLAIN), data=("words", "sums"), **options) -> Run:
    """Write a finished run and open it."""
    with open_survey(path, header(models, data)) as writer:
        write_parts(writer, models, data, **options)
        write_aggregates(writer, models, data)
        writer.update(status="finished")
    return open_run(path)


@np.errstate(divide="ignore", invalid="ignore")
def _layer(model: Plant, state: int, tokens: int, random: np.random.Generator) -> dict:
    x = random.standard_normal((tokens, WIDTH)) * (1 + 0.4 * state)
    if model.is_massive(state):
        x[0, list(model.dims)] = model.value
    norms = np.linalg.norm(x, axis=1)
    squares = np.linalg.svd(x, compute_uv=False) ** 2
    total, rank = squares.sum(), min(tokens, WIDTH)
    share = squares / total
    first, second, third = [*squares, NAN, NAN][:3]
    entropy = -(share * np.log(share)).sum()
    alone = np.linalg.svd(np.delete(x, norms.argmax(), axis=0), compute_uv=False) ** 2
    alone = alone / alone.sum()
    without = -(alone * np.log(alone)).sum()
    others = norms[1:].mean() if tokens > 1 else NAN
    big_m, rest = norms[0] ** 2, (norms[1:] ** 2).sum()
    alpha = ((x[1:] @ x[0] / norms[0]) ** 2).sum() / rest
    ratio = big_m / rest
    strong, weak = (ratio + alpha) / (ratio + 1), ratio / (ratio + 1)
    peak = np.unravel_index(np.abs(x).argmax(), x.shape)
    massive = model.is_massive(state)
    return {
        "state": state,
        "tokens": tokens,
        "entropy": entropy,
        "entropy_normalized": entropy / np.log(rank),
        "anisotropy": share[0],
        "effective_rank": np.exp(entropy),
        "sigma1_sq": first,
        "sigma2_sq": second,
        "sigma3_sq": third,
        "frobenius_sq": total,
        "entropy_without_massive": without,
        "entropy_without_massive_normalized": without / np.log(len(alone)),
        "median_norm": np.median(norms),
        "sink_norm": norms[0],
        "rest_norm": others,
        "norm_ratio": norms[0] / others,
        "row_ratio": norms.max() / np.median(norms) if tokens > 1 else NAN,
        "row_position": int(norms.argmax()),
        "peak_value": x[peak],
        "peak_position": int(peak[0]),
        "peak_dim": int(peak[1]),
        "median_abs": np.median(np.abs(x)),
        "M": big_m,
        "R": rest,
        "alpha": alpha,
        "c": ratio,
        "dominance": squares[0] / squares[1:].sum(),
        "sigma1_sq_bound": big_m + alpha * rest,
        "sigma1_sq_bound_weak": big_m,
        "dominance_bound": (ratio + alpha) / (1 - alpha),
        "dominance_bound_weak": ratio,
        "anisotropy_bound": strong,
        "anisotropy_bound_weak": weak,
        "entropy_bound": _entropy_bound(strong, rank),
        "entropy_bound_weak": _entropy_bound(weak, rank) if weak >= 1 / rank else np.log(rank),
        "massive_row_count": int(massive),
        "massive_rank": int(massive),
        "massive_share": strong if massive else 0.0,
        "entropy_bound_massive": _entropy_bound(strong, rank) if massive else np.log(rank),
        "massive_entry_count": len(model.dims) if massive else 0,
        "bound_violated": False,
        "reason": None,
    }


def _entropy_bound(p: float, rank: int) -> float:
    return float(-p * np.log(p) - (1 - p) * np.log(1 - p) + (1 - p) * np.log(rank - 1))


@np.errstate(divide="ignore", invalid="ignore")
def _head(model: Plant, block: int, head: int, tokens: int, random: np.random.Generator) -> dict:
    sinks = head in model.sinks and model.is_massive(block)
    score = 0.9 + 0.05 * random.random() if sinks else 0.02 * random.random()
    mixing = (0.2 if sinks else 0.75) * np.log(tokens) * (1 - 0.1 * random.random())
    concentration = 0.8 if sinks else 0.1
    names = "colsum_floor diagonal previous svi sink_value_norm rest_value_norm sink_key_norm rest_key_norm"
    return {
        "block": block,
        "head": head,
        "sink_score": score,
        "top_position": 0,
        "top_score": max(score, 0.1),
        "mixing": mixing,
        "mixing_normalized": mixing / np.log(tokens),
        "mixing_over_log_length": mixing / np.log(tokens),
        "colsum_concentration": concentration,
        "attended": 1.0,
        "head_write_norm": 0.05 if sinks else 1.0,
        "dormant": sinks,
        **dict.fromkeys(names.split(), 0.1),
    }


def _massive(model: Plant, state: int, token: str) -> list[dict]:
    if not model.is_massive(state):
        return []
    common = {"state": state, "position": 0, "token_id": 1, "token": token, "row_norm": model.value * 1.414}
    entries = [common | {"kind": "entry", "dim": dim, "value": model.value} for dim in model.dims]
    return [*entries, common | {"kind": "row", "dim": None, "value": None}]


def _prompt(tokens: int) -> dict:
    harmonic = sum(1 / k for k in range(1, tokens + 1))
    return {
        "tokens": tokens,
        "first_token": 1,
        "truncated": False,
        "sink_uniform": harmonic / tokens,
        "sha256": "0" * 64,
    }


_GEOMETRIC = ("norm_ratio", "row_ratio")
_STATE_METRICS = [
    name
    for name, dtype in schema("layers").items()
    if dtype.is_numeric() and name not in ("prompt", "state", "tokens") and not name.endswith(("position", "dim"))
]
_HEAD_METRICS = [
    name for name, dtype in schema("heads").items() if dtype.is_numeric() and name not in ("prompt", "block", "head")
]


def _profile(survey: Findings, model: Plant, data: str) -> pl.DataFrame:
    own = (pl.col("model") == model.name) & (pl.col("revision") == model.revision) & (pl.col("data") == data)
    short = survey.table("prompts").filter(own & (pl.col("sink_uniform") >= TAU)).collect()["prompt"].implode()
    states = (
        survey.table("layers").filter(own).select("prompt", pl.col("state").alias("index"), *_STATE_METRICS).collect()
    )
    blocks = (
        survey.table("heads")
        .filter(own)
        .group_by("prompt", pl.col("block").alias("index"), maintain_order=True)
        .agg(
            pl.col(_HEAD_METRICS).mean(),
            (pl.col("sink_score") >= TAU).mean().alias("sink_rate"),
            (pl.col("colsum_concentration") >= TAU).mean().alias("colsum_rate"),
            pl.col("dormant").mean().alias("dormant_rate"),
        )
        .with_columns(
            pl.when(pl.col("prompt").is_in(short)).then(NAN).otherwise(pl.col(name)).alias(name)
            for name in ("sink_rate", "colsum_rate")
        )
        .collect()
    )
    frames = [_statistics(states, "state"), _statistics(blocks, "block")]
    key = [
        pl.lit(value).alias(name)
        for name, value in (("model", model.name), ("revision", model.revision), ("data", data))
    ]
    phase = pl.col("index").map_elements(lambda index: _phase(model, index), return_dtype=pl.String)
    return pl.concat(frames).with_columns(*key, phase.alias("phase"))


def _phase(model: Plant, index: int) -> str | None:
    if model.first is None:
        return None
    return "mix" if index < model.first else "compress" if index <= (model.last or 0) else "refine"


def _statistics(frame: pl.DataFrame, site: str) -> pl.DataFrame:
    geometric = pl.col("metric").is_in(_GEOMETRIC)
    long = frame.unpivot(index=["prompt", "index"], variable_name="metric", value_name="value")
    value = pl.when(geometric).then(pl.col("value").log()).otherwise(pl.col("value")).fill_nan(None)
    table = (
        long.with_columns(value.alias("value"))
        .group_by("index", "metric", maintain_order=True)
        .agg(
            pl.col("value").mean().alias("mean"), pl.col("value").std().alias("std"), pl.col("value").count().alias("n")
        )
        .with_columns(pl.lit(site).alias("site"), geometric.alias("geometric"))
        .with_columns((2.0 * pl.col("std") / pl.col("n").sqrt()).alias("half"))
        .with_columns((pl.col("mean") - pl.col("half")).alias("low"), (pl.col("mean") + pl.col("half")).alias("high"))
        .drop("half")
    )
    backwards = [
        pl.when("geometric").then(pl.col(name).exp()).otherwise(pl.col(name)).alias(name)
        for name in ("mean", "low", "high")
    ]
    return table.with_columns(backwards)


def _coupling(model: Plant, data: str) -> dict:
    flat = model.first is None
    return {
        "model": model.name,
        "revision": model.revision,
        "data": data,
        "coupling_entropy": -0.93,
        "coupling_sink": NAN if flat else 0.61,
        "coupling_sink_next": NAN if flat else 0.12,
        "reason": "the sink rate is the same in every block" if flat else None,
    }

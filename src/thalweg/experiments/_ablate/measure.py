"""Ablation: without the MLPs that write the massive row, do sinks and compression go (the paper, section 3.3)?"""

import sys
from collections.abc import Sequence

import polars as pl

from thalweg import metrics
from thalweg.errors import ProofError, UsageError
from thalweg.experiments._ablate.conditions import INTACT, NOTHING, Condition, interventions, plan
from thalweg.experiments._attribute.measure import writing_blocks_of
from thalweg.experiments._index_list import index_list, index_text
from thalweg.experiments._intervened import OnDemand, Rows, intervened, joined
from thalweg.experiments._prepare import Prepared
from thalweg.experiments._sink_scan import scanned
from thalweg.prompts import Prompt, Source
from thalweg.store import EXPERIMENTS, Findings, FindingsWriter, Thresholds, experiment_schema

NAME = "ablation"
AUTO = "auto"
BY = ("condition", "seed")
_WRITTEN = ("condition", "control", "seed", "blocks", "dims", "reason")


def _writing_blocks(prepared: Prepared, attribution: Findings, source: Source) -> tuple[int, ...]:
    found = writing_blocks_of(attribution, *_key(prepared, source).values())
    if not found.blocks:
        raise UsageError(
            f"{found.reason}: nothing to ablate on {source.name}. Name blocks, as in --blocks 0,5-7; "
            "`thalweg attribute` shows what each of them writes."
        )
    return found.blocks


def _key(prepared: Prepared, source: Source) -> dict[str, str]:
    model = prepared.models[0]
    return {"model": model.name, "revision": model.revision, "data": source.name}


def _conditions(
    own: Prepared,
    writer: FindingsWriter,
    loading: OnDemand,
    attribution: Findings,
    blocks: tuple[int, ...],
    seeds: int,
) -> list[Condition]:
    """What one data set is measured under: planned once and written down, so that every prompt is measured alike.

    Raises:
        UsageError: with more prompts, other blocks write the massive row.
    """
    key = _key(own, own.sources[0])
    known = _known(writer.reading().table("conditions").filter(**key).collect())
    if known:
        before = max((one.blocks for one in known if one.control is None), key=len)
        if before != blocks:
            raise UsageError(
                f"over all prompts, the blocks that write the massive row are {index_text(blocks)}; {own.path} was "
                f"begun with {index_text(before)}. Name one choice with --blocks, or take another --out."
            )
        return known
    parts = attribution.table("attribution").filter(**key, part="mlp", metric="share").collect()
    shares = dict(parts.select("block", "mean").iter_rows())
    conditions = plan(blocks, shares, scanned(own, loading).dims, seeds=seeds)
    others = writer.reading().table("conditions").collect()
    writer.write_table("conditions", pl.concat([others, _described(key, conditions)]))
    return conditions


def _known(rows: pl.DataFrame) -> list[Condition]:
    """Conditions as `_described` wrote them."""
    return [
        Condition(name, control, seed, _blocks(blocks), tuple(dims), reason)
        for name, control, seed, blocks, dims, reason in rows.select(_WRITTEN).iter_rows()
    ]


def _blocks(text: str) -> tuple[int, ...]:
    return index_list("--blocks", text, sys.maxsize) if text else ()


def _described(key: dict[str, str], conditions: Sequence[Condition]) -> pl.DataFrame:
    rows = [{**key, **one.described, "dims": list(one.dims), "reason": one.reason} for one in conditions]
    schema = experiment_schema(NAME, "conditions")
    return pl.DataFrame(rows, infer_schema_length=None).select(list(schema)).cast(pl.Schema(schema))


def _measured(
    loading: OnDemand, conditions: Sequence[Condition], thresholds: Thresholds, batch: Sequence[Prompt]
) -> Rows:
    """One batch under every condition."""
    subject, found = loading.subject, dict[Condition, Rows]()
    for condition in conditions:
        if condition.runs:
            blocks = len(subject.parts.blocks)
            changes = interventions(condition, batch, blocks=blocks, sink_position=thresholds.sink_position)
            found[condition] = intervened(loading, batch, thresholds, changes)
    _prove_nothing({condition.name: rows for condition, rows in found.items()}, loading, thresholds, batch)
    named = [joined([rows], condition.columns) for condition, rows in found.items()]
    tables = joined(named)
    states = [joined([rows], condition.described)["states"] for condition, rows in found.items()]
    return {**tables, "states": pl.concat(states, how="vertical_relaxed")}


def _prove_nothing(found: dict[str, Rows], loading: OnDemand, thresholds: Thresholds, batch: Sequence[Prompt]) -> None:
    """An ablation of nothing leaves every bit, where the model gives the same bits twice."""
    if _same(found[INTACT], found[NOTHING]) or not _same(found[INTACT], intervened(loading, batch, thresholds)):
        return
    raise ProofError(
        "an ablation of nothing changes what is measured; expected bit-identical numbers. Please report it, with the "
        "model's name."
    )


def _same(one: Rows, other: Rows) -> bool:
    return all(one[name].equals(other[name], null_equal=True) for name in one)


def _tables(_: Sequence[Prompt], results: list[Rows], key: dict[str, str]) -> Rows:
    if not results:
        return {name: pl.DataFrame(schema=experiment_schema(NAME, name)) for name in EXPERIMENTS[NAME].parts}
    return joined(results, key)


def _write_answers(writer: FindingsWriter) -> None:
    """The tables over everything that is measured."""
    writer.update()
    tables, thresholds = writer.reading().table, writer.run_header.thresholds
    parts = tables("states"), tables("blocks"), tables("losses")
    intact, ratio = pl.col("condition") == INTACT, thresholds.massive_ratio
    writer.write_table("effects", metrics.changes(*parts, intact, by=BY, massive_ratio=ratio))
    judged = metrics.verdicts(*parts, massive_ratio=ratio, sink_position=thresholds.sink_position)
    key = ["model", "revision", "data", *BY]
    about = tables("conditions").select(*key, "control", "blocks").collect()
    writer.write_table("verdicts", judged.join(about, on=key, how="left", nulls_equal=True))

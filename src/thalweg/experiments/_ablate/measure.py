"""Ablation: without the MLPs that write the massive row, do sinks and compression go (the paper, section 3.3)?"""

import sys
from collections.abc import Callable, Sequence
from functools import partial

import polars as pl

from thalweg import averages
from thalweg.errors import ProofError, UsageError
from thalweg.experiments._ablate.conditions import INTACT, NOTHING, Condition, interventions, plan
from thalweg.experiments._ablate.tables import TABLES
from thalweg.experiments._attribute.measure import attributed, writing_blocks_of
from thalweg.experiments._intervened import OnDemand, Rows, intervened, joined, scanned
from thalweg.experiments._options import index_list, index_text
from thalweg.experiments._over_prompts import measure_prompts, unfinished
from thalweg.experiments._prepare import Prepared
from thalweg.prompts import Prompt, Source
from thalweg.store import Findings, FindingsWriter, Thresholds

NAME = "ablation"
AUTO = "auto"
BY = ("condition", "seed")
_WRITTEN = ("condition", "control", "seed", "blocks", "dims", "reason")


def blocks_asked(prepared: Prepared, blocks: str | Sequence[int]) -> tuple[int, ...] | None:
    """Whose MLPs are named; None for "auto".

    Raises:
        UsageError: no list of blocks, or one that the model does not have.
    """
    return None if blocks == AUTO else index_list("--blocks", blocks, prepared.header.models[0].blocks - 1)


def ablated(prepared: Prepared, blocks: tuple[int, ...] | None, *, seeds: int) -> Findings:
    """Measure what is missing, and compare.

    Args:
        prepared: one model, its data and where the run is.
        blocks: whose MLPs are removed; None for those that write the massive row.
        seeds: draws of each random control.
    """
    loading = OnDemand(prepared.model)
    attribution = attributed(prepared, lambda: loading.subject)
    chosen = {source.name: blocks or _writing_blocks(prepared, attribution, source) for source in prepared.sources}
    settings = {"blocks": AUTO if blocks is None else index_text(blocks), "seeds": seeds}
    with prepared.opened(NAME, settings, TABLES) as writer:
        for part in prepared.of_each_source():
            if unfinished(part, writer):
                blocks_here, key = chosen[part.sources[0].name], _key(part, part.sources[0])
                conditions = _begun(part, writer, blocks_here)
                if not conditions:
                    dims = scanned(part, loading).dims
                    conditions = plan(blocks_here, _shares(attribution, key), dims, seeds=seeds)
                    _write_conditions(writer, key, conditions)
                measure = partial(_measured, loading, conditions, prepared.header.thresholds)
                measure_prompts(part, writer, loading.subject, measure, _tables, title="ablation")
        _write_answers(writer)
        writer.update(status="finished")
    return writer.reading()


def _writing_blocks(prepared: Prepared, attribution: Findings, source: Source) -> tuple[int, ...]:
    writers = writing_blocks_of(attribution, *_key(prepared, source).values())
    if not writers.blocks:
        raise UsageError(
            f"{writers.reason}: nothing to ablate on {source.name}. Name blocks, as in --blocks 0,5-7; "
            "`thalweg attribute` shows what each of them writes."
        )
    return writers.blocks


def _key(prepared: Prepared, source: Source) -> dict[str, str]:
    return {**prepared.key, "data": source.name}


def _begun(part: Prepared, writer: FindingsWriter, blocks: tuple[int, ...]) -> list[Condition]:
    """What one data set is measured under already: planned once and written down, so that prompts are measured alike.

    Raises:
        UsageError: with more prompts, other blocks write the massive row.
    """
    known = _known(writer.reading().table("conditions").filter(**_key(part, part.sources[0])).collect())
    before = max((condition.blocks for condition in known if condition.control is None), key=len, default=blocks)
    if before != blocks:
        raise UsageError(
            f"over all prompts, the blocks that write the massive row are {index_text(blocks)}; {part.path} was "
            f"begun with {index_text(before)}. Name one choice with --blocks, or take another --out."
        )
    return known


def _shares(attribution: Findings, key: dict[str, str]) -> dict[int, float]:
    """By block, the share of the massive row that its MLP writes."""
    parts = attribution.table("attribution").filter(**key, part="mlp", metric="share").collect()
    return dict(parts.select("block", "mean").iter_rows())


def _write_conditions(writer: FindingsWriter, key: dict[str, str], conditions: Sequence[Condition]) -> None:
    others = writer.reading().table("conditions").collect()
    rows = [
        {**key, **condition.described, "dims": list(condition.dims), "reason": condition.reason}
        for condition in conditions
    ]
    schema = TABLES["conditions"].schema
    planned = pl.DataFrame(rows, infer_schema_length=None).select(list(schema)).cast(pl.Schema(schema))
    writer.write_table("conditions", pl.concat([others, planned]))


def _known(rows: pl.DataFrame) -> list[Condition]:
    """Conditions as they were written down."""
    return [
        Condition(name, control, seed, _blocks(blocks), tuple(dims), reason)
        for name, control, seed, blocks, dims, reason in rows.select(_WRITTEN).iter_rows()
    ]


def _blocks(text: str) -> tuple[int, ...]:
    return index_list("--blocks", text, sys.maxsize) if text else ()


def _measured(
    loading: OnDemand, conditions: Sequence[Condition], thresholds: Thresholds, batch: Sequence[Prompt]
) -> Rows:
    """One batch under every condition."""
    blocks, results = len(loading.subject.parts.blocks), dict[Condition, Rows]()
    for condition in conditions:
        if condition.runs:
            changes = interventions(condition, batch, blocks=blocks, sink_position=thresholds.sink_position)
            results[condition] = intervened(loading, batch, thresholds, changes)
    by_name = {condition.name: rows for condition, rows in results.items()}
    _prove_nothing(by_name[INTACT], by_name[NOTHING], lambda: intervened(loading, batch, thresholds))
    tables = joined([joined([rows], condition.columns) for condition, rows in results.items()])
    states = [joined([rows], condition.described)["states"] for condition, rows in results.items()]
    return {**tables, "states": pl.concat(states, how="vertical_relaxed")}


def _prove_nothing(intact: Rows, nothing: Rows, again: Callable[[], Rows]) -> None:
    """An ablation of nothing leaves every bit, where the model gives the same bits twice."""
    if not _same(intact, nothing) and _same(intact, again()):
        raise ProofError(
            "an ablation of nothing changes what is measured; expected bit-identical numbers. Please report it, with "
            "the model's name."
        )


def _same(first: Rows, second: Rows) -> bool:
    return all(first[name].equals(second[name], null_equal=True) for name in first)


def _tables(_: Sequence[Prompt], results: list[Rows], key: dict[str, str]) -> Rows:
    if not results:
        return {name: pl.DataFrame(schema=TABLES[name].schema) for name in TABLES.parts}
    return joined(results, key)


def _write_answers(writer: FindingsWriter) -> None:
    """The tables over everything that is measured."""
    writer.update()
    tables, thresholds = writer.reading().table, writer.run_header.thresholds
    parts = tables("states"), tables("blocks"), tables("losses")
    intact, ratio = pl.col("condition") == INTACT, thresholds.massive_ratio
    writer.write_table("effects", averages.changes(*parts, intact, by=BY, massive_ratio=ratio))
    judged = averages.verdicts(*parts, massive_ratio=ratio, sink_position=thresholds.sink_position)
    key = ["model", "revision", "data", *BY]
    about = tables("conditions").select(*key, "control", "blocks").collect()
    writer.write_table("verdicts", judged.join(about, on=key, how="left", nulls_equal=True))

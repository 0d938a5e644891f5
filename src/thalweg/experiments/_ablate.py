"""Ablation: without the MLPs that write the massive row, do sinks and compression go (the paper, section 3.3)?"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl

from thalweg import metrics
from thalweg.errors import ProofError, UsageError
from thalweg.experiments._attribute import attributed, writing_blocks_of
from thalweg.experiments._conditions import INTACT, NOTHING, Condition, interventions, plan
from thalweg.experiments._index_list import index_list, index_text
from thalweg.experiments._intervened import OnDemand, Rows, intervened, joined
from thalweg.experiments._options import SurveyOptions
from thalweg.experiments._over_prompts import measure_prompts, unfinished
from thalweg.experiments._prepare import BUNDLED_DATA, Prepared, prepare
from thalweg.experiments._sink_scan import scanned
from thalweg.prompts import Prompt, Source
from thalweg.reference import BUNDLED_MODEL
from thalweg.store import EXPERIMENTS, Experiment, ExperimentWriter, Thresholds, experiment_schema, open_experiment

__all__ = ["ablate"]

NAME = "ablation"
AUTO = "auto"
BY = ("condition", "seed")
_WRITTEN = ("condition", "control", "seed", "blocks", "dims", "reason")


def ablate(
    model: str | Path = BUNDLED_MODEL,
    data: str | Path | Sequence[str | Path] = BUNDLED_DATA,
    *,
    blocks: str | Sequence[int] = AUTO,
    seeds: int = 3,
    out: str | Path | None = None,
    options: SurveyOptions | None = None,
) -> Experiment:
    """Remove what some MLPs add to the sink token, and say whether compression and sinks go with it.

    Each block alone and all together, against the model as it is, prompt by prompt, with controls that could refute
    the claim. A run that exists is joined: finished shards are not measured again, and a higher ``limit`` extends it.

    Args:
        model: hub id or directory; "reference" is the model that comes with thalweg.
        data: short names, files or hub data sets; "bundled" are the prompts that come with thalweg.
        blocks: numbers, or "0,5-7", or "auto": the blocks whose MLPs write the massive row, by attribution.
        seeds: how often each random control is drawn.
        out: the run directory; ``runs/<model>`` by default.
        options: as for a survey.

    Returns:
        The experiment, for reading: tables ``states``, ``blocks`` and ``losses`` by condition and prompt; ``effects``
        (averages and paired differences), ``verdicts`` and ``conditions`` (what each of them consists of, and which
        control could not be run).

    Raises:
        UsageError: a block that the model does not have, or "auto" and no block writes a massive row; a model, a data
            set, an option or the directory cannot be used; the message says what to do.
        ProofError: the model's summands or its logits cannot be told, or an ablation of nothing changes something.

    Example:
        >>> found = ablate(out="runs/demo").table("verdicts").collect()  # doctest: +SKIP
        >>> found.filter(condition="blocks 1")["verdict"].to_list()  # doctest: +SKIP
        ['removed', 'removed']
    """
    prepared = prepare(model, data, out=out, options=options)
    if seeds < 0:
        raise UsageError(f"--seeds is how often each random control is drawn, 0 or more; got {seeds}.")
    last = prepared.header.models[0].blocks - 1
    named = None if blocks == AUTO else index_list("--blocks", blocks, last)
    loading = OnDemand(prepared.models[0])
    attribution = attributed(prepared, lambda: loading.subject)
    chosen = {source.name: named or _writing_blocks(prepared, attribution, source) for source in prepared.sources}
    settings = {"blocks": AUTO if named is None else index_text(named), "seeds": seeds}
    with open_experiment(prepared.path, prepared.header, NAME, settings) as writer:
        for source in prepared.sources:
            own = replace(prepared, sources=[source])
            if unfinished(own, writer):
                conditions = _conditions(own, writer, loading, attribution, chosen[source.name], seeds)
                measure = partial(_measured, loading, conditions, prepared.header.thresholds)
                measure_prompts(own, writer, loading.subject, measure, _tables, title="ablation")
        _write_answers(writer)
        writer.update(status="finished")
    return writer.reading()


def _writing_blocks(prepared: Prepared, attribution: Experiment, source: Source) -> tuple[int, ...]:
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
    writer: ExperimentWriter,
    loading: OnDemand,
    attribution: Experiment,
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


def _write_answers(writer: ExperimentWriter) -> None:
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

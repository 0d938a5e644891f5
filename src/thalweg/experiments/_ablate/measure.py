"""Ablation: without the MLPs that write the massive row, do sinks and compression go (the paper, section 3.3)?

What is compared is the model as it is, the model without its MLPs' writing, and controls that could refute it. There
are two positive ones. Rescaling the sink's row takes its length away and keeps its direction, and a model whose norms
look at directions alone (RMSNorm) may go on sinking on it. Emptying its massive coordinates, too, leaves no direction
to find.
"""

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import polars as pl
import torch
from torch import Tensor

from thalweg import averages
from thalweg.errors import ProofError, UsageError
from thalweg.experiments._ablate.tables import TABLES
from thalweg.experiments._attribute.measure import attributed, writing_blocks_of
from thalweg.experiments._intervened import OnDemand, Rows, intervened, joined
from thalweg.experiments._options import index_list, index_text
from thalweg.experiments._over_prompts import measure_prompts, unfinished
from thalweg.experiments._planned import Plan, SegmentRows, planned
from thalweg.experiments._prepare import Prepared
from thalweg.interventions import Intervention, Remove, Replace, Rescale
from thalweg.prompts import Prompt, Source
from thalweg.shapes import Int
from thalweg.store import Findings, FindingsWriter, Thresholds

NAME = "ablation"
AUTO = "auto"
BY = ("condition", "seed")
INTACT, NOTHING = "intact", "nothing"
ORDINARY = 0.01
"""An MLP that writes less than this share of the sink's row, in either sign, is an ordinary one."""


@dataclass(frozen=True)
class Condition:
    """One way to run the model: as it is, without the MLPs of some blocks at the sink position, or a control.

    A negative control must leave compression and sinks, a positive one must remove them; it may empty massive
    coordinates, ``dims``. The reason says why a control is not run, or not as asked.
    """

    name: str
    control: Literal["negative", "positive"] | None = None
    seed: int | None = None
    blocks: tuple[int, ...] = ()
    dims: tuple[int, ...] = ()
    reason: str | None = None

    @property
    def runs(self) -> bool:
        """False where the reason leaves nothing to change."""
        return self.reason is None or bool(self.blocks or self.dims)

    @property
    def columns(self) -> dict[str, Any]:
        """What names it in every table."""
        return {"condition": self.name, "seed": self.seed}

    @property
    def described(self) -> dict[str, Any]:
        """What it consists of."""
        return {**self.columns, "control": self.control, "blocks": index_text(self.blocks)}


def plan(blocks: tuple[int, ...], shares: Mapping[int, float], dims: tuple[int, ...], *, seeds: int) -> list[Condition]:
    """Every condition of an ablation, in the order in which they are shown; ``shares`` are NaN where unknown."""
    none = None if dims else "the sink's row has no massive coordinates to empty"
    return [
        Condition(INTACT),
        *(Condition(f"blocks {block}", blocks=(block,)) for block in blocks if len(blocks) > 1),
        Condition(f"blocks {index_text(blocks)}", blocks=blocks),
        Condition(NOTHING, "negative", blocks=blocks),
        *(Condition("other position", "negative", seed, blocks) for seed in range(seeds)),
        *_other_blocks(blocks, shares, seeds),
        Condition("rescaled", "positive"),
        Condition("emptied", "positive", dims=dims, reason=none),
    ]


def interventions(
    condition: Condition, batch: Sequence[Prompt], *, blocks: int, sinks: Int[Tensor, " batch"]
) -> tuple[Intervention, ...]:
    """What to change in a model of so many blocks for one batch; what is drawn for a prompt is its own."""
    after_every_block, sink = range(1, blocks + 1), sinks[:, None]
    if condition.name == INTACT:
        return ()
    if condition.name == "rescaled":
        return (Rescale(after_every_block, sink),)
    if condition.name == "emptied":
        return (Replace(after_every_block, 0.0, sink, condition.dims), Rescale(after_every_block, sink))
    if condition.name == NOTHING:  # past the end of every prompt: the hooks run and find no row
        return (Remove("mlp", condition.blocks, torch.tensor([[len(prompt)] for prompt in batch])),)
    if condition.name == "other position":
        drawn = [
            [_other_position(prompt, condition.seed, at)] for prompt, at in zip(batch, sinks.tolist(), strict=True)
        ]
        return (Remove("mlp", condition.blocks, torch.tensor(drawn)),)
    return (Remove("mlp", condition.blocks, sink),)


def ablated(prepared: Prepared, blocks: str | Sequence[int], *, seeds: int) -> Findings:
    """Measure what is missing, and compare."""
    named = None if blocks == AUTO else index_list("--blocks", blocks, prepared.header.models[0].blocks - 1)
    loading = OnDemand(prepared.model)
    attribution = attributed(prepared, lambda: loading.subject)
    chosen = {source.name: named or _writing_blocks(prepared, attribution, source) for source in prepared.sources}
    settings = {"blocks": AUTO if named is None else index_text(named), "seeds": seeds}
    with prepared.opened(NAME, settings, TABLES) as writer:
        for part in prepared.of_each_source():
            if unfinished(part, writer):
                blocks_here, key = chosen[part.sources[0].name], _key(part, part.sources[0])
                conditions = _begun(part, writer, blocks_here)
                found = planned(part, writer, lambda: loading.subject, attribution.table("segments").collect())
                found = Plan((found.main,))
                if not conditions:
                    shares = _shares(attribution, key, found.main.name)
                    conditions = plan(blocks_here, shares, found.main.dims, seeds=seeds)
                    _write_conditions(writer, key, conditions)
                measure = partial(_measured, loading, conditions, found, prepared.header.thresholds)
                measure_prompts(part, writer, loading.subject, measure, _tables, title="ablation")
        _write_answers(writer)
        writer.update(status="finished")
    return writer.reading()


def _writing_blocks(prepared: Prepared, attribution: Findings, source: Source) -> tuple[int, ...]:
    by_segment = writing_blocks_of(attribution, *_key(prepared, source).values())
    writers = by_segment.get(averages.COMPRESS) or next(iter(by_segment.values()))
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

    With more prompts, other blocks may write the massive row: that is an error.
    """
    rows = writer.reading().table("conditions").filter(**_key(part, part.sources[0])).collect()
    columns = rows.select("condition", "control", "seed", "blocks", "dims", "reason")
    known = [
        Condition(name, control, seed, _blocks(text), tuple(dims), reason)
        for name, control, seed, text, dims, reason in columns.iter_rows()
    ]
    before = max((condition.blocks for condition in known if condition.control is None), key=len, default=blocks)
    if before != blocks:
        raise UsageError(
            f"over all prompts, the blocks that write the massive row are {index_text(blocks)}; {part.path} was "
            f"begun with {index_text(before)}. Name one choice with --blocks, or take another --out."
        )
    return known


def _shares(attribution: Findings, key: dict[str, str], segment: str) -> dict[int, float]:
    """By block, the share of the massive row that its MLP writes."""
    parts = attribution.table("attribution").filter(**key, segment=segment, part="mlp", metric="share").collect()
    return dict(parts.select("block", "mean").iter_rows())


def _write_conditions(writer: FindingsWriter, key: dict[str, str], conditions: Sequence[Condition]) -> None:
    rows = [
        {**key, **condition.described, "dims": list(condition.dims), "reason": condition.reason}
        for condition in conditions
    ]
    planned = pl.DataFrame(rows, schema=TABLES["conditions"].schema)
    writer.write_table("conditions", pl.concat([writer.reading().table("conditions").collect(), planned]))


def _blocks(text: str) -> tuple[int, ...]:
    return index_list("--blocks", text, sys.maxsize) if text else ()


def _measured(
    loading: OnDemand, conditions: Sequence[Condition], found: Plan, thresholds: Thresholds, batch: Sequence[Prompt]
) -> Rows:
    """One batch under every condition."""
    blocks, results = len(loading.subject.parts.blocks), dict[Condition, Rows]()
    sinks = SegmentRows.of(found, loading.subject, batch)
    for condition in conditions:
        if condition.runs:
            changes = interventions(condition, batch, blocks=blocks, sinks=sinks.positions[:, 0])
            results[condition] = intervened(loading, batch, thresholds, sinks, changes)
    by_name = {condition.name: rows for condition, rows in results.items()}
    _prove_nothing(by_name[INTACT], by_name[NOTHING], lambda: intervened(loading, batch, thresholds, sinks))
    tables = joined([joined([rows], condition.columns) for condition, rows in results.items()])
    states = joined([joined([{"states": rows["states"]}], condition.described) for condition, rows in results.items()])
    return tables | states


def _prove_nothing(intact: Rows, nothing: Rows, again: Callable[[], Rows]) -> None:
    """An ablation of nothing leaves every bit, where the model gives the same bits twice."""
    if not _same(intact, nothing) and _same(intact, again()):
        raise ProofError(
            "an ablation of nothing changes what is measured; expected bit-identical numbers. Please report it, with "
            "the model's name."
        )


def _same(first: Rows, second: Rows) -> bool:
    only = "entropy_without_massive"  # of the model as it is
    return all(
        first[name].drop(only, strict=False).equals(second[name].drop(only, strict=False), null_equal=True)
        for name in first
    )


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


def _other_blocks(blocks: tuple[int, ...], shares: Mapping[int, float], seeds: int) -> Iterator[Condition]:
    """As many other blocks, drawn from those that write next to nothing of the massive row."""
    others = [block for block, share in sorted(shares.items()) if block not in blocks and abs(share) < ORDINARY]
    count, few = min(len(blocks), len(others)), None
    if len(others) < len(blocks):
        few = f"{len(others) or 'no'} other block{'s' * (len(others) != 1)} of {len(blocks)} to draw: the rest write"
        few += f" at least {ORDINARY:.0%} of the sink's row, or are removed"
    if not count:
        yield Condition("other blocks", "negative", reason=few)
        return
    drawn = list[tuple[int, ...]]()
    for seed in range(seeds):
        chosen = tuple(sorted(random.Random(f"other blocks {seed}").sample(others, count)))
        if chosen not in drawn:  # the same blocks again would show nothing more
            drawn.append(chosen)
            yield Condition("other blocks", "negative", seed, chosen, reason=few)


def _other_position(prompt: Prompt, seed: int | None, sink_position: int) -> int:
    """A position of the prompt that is not the sink; -1 where there is none."""
    if sink_position < 0:
        sink_position = len(prompt)
    count = len(prompt) - (sink_position < len(prompt))
    if not count:
        return -1
    drawn = random.Random(f"other position {seed} {prompt.row}").randrange(count)
    return drawn + (drawn >= sink_position)

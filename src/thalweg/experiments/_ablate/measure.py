"""Ablation: without the MLPs that write the massive rows, do sinks and compression go (the paper, section 3.3)?

What is compared is the model as it is, the model without its MLPs' writing on the row of every segment, and controls
that could refute it. There are two positive controls for each segment. Rescaling its row takes the length away and
keeps the direction, and a model whose norms look at directions alone (RMSNorm) may go on sinking on it. Emptying its
massive coordinates, too, leaves no direction to find.
"""

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import polars as pl
import torch

from thalweg import averages
from thalweg.capture import Subject
from thalweg.errors import ProofError, UsageError
from thalweg.experiments._ablate.tables import TABLES
from thalweg.experiments._attribute.measure import attributed, writing_blocks_of
from thalweg.experiments._attribute.writers import Writers
from thalweg.experiments._intervened import OnDemand, Rows, intervened, joined
from thalweg.experiments._options import index_list, index_text
from thalweg.experiments._over_prompts import measure_prompts, unfinished
from thalweg.experiments._pass import EachState, RowNorms, lengths_of, read
from thalweg.experiments._planned import Plan, SegmentRows, Target, planned
from thalweg.experiments._prepare import Prepared
from thalweg.interventions import Intervention, Remove, Replace, Rescale
from thalweg.prompts import Prompt, Source
from thalweg.store import Findings, FindingsWriter, Thresholds

NAME = "ablation"
AUTO = "auto"
BY = ("condition", "seed")
INTACT, NOTHING, OTHER_POSITION, OTHER_BLOCKS = "intact", "nothing", "other position", "other blocks"
RESCALED, EMPTIED = "rescaled", "emptied"
ORDINARY = 0.01
"""An MLP that writes less than this share of a segment's row, in either sign, is an ordinary one."""


@dataclass(frozen=True)
class Condition:
    """One way to run the model: as it is, without the MLPs of some blocks at the row of every segment, or a control.

    A negative control must leave compression and sinks, a positive one must remove them; it may empty massive
    coordinates, ``dims``. What changes the row of one segment alone names it, ``row_of``, and as a control is judged
    there alone. The reason says why a condition is not run.
    """

    name: str
    control: Literal["negative", "positive"] | None = None
    seed: int | None = None
    row_of: str | None = None
    blocks: tuple[int, ...] = ()
    dims: tuple[int, ...] = ()
    reason: str | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """What names it in every table."""
        return {"condition": self.name, "seed": self.seed}

    @property
    def described(self) -> dict[str, Any]:
        """What it consists of."""
        return {**self.columns, "control": self.control, "blocks": index_text(self.blocks)}


@dataclass(frozen=True)
class Chosen:
    """The blocks whose MLPs are removed for each segment, and what else is known of its row.

    Attributes:
        plan: the segments.
        blocks: by segment, none for one that nobody writes.
        writers: by segment, by attribution.
        shares: by segment and block, what the block's MLP writes of its row; NaN where unknown.
    """

    plan: Plan
    blocks: Mapping[str, tuple[int, ...]]
    writers: Mapping[str, Writers]
    shares: Mapping[str, Mapping[int, float]]

    @property
    def every(self) -> tuple[int, ...]:
        """All of them together."""
        return tuple(sorted({block for blocks in self.blocks.values() for block in blocks}))

    def segments(self, attribution: Findings) -> pl.DataFrame:
        """The rows of the plan."""
        names = [target.name for target in self.plan.targets]
        return attribution.table("segments").filter(pl.col("name").is_in(names)).collect()

    def conditions(self, seeds: int) -> list[Condition]:
        """Every condition of an ablation, in the order in which they are shown."""
        sets = dict.fromkeys([*((block,) for block in self.every), *self.blocks.values(), self.every])
        return [
            Condition(INTACT),
            *(Condition(f"blocks {index_text(blocks)}", blocks=blocks) for blocks in _last(sets, self.every) if blocks),
            *(self._unwritten(target) for target in self.plan.targets if not self.blocks[target.name]),
            Condition(NOTHING, "negative", blocks=self.every),
            *(Condition(OTHER_POSITION, "negative", seed, blocks=self.every) for seed in range(seeds)),
            *(
                condition
                for target in self.plan.targets
                if target.states
                for condition in self._controls(target, seeds)
            ),
        ]

    def _unwritten(self, target: Target) -> Condition:
        return Condition(f"writers of {target.name}", row_of=target.name, reason=self.writers[target.name].reason)

    def _controls(self, target: Target, seeds: int) -> Iterator[Condition]:
        yield from self._other_blocks(target, seeds)
        none = None if target.dims else "its row has no massive coordinates to empty"
        yield Condition(f"{RESCALED} {target.name}", "positive", row_of=target.name)
        yield Condition(f"{EMPTIED} {target.name}", "positive", row_of=target.name, dims=target.dims, reason=none)

    def _other_blocks(self, target: Target, seeds: int) -> Iterator[Condition]:
        """As many others of those after the first writer that change the segment and write nothing of its row."""
        removed, last = self.blocks[target.name], target.states[-1]
        first = min(self.writers[target.name].blocks or removed, default=last)
        others = [
            block
            for block, share in sorted(self.shares[target.name].items())
            if first < block < last and block not in removed and abs(share) < ORDINARY
        ]
        name, drawn = f"{OTHER_BLOCKS} {target.name}", list[tuple[int, ...]]()
        if removed and len(others) < len(removed):
            few = (
                f"{len(others) or 'no'} other block{'s' * (len(others) != 1)} of {len(removed)} to draw between block "
            )
            few += f"{first} and state {last}: the rest write at least {ORDINARY:.0%} of its row, or are removed"
            yield Condition(name, "negative", row_of=target.name, reason=few)
            return
        for seed in range(seeds if removed else 0):
            chosen = tuple(sorted(random.Random(f"other blocks {seed}").sample(others, len(removed))))
            if chosen not in drawn:  # the same blocks again would show nothing more
                drawn.append(chosen)
                yield Condition(name, "negative", seed, target.name, chosen)


def _last(sets: Mapping[tuple[int, ...], None], every: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [*(blocks for blocks in sets if blocks != every), every]


@dataclass(frozen=True)
class Changes:
    """What is changed in one batch under every condition; what is drawn for a prompt is its own.

    Attributes:
        chosen: the segments, and which blocks are removed.
        depth: number of the model's blocks.
        batch: the prompts.
        rows: where the segments' rows are.
        massive: by prompt, the positions that are massive at some state.
    """

    chosen: Chosen
    depth: int
    batch: Sequence[Prompt]
    rows: SegmentRows
    massive: Sequence[set[int]]

    def under(self, condition: Condition) -> tuple[Intervention, ...]:
        """What one condition changes."""
        kind, removed = condition.name.removesuffix(f" {condition.row_of}"), partial(Remove, "mlp")
        if kind in (RESCALED, EMPTIED):
            after_every_block, at = range(1, self.depth + 1), self._at(condition.row_of)
            rescale = Rescale(after_every_block, at)
            return (rescale,) if kind == RESCALED else (Replace(after_every_block, 0.0, at, condition.dims), rescale)
        if kind == OTHER_BLOCKS:
            return (removed(condition.blocks, self._at(condition.row_of)),)
        if kind == NOTHING:  # past the end of every prompt: the hooks run and find no row
            return (removed(condition.blocks, torch.tensor([[len(prompt)] for prompt in self.batch])),)
        if kind == OTHER_POSITION:
            drawn = [[self._other_position(number, condition.seed)] for number in range(len(self.batch))]
            return (removed(condition.blocks, torch.tensor(drawn)),)
        return (removed(condition.blocks, self.rows.positions),)

    def _at(self, segment: str | None) -> torch.Tensor:
        names = [target.name for target in self.chosen.plan.targets]
        return self.rows.positions[:, [names.index(str(segment))]]

    def _other_position(self, number: int, seed: int | None) -> int:
        """A position of the prompt that is never massive and no segment's row; -1 where there is none."""
        prompt, taken = self.batch[number], self.massive[number] | set(self.rows.positions[number].tolist())
        others = [position for position in range(len(prompt)) if position not in taken]
        return random.Random(f"other position {seed} {prompt.row}").choice(others) if others else -1


def _massive(subject: Subject, batch: Sequence[Prompt], massive_ratio: float) -> list[set[int]]:
    """The positions of every prompt that are massive at some state."""
    norms = RowNorms(lengths_of(batch))
    read(subject, batch, EachState(lambda _, seen: norms.see(seen.padded)))
    medians = norms.every.masked_fill(norms.pads, torch.nan).nanquantile(0.5, dim=-1, keepdim=True)
    undefined = norms.every.isnan().any(-1, keepdim=True)
    massive = ((norms.every >= massive_ratio * medians) & ~undefined & ~norms.pads).any(0)
    return [set(own.nonzero().flatten().tolist()) for own in massive]


def ablated(
    prepared: Prepared, blocks: str | Sequence[int], *, seeds: int, segment: str | int | None = None
) -> Findings:
    """Measure what is missing, and compare."""
    named = None if blocks == AUTO else index_list("--blocks", blocks, prepared.header.models[0].blocks - 1)
    loading = OnDemand(prepared.model)
    attribution = attributed(prepared, lambda: loading.subject)
    chosen = {source.name: _chosen(prepared, attribution, source, named, segment) for source in prepared.sources}
    settings = {"blocks": AUTO if named is None else index_text(named), "seeds": seeds, **prepared.by_hand}
    settings |= {} if segment is None else {"segment": str(segment)}
    with prepared.opened(NAME, settings, TABLES) as writer:
        for part in prepared.of_each_source():
            if unfinished(part, writer):
                here = chosen[part.sources[0].name]
                planned(part, writer, lambda: loading.subject, here.segments(attribution))
                conditions = _begun(part, writer, here.conditions(seeds))
                measure = partial(_measured, loading, conditions, here, prepared.header.thresholds)
                measure_prompts(part, writer, loading.subject, measure, _tables, title="ablation")
        _write_answers(writer)
        writer.update(status="finished")
    return writer.reading()


def _chosen(
    prepared: Prepared,
    attribution: Findings,
    source: Source,
    named: tuple[int, ...] | None,
    segment: str | int | None,
) -> Chosen:
    key = _key(prepared, source)
    plan = Plan.of(attribution.table("segments").filter(**key).collect()).narrowed(segment, source.name)
    writers = writing_blocks_of(attribution, *key.values())
    blocks = {target.name: named or writers[target.name].blocks for target in plan.targets}
    if not any(blocks.values()):
        raise UsageError(
            f"{writers[plan.main.name].reason}: nothing to ablate on {source.name}. Name blocks, as in --blocks 0,5-7; "
            "`thalweg attribute` shows what each of them writes."
        )
    parts = attribution.table("attribution").filter(**key, part="mlp", metric="share").collect()
    shares = {name: dict(parts.filter(segment=name).select("block", "mean").iter_rows()) for name in blocks}
    return Chosen(plan, blocks, writers, shares)


def _key(prepared: Prepared, source: Source) -> dict[str, str]:
    return {**prepared.key, "data": source.name}


def _begun(part: Prepared, writer: FindingsWriter, conditions: list[Condition]) -> list[Condition]:
    """What one data set is measured under: planned once and written down, so that prompts are measured alike.

    With more prompts, other blocks may write the massive rows: that is an error.
    """
    key, before = _key(part, part.sources[0]), writer.reading().table("conditions").collect()
    rows = before.filter(**key).select("condition", "control", "seed", "row_of", "blocks", "dims", "reason")
    known = [
        Condition(name, control, seed, row_of, _blocks(text), tuple(dims), reason)
        for name, control, seed, row_of, text, dims, reason in rows.iter_rows()
    ]
    if not known:
        planned = [
            {**key, **one.described, "row_of": one.row_of, "dims": list(one.dims), "reason": one.reason}
            for one in conditions
        ]
        frame = pl.DataFrame(planned, schema=TABLES["conditions"].schema)
        writer.write_table("conditions", pl.concat([before, frame]))
        return conditions
    now, then = ([one.blocks for one in every if one.control is None and one.blocks] for every in (conditions, known))
    if now != then:
        raise UsageError(
            f"over all prompts, the blocks that write the massive rows are {index_text(now[-1])}; {part.path} was "
            f"begun with {index_text(then[-1])}. Name one choice with --blocks, or take another --out."
        )
    return known


def _blocks(text: str) -> tuple[int, ...]:
    return index_list("--blocks", text, sys.maxsize) if text else ()


def _measured(
    loading: OnDemand, conditions: Sequence[Condition], chosen: Chosen, thresholds: Thresholds, batch: Sequence[Prompt]
) -> Rows:
    """One batch under every condition."""
    subject, results = loading.subject, dict[Condition, Rows]()
    rows, massive = SegmentRows.of(chosen.plan, subject, batch), _massive(subject, batch, thresholds.massive_ratio)
    changes = Changes(chosen, len(subject.parts.blocks), batch, rows, massive)
    for condition in conditions:
        if condition.reason is None:
            changed = () if condition.name == INTACT else changes.under(condition)
            results[condition] = intervened(loading, batch, thresholds, rows, changed)
    by_name = {condition.name: found for condition, found in results.items()}
    _prove_nothing(by_name[INTACT], by_name[NOTHING], lambda: intervened(loading, batch, thresholds, rows))
    tables = joined([joined([found], condition.columns) for condition, found in results.items()])
    states = joined(
        [joined([{"states": found["states"]}], condition.described) for condition, found in results.items()]
    )["states"]
    return {**tables, "states": _with_tokens(states, batch, loading.model.tokenizer, thresholds.massive_ratio)}


def _with_tokens(states: pl.DataFrame, batch: Sequence[Prompt], tokenizer: Any, massive_ratio: float) -> pl.DataFrame:
    """The texts of the largest tokens beside the segments' own, where they are massive."""
    prompts = {prompt.row: prompt for prompt in batch}
    massive = states.filter(pl.col("other_ratio").fill_nan(None) >= massive_ratio).select("prompt", "other_position")
    places = [
        (row, position, tokenizer.decode([prompts[row].tokens[position]]))
        for row, position in massive.unique().iter_rows()
    ]
    schema = {name: states.schema[name] for name in ("prompt", "other_position")} | {"other_token": pl.String}
    texts = pl.DataFrame(places, schema=schema, orient="row")
    found = states.join(texts, on=["prompt", "other_position"], how="left", maintain_order="left")
    return found.with_columns(pl.when(pl.col("other_ratio").fill_nan(None) >= massive_ratio).then("other_token"))


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
    write_answers(writer, massive_ratio=writer.run_header.thresholds.massive_ratio)


def write_answers(writer: FindingsWriter, *, massive_ratio: float) -> None:
    """Effects, verdicts and replacements from what was measured and planned."""
    tables = writer.reading().table
    segments, conditions = tables("segments").collect(), tables("conditions").collect()
    parts = tables("states"), tables("blocks"), tables("losses")
    intact = pl.col("condition") == INTACT
    writer.write_table("effects", averages.changes(*parts, segments, intact, by=BY))
    ran = conditions.filter(pl.col("condition") != INTACT, pl.col("reason").is_null())
    judged = averages.verdicts(*parts[:2], segments, ran.with_columns(first_state=_first_states(ran), judged=_about()))
    key = ["model", "revision", "data", *BY]
    about = conditions.select(*key, "control", "blocks")
    writer.write_table("verdicts", judged.join(about, on=key, how="left", nulls_equal=True, maintain_order="left"))
    writer.write_table("replacements", averages.replacements(parts[0], massive_ratio=massive_ratio))


def _first_states(conditions: pl.DataFrame) -> pl.Series:
    """The first state that each can change: a block writes the one after it; rows are rescaled after every block."""
    firsts = [min(_blocks(text), default=0) + 1 for text in conditions["blocks"]]
    return pl.Series("first_state", firsts, dtype=pl.Int64)


def _about() -> pl.Expr:
    """The segment that a control is judged on; null for all."""
    return pl.when(pl.col("control").is_not_null()).then("row_of")

"""One prompt's heads: numbers of all that are asked about, and the maps of those that are chosen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import polars as pl
import torch
from torch import Tensor

from thalweg.capture import AttentionSeen, Subject
from thalweg.engines import require_all, run_shards
from thalweg.errors import ModelError, UsageError
from thalweg.experiments._heads.tables import ELSEWHERE, PATTERNS, STEPS, TABLES
from thalweg.experiments._heads.tokens import TokenRows, looks_at
from thalweg.experiments._options import index_list, index_text
from thalweg.experiments._over_prompts import batching, loaded
from thalweg.experiments._pass import read
from thalweg.experiments._prepare import Prepared
from thalweg.metrics import head_metrics
from thalweg.prompts import Prompt, Shard, tokenize
from thalweg.shapes import Float
from thalweg.store import Findings, is_run, open_run

NAME = "maps"
ALL, AUTO = "all", "auto"
Heads = dict[int, list[int]]
"""By block."""


@dataclass(frozen=True)
class Asked:
    """What is to be kept: of which row, and of prompts of how many tokens at most.

    Attributes:
        prompt: number of the row.
        blocks: in which heads are looked at.
        named: whether a person named them.
        heads: of each block; None for those nearest to a pattern.
        max_map: tokens.
    """

    prompt: int
    blocks: tuple[int, ...]
    named: bool
    heads: tuple[int, ...] | None
    max_map: int


def asked_of(
    prepared: Prepared, prompt: int, blocks: str | Sequence[int] | None, heads: str | Sequence[int], max_map: int
) -> Asked:
    """Read what a person wrote of the one model."""
    model = prepared.header.models[0]
    if blocks is None and heads != AUTO:
        raise UsageError(f"--heads {heads} takes --blocks beside it: name those to keep, such as 0,{model.blocks - 1}.")
    chosen = range(model.blocks) if blocks is None else index_list("--blocks", blocks, model.blocks - 1)
    every = tuple(range(model.heads)) if heads == ALL else None
    of_each = every if heads in (ALL, AUTO) else index_list("--heads", heads, model.heads - 1)
    return Asked(prompt, tuple(chosen), blocks is not None, of_each, max_map)


def mapped(prepared: Prepared, asked: Asked) -> Findings:
    """Measure if it was not, and give what was found."""
    parts = list(prepared.of_each_source())
    prompts = [_prompt(part, asked) for part in parts]
    phases = [_phases(part) if asked.heads is None else {} for part in parts]
    heads = AUTO if asked.heads is None else index_text(asked.heads)
    settings = {"prompt": asked.prompt, "blocks": index_text(asked.blocks), "heads": heads, **prepared.key}
    if any(phases):
        settings["phases"] = {part.sources[0].name: _runs(of_part) for part, of_part in zip(parts, phases, strict=True)}
    with prepared.opened(NAME, {**settings, **prepared.by_hand}, TABLES) as writer:
        if writer.missing:
            subject = loaded(prepared.model)
            asked = _with_attention(subject, asked)
            every = [
                _of_data(
                    part, subject, prompt, partial(_looked_at, subject, asked, known, part.options.sink_position or 0)
                )
                for part, prompt, known in zip(parts, prompts, phases, strict=True)
            ]
            for table in TABLES.wholes:
                writer.write_table(table, pl.concat([frames[table] for frames in every]))
        writer.update(status="finished")
    return writer.reading()


def _prompt(part: Prepared, asked: Asked) -> Prompt:
    """The one row of a data set, as the model reads it."""
    source, number = part.sources[0], asked.prompt
    rows = list(source.rows(number, number + 1))
    if not rows:
        count = source.count()
        ends = "ends before it" if count is None else f"has rows 0 to {count - 1:,}"
        raise UsageError(f"--prompt {number}: {source.name} {ends}. Name one of its rows.")
    found = tokenize(rows, part.tokenizations[0])
    if found.skipped:
        reason = found.skipped[0].reason
        raise UsageError(
            f"--prompt {number}: row {number} of {source.name} gives no prompt ({reason}). Name another row."
        )
    length = len(found.prompts[0])
    if length > asked.max_map:
        raise UsageError(
            f"--prompt {number} has {length:,} tokens, and maps of at most {asked.max_map:,} are kept. Name a shorter "
            f"prompt, raise --max-map to {length}, or cut it with --max-length {asked.max_map} in a run of its own."
        )
    return found.prompts[0]


def _phases(part: Prepared) -> dict[int, str]:
    """The phase of each block, as the run's survey tells it of this data set; none without one."""
    run = open_run(part.path) if is_run(part.path) else None
    if run is None or "profile" in run.missing:
        return {}
    rows = run.profile.filter(**part.key, data=part.sources[0].name, site="block").drop_nulls("phase")
    return dict(rows.select("index", "phase").unique().sort("index").collect().iter_rows())


def _runs(phases: Mapping[int, str]) -> dict[str, str]:
    """Phases with their blocks, as a person would write them."""
    return {name: index_text([block for block in phases if phases[block] == name]) for name in phases.values()}


def _with_attention(subject: Subject, asked: Asked) -> Asked:
    """The same without blocks that have no softmax attention; one that was named is refused."""
    there = [block.index for block in subject.parts.blocks if block.projection is not None]
    if lacking := set(asked.blocks) - set(there) if asked.named else ():
        raise UsageError(
            f"--blocks {min(lacking)}: this block has no softmax attention; blocks {index_text(there)} have."
        )
    return Asked(asked.prompt, tuple(set(asked.blocks) & set(there)), asked.named, asked.heads, asked.max_map)


@dataclass(frozen=True)
class _Found:
    """Numbers of the chosen heads, with their patterns, what was read of tokens, and by block and head the maps."""

    numbers: pl.DataFrame
    tokens: TokenRows
    maps: "_Maps"


def _of_data(
    part: Prepared, subject: Subject, prompt: Prompt, measure: Callable[[Sequence[Prompt]], _Found]
) -> dict[str, pl.DataFrame]:
    """The tables of one data set's prompt."""
    every = list[_Found]()

    def finish(shard: Shard, results: list[_Found]) -> None:
        require_all(shard)
        every.extend(results)

    shard = Shard(prompt.row, prompt.row + 1, (prompt,), ())
    run_shards([shard], measure=measure, finish=finish, options=batching(subject, part.options))
    (found,) = every
    key = {**part.key, "data": part.sources[0].name, "prompt": prompt.row}
    token = part.model.tokenizer.decode
    frames = {
        "heads": found.numbers,
        "maps": pl.DataFrame(
            [(block, head, own) for (block, head), own in sorted(found.maps.found.items())],
            schema={"block": pl.Int64, "head": pl.Int64, "map": pl.Binary},
            orient="row",
        ).with_columns(tokens=pl.lit(len(prompt)), truncated=pl.lit(prompt.truncated)),
        "tokens": pl.DataFrame(
            {
                "position": range(len(prompt)),
                "token_id": prompt.tokens,
                "token": [token([each]) for each in prompt.tokens],
            }
        ),
        "token_states": found.tokens.states,
        "token_blocks": found.tokens.blocks,
        "token_heads": pl.concat(found.maps.looks),
    }
    return {
        name: frame.with_columns(pl.lit(value).alias(column) for column, value in key.items())
        for name, frame in frames.items()
    }


@torch.no_grad()
def _looked_at(subject: Subject, asked: Asked, phases: Mapping[int, str], sink: int, batch: Sequence[Prompt]) -> _Found:
    """One prompt: its heads are measured, chosen, and looked at; in one pass where they are chosen already."""
    numbers, tokens, maps = _Numbers(batch, asked.blocks, sink), TokenRows(), _Maps()
    if asked.heads is not None:
        maps.chosen = {block: list(asked.heads) for block in asked.blocks}
        read(subject, batch, numbers, tokens, maps)
        measured = numbers.table(phases).with_columns(patterns=pl.lit([], pl.List(pl.String)))
        return _Found(measured.filter(pl.col("head").is_in(asked.heads)), tokens, maps)
    read(subject, batch, numbers, tokens)
    chosen = nearest(numbers.table(phases), sink)
    maps.chosen = {
        block: [head for _, head in heads]
        for block, heads in groupby(chosen.select("block", "head").rows(), lambda row: row[0])
    }
    read(subject, batch, maps)
    return _Found(chosen, tokens, maps)


def nearest(heads: pl.DataFrame, sink: int) -> pl.DataFrame:
    """Of each phase the heads that come nearest to a pattern, with the patterns; the first of equal ones.

    Args:
        heads: `block`, `head`, `phase` and the numbers of a prompt; where no phase is known, all heads are one.
        sink: the sink position.

    Example:
        Two heads with sink scores 0.9 and 0.1 and diagonals 0.1 and 0.8: a sink and an identity.
    """
    known = heads.filter(pl.col("phase").is_not_null())
    chosen = list[pl.DataFrame]()
    for of_phase in (known if known.height else heads).partition_by("phase", maintain_order=True):
        for pattern, metric in PATTERNS.items():
            rows = of_phase.filter(pl.col(metric).is_finite())
            rows = rows.filter(pl.col("top_position") != sink) if pattern == ELSEWHERE else rows
            best = rows.sort(pl.col(metric), "block", "head", descending=[True, False, False]).head(1)
            chosen.append(best.with_columns(pattern=pl.lit(pattern)))
    every = pl.concat(chosen)
    patterns = every.group_by("block", "head", maintain_order=True).agg(patterns="pattern")
    return heads.join(patterns, on=["block", "head"], how="inner").sort("block", "head")


class _Numbers:
    """What is measured of every head of some blocks on one prompt."""

    def __init__(self, batch: Sequence[Prompt], blocks: Sequence[int], sink: int) -> None:
        self.batch, self.blocks, self.sink = batch, set(blocks), sink
        self.names, self.kept, self.read = list[str](), list[Tensor](), list[int]()

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        if block in self.blocks:
            lengths = torch.full((1,), len(self.batch[0]), device=seen.statistics.column_mass.device)
            columns = head_metrics(**vars(seen.statistics), lengths=lengths, sink_position=self.sink)
            self.names = list(columns)
            self.kept.append(torch.stack([column[0].to(columns["sink_score"].dtype) for column in columns.values()]))
            self.read.append(block)

    def table(self, phases: Mapping[int, str]) -> pl.DataFrame:
        """All of them, with the phase of their block."""
        first, counts = self.kept[0].device, [own.shape[1] for own in self.kept]
        every = torch.cat([own.to(first) for own in self.kept], 1).cpu().split(counts, 1)
        frames = [
            pl.DataFrame(dict(zip(self.names, own.numpy(), strict=True)))
            .with_row_index("head")
            .with_columns(block=pl.lit(block))
            for block, own in zip(self.read, every, strict=True)
        ]
        phase = pl.col("block").replace_strict(dict(phases), default=None, return_dtype=pl.String)
        return pl.concat(frames).with_columns(pl.col("top_position").cast(pl.Int64), phase=phase)


class _Maps:
    """The maps of chosen heads, a block at a time, and where each token looks in them."""

    def __init__(self) -> None:
        self.chosen = Heads()
        self.found = dict[tuple[int, int], bytes]()
        self.looks = list[pl.DataFrame]()

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        count = seen.statistics.column_mass.shape[1]
        if heads := [
            head for head in self.chosen.get(block, ()) if head < count
        ]:  # some families have fewer in a block
            maps = seen.maps(heads)[0]
            steps, looks = _quantized(maps, block).cpu().numpy(), looks_at(maps).cpu().numpy()
            for head, own, places in zip(heads, steps, looks, strict=True):
                self.found[block, head] = own.tobytes()
                frame = pl.DataFrame({"looks_at": places}).with_row_index("position")
                self.looks.append(frame.with_columns(block=pl.lit(block), head=pl.lit(head)))


def _quantized(attention: Float[Tensor, "*head query key"], block: int) -> Tensor:
    if not attention.isfinite().all():
        raise ModelError(
            f"the attention of block {block} is not finite. In float16, run again with --dtype bfloat16 or float32; "
            "else a weight is NaN or infinite, and `thalweg verify` names it."
        )
    return (attention.clamp(0, 1).sqrt() * STEPS).round().to(torch.uint8)

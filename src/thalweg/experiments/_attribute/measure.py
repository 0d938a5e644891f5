"""Attribution: which part of which block writes the row of each segment, and which erases it (the paper, Fig. 19).

A first pass of a batch finds the rows, a second one sees what is added to them. Of every prompt vectors of the model's
width are held, never whole states.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache, cached_property, partial

import polars as pl
from torch import Tensor

from thalweg import metrics
from thalweg.capture import SUMMANDS, Subject, Summand, brought
from thalweg.errors import RunError
from thalweg.experiments._attribute.tables import TABLES
from thalweg.experiments._attribute.writers import THRESHOLD, Writers, attribution_profile, writers
from thalweg.experiments._over_prompts import loaded, measure_prompts, unfinished
from thalweg.experiments._pass import RowNorms, SinkRows, StateSeen, read
from thalweg.experiments._planned import Plan, planned
from thalweg.experiments._prepare import Prepared
from thalweg.prompts import Prompt
from thalweg.shapes import Float, Int
from thalweg.store import Findings, FindingsWriter

NAME = "attribution"
RANKS = 4

Frames = dict[str, pl.DataFrame]
"""By table: states, contributions, dimensions."""


def attributed(
    prepared: Prepared, subject: Callable[[], Subject] | None = None, segment: str | int | None = None
) -> Findings:
    """Measure what is missing, and average.

    Args:
        prepared: one model, its data and where the run is.
        subject: gives the model, loaded and proved; asked for once something is missing.
        segment: the only one that is asked about, or a state inside it.

    Raises:
        UsageError: several models, or no such segment.
    """
    prepared = prepared.of_one_model("attribute")
    model = cache(subject or (lambda: loaded(prepared.model, "additive parts")))
    settings = {"threshold": THRESHOLD, "dimensions": RANKS, **prepared.by_hand}
    settings |= {} if segment is None else {"segment": str(segment)}
    with prepared.opened(NAME, settings, TABLES) as writer:
        for part in prepared.of_each_source():
            if unfinished(part, writer):
                plan = planned(part, writer, model).narrowed(segment, part.sources[0].name)
                measure = partial(segment_frames, model(), plan, ranks=RANKS)
                measure_prompts(part, writer, model(), measure, _tables, title="attribution")
        _write_averages(writer)
        writer.update(status="finished")
    return writer.reading()


def writing_blocks_of(attribution: Findings, model: str, revision: str, data: str) -> dict[str, Writers]:
    """The blocks whose MLPs write the row of each segment of one model on one data set: ``--blocks auto``.

    Args:
        attribution: what :func:`attribute` returned, or a run's ``experiments("attribution")[-1]``.
        model: its name in the run.
        revision: its revision.
        data: the data set's name in the run.

    Returns:
        By the segment's name, in order of depth; of "none" where no state is massive.

    Raises:
        RunError: the experiment has no averages of this model and data.
    """
    rows = attribution.table("writers").filter(model=model, revision=revision, data=data).collect()
    if not rows.height:
        raise RunError(f"{attribution.directory} has no attribution of {model} on {data}: run `thalweg attribute`.")
    return {
        row["segment"]: Writers(tuple(row["writing_blocks"]), row["writing_share"], row["reason"])
        for row in rows.iter_rows(named=True)
    }


def segment_frames(subject: Subject, plan: Plan, batch: Sequence[Prompt], *, ranks: int) -> list[Frames]:
    """Attribute the row of every segment to its parts, prompt by prompt.

    Raises:
        ModelError: a token has no row in the model's embedding.
        OverflowInFloat16: a float16 state holds an Inf.
        ProofError: a block leaves something else than its input plus attention plus MLP.
    """
    positions = plan.positions(subject, batch)
    written = _WrittenRows(batch, positions)
    read(subject, batch, written, positions=positions)
    return [
        {
            name: frame.with_columns(prompt=pl.lit(prompt.row), segment=pl.lit(target.name))
            for name, frame in written.frames(number, place, target.reference_state, ranks).items()
        }
        for number, prompt in enumerate(batch)
        for place, target in enumerate(plan.targets)
    ]


class _WrittenRows(SinkRows):
    """Chosen rows of every state and what is added to them; of the other rows, and between the two, norms alone."""

    def __init__(self, batch: Sequence[Prompt], positions: Int[Tensor, "batch chosen"]) -> None:
        super().__init__(batch, positions)
        self.written = dict[tuple[int, Summand], Tensor]()
        self.between, self.blocks = RowNorms(self.lengths), list[int]()

    def middle(self, block: int, seen: StateSeen, /) -> None:
        self.between.see(seen.padded)
        self.blocks.append(block)

    def contribution(self, block: int, part: Summand, rows: Tensor, /) -> None:
        self.written[block, part] = rows

    @cached_property
    def parts(self) -> list[tuple[int, Summand]]:
        """In the order of metrics."""
        return [(block, part) for block in range(len(self.kept) - 1) for part in SUMMANDS]

    @cached_property
    def added(self) -> Float[Tensor, "block 2 batch chosen width"]:
        """What they add, on the processor."""
        return brought([self.written[part] for part in self.parts]).double().unflatten(0, (-1, 2))

    def frames(self, number: int, place: int, reference_state: int, ranks: int) -> Frames:
        """One row of one prompt."""
        rows, stand_out = self.of(number, place)
        added = self.added[:, :, number, place]
        written = metrics.attribution(added, rows=rows, reference_state=reference_state, ranks=ranks)
        names = pl.DataFrame(
            [(None, "embedding"), *self.parts], schema={"block": pl.Int64, "part": pl.String}, orient="row"
        )
        before = pl.col("block").fill_null(-1) < reference_state
        return {
            "states": _states(written, stand_out).with_columns(
                *self._after_attention(number, place), position=_place(self.positions[number, place])
            ),
            "contributions": _contributions(written, names.with_columns(before=before)),
            "dimensions": _dimensions(written, names),
        }

    def _after_attention(self, number: int, place: int) -> list[pl.Series]:
        """Norms between attention and MLP of the block that reads each state, NaN where nothing lies there."""
        found = dict[int, metrics.SinkRow]()
        if self.blocks:
            found = dict(zip(self.blocks, self.standing_out(self.between, number, place), strict=True))
        return [
            pl.Series(
                f"{name}_after_attention",
                [getattr(found.get(state), name, math.nan) for state in range(len(self.kept))],
            )
            for name in ("sink_norm", "rest_norm")
        ]


def _place(position: Tensor) -> pl.Expr:
    return pl.lit(int(position) if position >= 0 else None, pl.Int64)


def _states(written: metrics.Attribution, stand_out: Sequence[metrics.SinkRow]) -> pl.DataFrame:
    rows = pl.DataFrame([asdict(state) for state in stand_out], infer_schema_length=None)
    return rows.with_columns(
        pl.Series("state", range(len(stand_out))),
        pl.Series("along", written.state_along.numpy()),
        pl.Series("sum_error", written.sum_error.numpy()),
    )


def _contributions(written: metrics.Attribution, names: pl.DataFrame) -> pl.DataFrame:
    columns = ("norm", "along", "share", "cosine")
    return names.with_columns(
        *(pl.Series(name, getattr(written, name).numpy()) for name in columns),
        reason=pl.lit(written.reason, pl.String),
    )


def _dimensions(written: metrics.Attribution, names: pl.DataFrame) -> pl.DataFrame:
    """What is not finite has no largest dimension and no row."""
    ranks = written.dims.shape[1]
    rows = names[[part for part in range(names.height) for _ in range(ranks)]].with_columns(
        pl.Series("rank", list(range(ranks)) * names.height),
        pl.Series("dim", written.dims.flatten().numpy()),
        pl.Series("value", written.values.flatten().numpy()),
    )
    return rows.filter(pl.col("value").is_finite())


def _tables(_: Sequence[Prompt], results: list[list[Frames]], key: dict[str, str]) -> Frames:
    frames = [prompt for batch in results for prompt in batch]
    if not frames:
        return {name: pl.DataFrame(schema=TABLES[name].schema) for name in TABLES.parts}
    literals = {column: pl.lit(value) for column, value in key.items()}
    rows = {name: pl.concat([prompt[name] for prompt in frames], how="vertical_relaxed") for name in TABLES.parts}
    return {name: table.with_columns(**literals) for name, table in rows.items()}


def _write_averages(writer: FindingsWriter) -> None:
    """Both tables of averages, over everything that is measured."""
    writer.update()
    tables, ratio = writer.reading().table, writer.run_header.thresholds.massive_ratio
    measured = tables("states"), tables("contributions")
    writing = writers(*measured, tables("segments"), massive_ratio=ratio)
    profile = attribution_profile(*measured, tables("dimensions"), tables("segments"), writing, massive_ratio=ratio)
    writer.write_table("attribution", profile)
    writer.write_table("writers", writing)

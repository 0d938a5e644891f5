"""Attribution: which part of which block writes the sink token's row (the paper, Fig. 19).

Of every prompt vectors of the model's width are held, never whole states.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

import polars as pl
import torch
from torch import Tensor

from thalweg import metrics
from thalweg.capture import Subject, Summand
from thalweg.errors import RunError
from thalweg.experiments._attribute.tables import TABLES
from thalweg.experiments._attribute.writers import THRESHOLD, Writers, attribution_profile, writers
from thalweg.experiments._over_prompts import loaded, measure_prompts, unfinished
from thalweg.experiments._pass import SinkRows, read
from thalweg.experiments._prepare import Prepared
from thalweg.prompts import Prompt
from thalweg.store import Findings, FindingsWriter

NAME = "attribution"
RANKS = 4

Frames = dict[str, pl.DataFrame]
"""By table: states, contributions, dimensions."""


def attributed(prepared: Prepared, subject: Callable[[], Subject] | None = None) -> Findings:
    """Measure what is missing, and average.

    Args:
        prepared: one model, its data and where the run is.
        subject: gives the model, loaded and proved; asked for once something is missing.

    Raises:
        UsageError: several models.
    """
    prepared = prepared.of_one_model("attribute")
    settings = {"threshold": THRESHOLD, "dimensions": RANKS}
    with prepared.opened(NAME, settings, TABLES) as writer:
        if unfinished(prepared, writer):
            model = loaded(prepared.model, "additive parts") if subject is None else subject()
            measure = partial(sink_frames, model, sink_position=prepared.options.sink_position, ranks=RANKS)
            measure_prompts(prepared, writer, model, measure, _tables, title="attribution")
        _write_averages(writer)
        writer.update(status="finished")
    return writer.reading()


def writing_blocks_of(attribution: Findings, model: str, revision: str, data: str) -> Writers:
    """The blocks whose MLPs write the massive row of one model on one data set: ``--blocks auto``.

    Args:
        attribution: what :func:`attribute` returned, or a run's ``experiments("attribution")[-1]``.
        model: its name in the run.
        revision: its revision.
        data: the data set's name in the run.

    Raises:
        RunError: the experiment has no averages of this model and data.
    """
    rows = attribution.table("writers").filter(model=model, revision=revision, data=data).collect()
    if not rows.height:
        raise RunError(f"{attribution.directory} has no attribution of {model} on {data}: run `thalweg attribute`.")
    row = rows.row(0, named=True)
    return Writers(tuple(row["writing_blocks"]), row["writing_share"], row["reason"])


def sink_frames(subject: Subject, batch: Sequence[Prompt], *, sink_position: int, ranks: int) -> list[Frames]:
    """Run one batch through the body of the model once and attribute each prompt's sink row to its parts.

    Raises:
        ModelError: a token has no row in the model's embedding.
        OverflowInFloat16: a float16 state holds an Inf.
        ProofError: a block leaves something else than its input plus attention plus MLP.
    """
    sink = _WrittenRows(sink_position)
    read(subject, batch, sink, positions=[sink_position])
    return [
        {name: frame.with_columns(prompt=pl.lit(prompt.row)) for name, frame in sink.frames(number, ranks).items()}
        for number, prompt in enumerate(batch)
    ]


class _WrittenRows(SinkRows):
    """The sink's row of every state and what is added to it; of the other rows norms alone."""

    def __init__(self, sink_position: int) -> None:
        super().__init__(sink_position)
        self.added = dict[tuple[int, str], Tensor]()

    def contribution(self, block: int, part: Summand, rows: Tensor, /) -> None:
        self.added[block, part] = rows[:, 0]

    def frames(self, number: int, ranks: int) -> Frames:
        """One prompt's rows."""
        parts = [(block, part) for block in range(len(self.rows) - 1) for part in ("attention", "mlp")]
        added = torch.stack([self.added[part][number] for part in parts]).unflatten(0, (-1, 2))
        rows, stand_out = self.of(number)
        ratios = torch.tensor([state.norm_ratio for state in stand_out], dtype=torch.float64)
        written = metrics.attribution(added, rows=rows, norm_ratio=ratios, ranks=ranks)
        names = pl.DataFrame([(None, "embedding"), *parts], schema={"block": pl.Int64, "part": pl.String}, orient="row")
        return {
            "states": _states(written, stand_out),
            "contributions": _contributions(written, names),
            "dimensions": _dimensions(written, names),
        }


def _states(written: metrics.Attribution, stand_out: Sequence[metrics.SinkRow]) -> pl.DataFrame:
    rows = pl.DataFrame([asdict(state) for state in stand_out], infer_schema_length=None)
    return rows.with_columns(
        pl.Series("state", range(len(stand_out))),
        pl.Series("along", written.state_along.numpy()),
        pl.Series("sum_error", written.sum_error.numpy()),
    )


def _contributions(written: metrics.Attribution, names: pl.DataFrame) -> pl.DataFrame:
    columns = ("norm", "along", "share", "cosine", "before")
    return names.with_columns(
        *(pl.Series(name, getattr(written, name).numpy()) for name in columns),
        reference_state=pl.lit(written.reference_state, pl.Int64),
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
    thresholds, tables = writer.run_header.thresholds, writer.reading().table
    states, contributions, ratio = tables("states"), tables("contributions"), thresholds.massive_ratio
    writing = writers(states, contributions, massive_ratio=ratio, sink_position=thresholds.sink_position)
    profile = attribution_profile(states, contributions, tables("dimensions"), writing, massive_ratio=ratio)
    writer.write_table("attribution", profile)
    writer.write_table("writers", writing)

"""Attribution: which part of which block writes the sink token's row (the paper, Fig. 19)."""

from collections.abc import Callable, Sequence
from functools import partial

import polars as pl

from thalweg.capture import Subject
from thalweg.errors import RunError
from thalweg.experiments._attribute.rows import sink_frames, sink_row_tables
from thalweg.experiments._attribute.tables import TABLES
from thalweg.experiments._attribute.writers import Writers, attribution_profile, writers
from thalweg.experiments._over_prompts import loaded, measure_prompts, unfinished
from thalweg.experiments._prepare import Prepared
from thalweg.prompts import Prompt
from thalweg.store import Findings, FindingsWriter

NAME = "attribution"
THRESHOLD, RANKS = 0.9, 4


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


def _tables(
    _: Sequence[Prompt], results: list[list[dict[str, pl.DataFrame]]], key: dict[str, str]
) -> dict[str, pl.DataFrame]:
    return sink_row_tables([prompt for batch in results for prompt in batch], key)


def _write_averages(writer: FindingsWriter) -> None:
    """Both tables of averages, over everything that is measured."""
    writer.update()
    thresholds, tables = writer.run_header.thresholds, writer.reading().table
    writing = writers(
        tables("states"),
        tables("contributions"),
        massive_ratio=thresholds.massive_ratio,
        sink_position=thresholds.sink_position,
        threshold=THRESHOLD,
    )
    averages = attribution_profile(
        tables("states"),
        tables("contributions"),
        tables("dimensions"),
        writing,
        massive_ratio=thresholds.massive_ratio,
    )
    writer.write_table("attribution", averages)
    writer.write_table("writers", writing)

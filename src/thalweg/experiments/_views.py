"""What views share: what a run holds of an experiment, what to call it, and what stands in several of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg.experiments._pairs import Pair, labels, pairs
from thalweg.shown import Span, span_of
from thalweg.store import Findings, Run, slug


@dataclass(frozen=True)
class MeasuredPair:
    """What an experiment found by one of its settings, of one model on one data set.

    Attributes:
        pair: the model and the data set.
        findings: of these settings.
        name: of model and data set, as ``gpt2 on gsm8k``.
        stem: of its figure's file; the latest settings have the plain one.
        latest: whether no later settings found anything of the same.
    """

    pair: Pair
    findings: Findings
    name: str
    stem: str
    latest: bool

    @property
    def key(self) -> str:
        """Of the settings."""
        return self.findings.header.key

    def table(self, name: str) -> pl.DataFrame:
        """The rows of one table on this model and data set."""
        return self.findings.table(name).filter(self.pair.rows).collect()


def measured_pairs(run: Run, experiment: str, table: str, *given: pl.Expr) -> Iterator[MeasuredPair]:
    """Give what a run holds of an experiment: models and data sets in the header's order, the latest settings first.

    Args:
        run: the run.
        experiment: its name.
        table: which has rows where there is something to show.
        *given: conditions on those rows.
    """
    names, every = labels(run.header), run.experiments(experiment)
    for pair in pairs(run):
        some = [
            findings for findings in every if findings.table(table).filter(pair.rows, *given).head(1).collect().height
        ]
        for findings in reversed(some):
            latest = findings is some[-1]
            stem = figure_stem(run, pair, experiment, "" if latest else findings.header.key)
            yield MeasuredPair(pair, findings, f"{names[pair.model, pair.revision]} on {pair.data}", stem, latest)


def figure_stem(run: Run, pair: Pair, what: str, key: str = "") -> str:
    """Name a figure's file: the data set where the run has several, the key of all but the latest settings."""
    data = f"_{slug(pair.data)}" if len(run.header.data) > 1 else ""
    return f"{what}_{slug(pair.model, pair.revision)}{data}{f'_{key}' if key else ''}"


def settings_words(findings: Findings) -> str:
    """Write what was asked: ``blocks: auto, seeds: 3``."""
    return ", ".join(f"{name.replace('_', ' ')}: {_words(value)}" for name, value in findings.header.settings.items())


def compress_spans(first: int | None, last: int | None) -> tuple[Span, ...]:
    """Shade the compress phase, where there is one."""
    return () if first is None or last is None else (Span("compress phase", first, last),)


def means_over(first: int | None, last: int | None) -> str:
    """Say what the averages are over: the compress phase, or all of the depth where there is none."""
    if first is None or last is None:
        return "means over all blocks and the states after them (no compress phase)"
    return f"means over the compress phase, {span_of(first, last)}"


def head_grid(rows: pl.DataFrame, value: str, blocks: int) -> np.ndarray:
    """Give a value of every head as a map, heads up and blocks along; what has none is NaN."""
    heads = max(rows["head"].to_list(), default=0) + 1
    grid = np.full((heads, max(blocks, 1)), np.nan)
    grid[rows["head"].to_numpy(), rows["block"].to_numpy()] = rows[value].to_numpy()
    return grid


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(f"{item:.4g}" if isinstance(item, float) else str(item) for item in value)
    return str(value)

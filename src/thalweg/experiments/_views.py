"""What views share: what a run holds of an experiment, what to call it, and what stands in several of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg.experiments._pairs import Pair, file_name, labels, pairs
from thalweg.shown import Span, interval, span_of
from thalweg.store import Findings, Run

SHADED = "Shaded: the compress phase, where the run has a survey of the model."


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


def held(every: Sequence[Findings], table: str, *rows: pl.Expr) -> list[Findings]:
    """Give the findings that have something to show.

    Args:
        every: of one experiment.
        table: what has to be written of them.
        *rows: conditions on the rows of which there has to be one.
    """
    return [findings for findings in every if findings.table(table).filter(*rows).head(1).collect().height]


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
        some = held(every, table, pair.rows, *given)
        for findings in reversed(some):
            latest = findings is some[-1]
            stem = figure_stem(run, pair, experiment, "" if latest else findings.header.key)
            yield MeasuredPair(pair, findings, f"{names[pair.model, pair.revision]} on {pair.data}", stem, latest)


def figure_stem(run: Run, pair: Pair, what: str, key: str = "") -> str:
    """Name a figure's file: the data set where the run has several, the key of all but the latest settings."""
    return f"{what}_{file_name(run, pair)}{f'_{key}' if key else ''}"


def settings_words(findings: Findings) -> str:
    """Write what was asked: ``blocks: auto, seeds: 3``."""
    return ", ".join(f"{name.replace('_', ' ')}: {_words(value)}" for name, value in findings.header.settings.items())


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


def model_of(findings: Findings) -> tuple[str, str]:
    """Give name and revision of the one model that the settings name."""
    settings = findings.header.settings
    return str(settings["model"]), str(settings["revision"])


def stems(names: Mapping[str, str]) -> dict[str, str]:
    """Name the figures' files, without an ending: of several of one name the latest has it as it is.

    Args:
        names: what each figure would be called, by the key of its findings, the latest last.
    """
    latest = {name: key for key, name in names.items()}
    return {key: name if latest[name] == key else f"{name}_{key}" for key, name in names.items()}


def shaded(span: tuple[int | None, int | None] | None) -> tuple[Span, ...]:
    """Give the compress phase as a panel shades it: first and last state, nothing where there is none."""
    return () if span is None or span[0] is None or span[1] is None else (Span("compress phase", span[0], span[1]),)


def phase_of(state: int, span: tuple[int, int]) -> str:
    """Say where a state lies: ``inside the compress phase (states 2 to 6)``."""
    where = "before" if state < span[0] else "after" if state > span[1] else "inside"
    return f"{where} the compress phase (states {span[0]} to {span[1]})"


def depth(state: int, last: int) -> str:
    """Write how deep a state lies, as a share of the last one: ``38%``."""
    return f"{state / max(last, 1):.0%}"


def measured(value: float, low: float | None, high: float | None) -> str:
    """Write a value, with its interval where it has one: ``0.500 [0.461, 0.539]``."""
    return f"{value:.3f} {interval(low, high)}".rstrip()


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(f"{item:.4g}" if isinstance(item, float) else str(item) for item in value)
    return str(value)

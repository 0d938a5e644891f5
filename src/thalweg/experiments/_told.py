"""What several views tell: whose numbers these are, what is as sure as it looks, where in the depth it lies."""

from collections.abc import Mapping

import polars as pl

from thalweg.shown import Span, interval
from thalweg.store import Findings, Run

SHADED = "Shaded: the compress phase, where the run has a survey of the model."


def held(run: Run, experiment: str, table: str, rows: pl.Expr | None = None) -> list[Findings]:
    """Give what a run holds of an experiment, the latest last.

    Args:
        run: the run.
        experiment: its name.
        table: what has to be written of it.
        rows: of which rows there has to be one; any by default.
    """
    wanted = pl.lit(True) if rows is None else rows
    every = run.experiments(experiment)
    return [findings for findings in every if findings.table(table).filter(wanted).head(1).collect().height]


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


def shaded(span: tuple[int, int] | None) -> tuple[Span, ...]:
    """Give the compress phase as a panel shades it."""
    return () if span is None else (Span("compress phase", *span),)


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

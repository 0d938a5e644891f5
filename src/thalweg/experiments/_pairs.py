"""What a run can be drawn for: its models on its data sets, and what to call them."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import polars as pl

from thalweg.store import ModelFacts, Run, RunHeader, slug


@dataclass(frozen=True)
class Pair:
    """One model on one data set.

    Attributes:
        model: the model's name.
        revision: its revision.
        data: the data set's name.
        blocks: the model's number of blocks, L.
    """

    model: str
    revision: str
    data: str
    blocks: int

    @property
    def rows(self) -> pl.Expr:
        """The condition that picks this pair's rows out of any table."""
        return (pl.col("model") == self.model) & (pl.col("revision") == self.revision) & (pl.col("data") == self.data)


def pairs(run: Run, data: str | None = None) -> list[Pair]:
    """Give every model on every data set, or on the one named, in the header's order."""
    names = [facts.name for facts in run.header.data if data in (None, facts.name)]
    return [Pair(model.name, model.revision, name, model.blocks) for name in names for model in run.header.models]


def latest_pairs(run: Run, data: str | None = None) -> list[Pair]:
    """Give the same, of each model's checkpoints the last one of the training alone."""
    orders = dict[tuple[str, str, str], int]()
    for experiment in run.experiments("checkpoints"):
        curves = experiment.table("curves").select("model", "revision", "data", "order").unique().collect()
        orders |= {(model, revision, name): order for model, revision, name, order in curves.iter_rows()}
    last = dict[tuple[str, str], Pair]()
    for pair in pairs(run, data):
        place = pair.model, pair.data
        if place not in last or _order(orders, pair) >= _order(orders, last[place]):
            last[place] = pair
    return list(last.values())


def _order(orders: dict[tuple[str, str, str], int], pair: Pair) -> int:
    """Its place in the training; what was never measured comes before all."""
    return orders.get((pair.model, pair.revision, pair.data), -1)


def labels(header: RunHeader) -> dict[tuple[str, str], str]:
    """Give each model the shortest name that still tells it from the others.

    Args:
        header: the run's header.

    Returns:
        By (model, revision): the last piece of the name, or all of it, with the revision where that is needed; a model
        whose massive activation was planted is never shown without saying so.
    """
    for naming in (_last_piece, _name, _name_and_revision):
        names = {(model.name, model.revision): naming(model) for model in header.models}
        if max(Counter(names.values()).values()) == 1:
            return names
    return {(model.name, model.revision): _name_and_revision(model) for model in header.models}


def label_of(run: Run, pair: Pair) -> str:
    """Give the short name of the pair's model."""
    return labels(run.header)[pair.model, pair.revision]


def heading(run: Run, pair: Pair) -> str:
    """Give what stands above what is shown of a pair: ``gpt2 on gsm8k``."""
    return f"{label_of(run, pair)} on {pair.data}"


def ending(run: Run, data: str) -> str:
    """Give the end of the name of a figure of one data set; nothing where the run has no other."""
    return f"_{slug(data)}" if len(run.header.data) > 1 else ""


def file_name(run: Run, pair: Pair) -> str:
    """Give what the names of a pair's figures have in common."""
    return f"{slug(pair.model, pair.revision)}{ending(run, pair.data)}"


def phases_row(run: Run, pair: Pair) -> dict[str, Any] | None:
    """Give the pair's row of ``phases``, None where it has not been written."""
    if "phases" in run.missing:
        return None
    rows = run.phases.filter(pair.rows).collect()
    return rows.row(0, named=True) if rows.height else None


def compress_span(run: Run, pair: Pair) -> tuple[int, int] | None:
    """Give the first and last state of the compress phase, None where there is none or it is not known."""
    row = phases_row(run, pair)
    if row is None or None in (row["compress_first"], row["compress_last"]):
        return None
    return row["compress_first"], row["compress_last"]


def surveyed_span(run: Run, model: str, revision: str) -> tuple[int, int] | None:
    """Give the compress phase of a model whatever it was surveyed on, for what is measured on data of its own.

    Args:
        run: that may hold a survey of the model.
        model: its name.
        revision: its revision.

    Returns:
        First and last state on the first of the run's data sets that has them, None where none has.
    """
    of_model = (pair for pair in pairs(run) if (pair.model, pair.revision) == (model, revision))
    return next((span for pair in of_model if (span := compress_span(run, pair)) is not None), None)


def _last_piece(model: ModelFacts) -> str:
    return _marked(model, model.name.rstrip("/").rsplit("/", 1)[-1] or model.name)


def _name(model: ModelFacts) -> str:
    return _marked(model, model.name)


def _name_and_revision(model: ModelFacts) -> str:
    return _marked(model, f"{model.name}@{model.revision}")


def _marked(model: ModelFacts, name: str) -> str:
    return name if model.planted is None or "planted" in name else f"{name} (planted)"

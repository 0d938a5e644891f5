"""What a run can be drawn for: its models on its data sets, and what to call them."""

from collections import Counter
from dataclasses import dataclass

import polars as pl

from thalweg.store import ModelFacts, Run, RunHeader


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
        found = {(model.name, model.revision): naming(model) for model in header.models}
        if max(Counter(found.values()).values()) == 1:
            return found
    return {(model.name, model.revision): _name_and_revision(model) for model in header.models}


def compress_span(run: Run, pair: Pair) -> tuple[int, int] | None:
    """Give the first and last state of the compress phase, None where there is none or it is not known."""
    if "phases" in run.missing:
        return None
    row = run.phases.filter(pair.rows).select("compress_first", "compress_last").collect()
    if not row.height or None in row.row(0):
        return None
    first, last = row.row(0)
    return first, last


def surveyed_span(run: Run, model: str, revision: str) -> tuple[int, int] | None:
    """Give the compress phase of a model whatever it was surveyed on, for what is measured on data of its own.

    Args:
        run: that may hold a survey of the model.
        model: its name.
        revision: its revision.

    Returns:
        First and last state on the first of the run's data sets that has them, None where none has.
    """
    own = (pair for pair in pairs(run) if (pair.model, pair.revision) == (model, revision))
    return next((span for pair in own if (span := compress_span(run, pair)) is not None), None)


def _last_piece(model: ModelFacts) -> str:
    return _marked(model, model.name.rstrip("/").rsplit("/", 1)[-1] or model.name)


def _name(model: ModelFacts) -> str:
    return _marked(model, model.name)


def _name_and_revision(model: ModelFacts) -> str:
    return _marked(model, f"{model.name}@{model.revision}")


def _marked(model: ModelFacts, name: str) -> str:
    return name if model.planted is None or "planted" in name else f"{name} (planted)"

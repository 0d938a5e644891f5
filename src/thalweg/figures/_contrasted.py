"""Preparation: what differs between the top and the bottom prompts, as maps of heads, as a table and in words."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg.figures._labels import title
from thalweg.figures._pairs import Pair
from thalweg.figures._sink_map import sink_grid
from thalweg.store import Findings, Run

CONTRAST_COLUMNS = ("block", "head", "top", "bottom", "difference", "low", "high", "q", "mixing", "mixing q")
LISTED = 20


@dataclass(frozen=True)
class ContrastMap:
    """One map of the heads.

    Attributes:
        metric: what it shows.
        of_change: the top prompts' mean minus the bottom prompts'; else the mean of the top prompts.
        grid: heads down and blocks across; what has no value is NaN.
        changes: which heads change in this metric, in the same places; none where ``of_change`` is false.
    """

    metric: str
    of_change: bool
    grid: np.ndarray
    changes: np.ndarray

    @property
    def title(self) -> str:
        """What stands above it."""
        return f"{title(self.metric)}: {'top minus bottom prompts' if self.of_change else 'top prompts'}"


def contrast_of(run: Run, pair: Pair) -> tuple[Findings, dict[str, Any]] | None:
    """Give the latest contrast in which prompts of a model and data set were compared, and its row of ``rankings``."""
    for experiment in reversed(run.experiments("contrast")):
        rows = experiment.table("rankings").filter(pair.rows & (pl.col("prompts") > 0)).collect()
        if rows.height:
            return experiment, rows.row(0, named=True)
    return None


def contrast_maps(experiment: Findings, pair: Pair, by: str) -> list[ContrastMap]:
    """Give the maps of the paper's Figs. 5, 26 and 27.

    Args:
        experiment: a contrast.
        pair: the model and the data set.
        by: what prompts are ranked by.

    Returns:
        That metric for the top prompts, then the differences of it, of the sink score and of mixing, each over one
        ranking for all heads; and which heads change by their own.
    """
    rows = experiment.table("heads").filter(pair.rows).collect()
    metrics = [by, *(metric for metric in ("sink_score", "mixing") if metric != by)]
    maps = list[ContrastMap]()
    for metric, column in ((by, "overall_top"), *((metric, "overall_difference") for metric in metrics)):
        own = rows.filter(metric=metric)
        grid = _grid(own, pl.col(column), pair.blocks)
        changes = _grid(own, pl.col("changes").cast(pl.Float64), pair.blocks) == 1
        maps.append(ContrastMap(metric, column != "overall_top", grid, changes & (column != "overall_top")))
    return maps


def contrast_table(experiment: Findings) -> list[tuple[str, list[list[Any]]]]:
    """Give the heads that change most, a table for each model and data set in which prompts were compared.

    Args:
        experiment: a contrast.

    Returns:
        Title and rows, at most twenty; columns as in ``CONTRAST_COLUMNS``, without the last two where mixing is what
        prompts are ranked by.
    """
    return [
        (_title(row), list(map(list, changed_heads(experiment, row).head(LISTED).rows())))
        for row in experiment.table("rankings").collect().iter_rows(named=True)
        if row["prompts"]
    ]


def contrast_answers(experiment: Findings) -> list[str]:
    """Say in a sentence whether heads change, one for each model and data set."""
    rows = experiment.table("rankings").collect()
    several = rows.height > 1
    return [
        (f"{row['model']} on {row['data']}: " if several else "") + contrast_answer(experiment, row)
        for row in rows.iter_rows(named=True)
    ]


def contrast_answer(experiment: Findings, row: dict[str, Any]) -> str:
    """Say it for one row of ``rankings``."""
    if not row["prompts"]:
        return f"nothing is compared: {row['reason']}"
    rows = _own(experiment.table("heads").collect(), row)
    changed = rows.filter(metric=row["by"]).filter("changes")
    name = title(row["by"]).lower()
    ends = "the top prompt to the bottom one" if row["per_side"] == 1 else "the top prompts to the bottom ones"
    heads = f"of {row['heads']:,} heads"
    many = f"{changed.height:,} {heads} change their {name}"
    said = f"{many if changed.height else f'none {heads} is seen to change its {name}'} from {ends}"
    if changed.height:
        most = changed.sort(pl.col("difference").abs(), descending=True).row(0, named=True)
        place = f"head {most['head']} of block {most['block']}"
        said += f", {place} most ({most['top']:.3g} against {most['bottom']:.3g})"
    if row["by"] != "mixing":
        mixing = rows.filter(metric="mixing")["changes"].sum()
        said += f"; {mixing:,} change their mixing" if mixing else "; none is seen to change its mixing"
    said += f" (false-discovery rate {row['fdr']:.3g})"
    return f"{said}; {row['reason']}" if row["reason"] else said


def contrast_scope(row: dict[str, Any]) -> str:
    """Say which prompts are compared, for one row of ``rankings``."""
    of_length = "" if row["length"] is None else f" of {row['length']:,} tokens"
    said = f"{row['prompts']:,} prompts{of_length} compared, {row['per_side'] or 0:,} a side"
    skipped = [
        f"{row[column]:,} {words} skipped"
        for column, words in (("other_length", "of other lengths"), ("undefined", "with undefined scores"))
        if row[column]
    ]
    return "; ".join([said, *skipped])


def contrast_prompts(experiment: Findings, row: dict[str, Any]) -> pl.DataFrame:
    """Give both ends of the ranking by all heads: ``side rank prompt tokens score``."""
    rows = _own(experiment.table("prompts").collect(), row)
    return rows.select("side", "rank", "prompt", "tokens", "score")


def changed_heads(experiment: Findings, row: dict[str, Any]) -> pl.DataFrame:
    """Give the heads that change in what prompts are ranked by, most first; columns as in ``CONTRAST_COLUMNS``."""
    own = _own(experiment.table("heads").collect(), row)
    changed = own.filter(metric=row["by"]).filter("changes")
    table = changed.select("block", "head", "top", "bottom", "difference", "low", "high", "q")
    if row["by"] != "mixing":
        mixing = own.filter(metric="mixing").select("block", "head", difference_of_mixing="difference", q_of_mixing="q")
        table = table.join(mixing, on=["block", "head"], how="left", maintain_order="left")
    return table.sort(pl.col("difference").abs(), descending=True, maintain_order=True)


def _own(frame: pl.DataFrame, row: dict[str, Any]) -> pl.DataFrame:
    return frame.filter(model=row["model"], revision=row["revision"], data=row["data"])


def _title(row: dict[str, Any]) -> str:
    place = f"{row['model']} on {row['data']}: {contrast_scope(row)}"
    return f"{place}; heads whose {title(row['by']).lower()} changes most"


def _grid(rows: pl.DataFrame, value: pl.Expr, blocks: int) -> np.ndarray:
    return sink_grid(rows.select("block", "head", value.alias("sink_score")), blocks)
